/** A control plane of which a test, or a bench, plays the part: serves Envoy's resources as written, without TLS, on loopback. */
import { createHash } from "node:crypto";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import {
  create,
  fromJson,
  toBinary,
  type DescMessage,
  type JsonObject,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { SecretSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { DiscoveryServer } from "#shared/xds/discovery-server.ts";
import { ResourceStore, type ServedResource } from "#shared/xds/resource-store.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { anyTypes } from "#waypoint/xds/any-types.ts";

const schemas = {
  cluster: ClusterSchema,
  endpoints: ClusterLoadAssignmentSchema,
  listener: ListenerSchema,
  secret: SecretSchema,
  address: AddressSchema,
} as const satisfies Record<string, DescMessage>;

export type ResourceType = keyof typeof schemas;

export class TestControlPlane implements AsyncDisposable {
  /** For `XDS_ADDRESS`. */
  readonly address: string;
  readonly port: number;
  readonly #server: Server;
  readonly #discovery: DiscoveryServer;
  readonly #stores: Readonly<Record<ResourceType, ResourceStore>>;
  readonly #resources: Readonly<Record<ResourceType, Map<string, ServedResource>>>;

  private constructor(
    server: Server,
    port: number,
    discovery: DiscoveryServer,
    stores: Readonly<Record<ResourceType, ResourceStore>>,
  ) {
    this.#server = server;
    this.address = `http://127.0.0.1:${port}`;
    this.port = port;
    this.#discovery = discovery;
    this.#stores = stores;
    this.#resources = {
      cluster: new Map(),
      endpoints: new Map(),
      listener: new Map(),
      secret: new Map(),
      address: new Map(),
    };
  }

  static async start(): Promise<TestControlPlane> {
    const server = new Server();
    const stores = {
      cluster: new ResourceStore(typeUrls.cluster),
      endpoints: new ResourceStore(typeUrls.endpoints),
      listener: new ResourceStore(typeUrls.listener),
      secret: new ResourceStore(typeUrls.secret),
      address: new ResourceStore(typeUrls.address),
    };
    const discovery = new DiscoveryServer({
      sources: Object.values(stores),
      isSynced: () => true,
      clock: systemClock,
      log: silentLogger,
    });
    discovery.addTo(server, () => Promise.resolve({ checked: false }));
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
    });
    return new TestControlPlane(server, bound, discovery, stores);
  }

  /** A resource in Envoy's JSON; its name is that of the field. */
  put(type: Exclude<ResourceType, "address">, json: JsonObject): void {
    const schema = schemas[type];
    const name = json[type === "endpoints" ? "cluster_name" : "name"];
    if (typeof name !== "string") throw new TypeError("the resource has no name");
    this.#put(type, name, toBinary(schema, fromJson(schema, json, { registry: anyTypes })));
  }

  putAddress(name: string, address: MessageInitShape<typeof AddressSchema>): void {
    this.#put("address", name, toBinary(AddressSchema, create(AddressSchema, address)));
  }

  remove(type: ResourceType, name: string): void {
    this.#resources[type].delete(name);
    this.#publish(type);
  }

  /** Why the client refused the last response of a type; undefined where it did not. */
  refusal(type: ResourceType): string | undefined {
    const [client] = this.#discovery.clients();
    return client?.types.find(({ typeUrl }) => typeUrl === typeUrls[type])?.lastError?.message;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#discovery[Symbol.dispose]();
    this.#server.forceShutdown();
    await Promise.resolve();
  }

  #put(type: ResourceType, name: string, value: Uint8Array): void {
    const version = createHash("sha256").update(value).digest("hex").slice(0, 16);
    this.#resources[type].set(name, { name, version, aliases: [], value });
    this.#publish(type);
  }

  #publish(type: ResourceType): void {
    this.#stores[type].replace(new Map(this.#resources[type]), (a, b) => a.version === b.version);
  }
}
