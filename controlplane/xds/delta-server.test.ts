import { afterEach, describe, expect, test } from "@jest/globals";
import { Client, credentials, Metadata, status, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { ipToBytes, parseIp } from "#shared/net/ip.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryResponse,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { AuthorizationSchema, type Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema, type Address } from "#shared/proto/gen/workload/workload_pb.js";
import { DiscoveryServer, type Admit, type DiscoveryServerOptions } from "#shared/xds/discovery-server.ts";
import type { ServerEvent } from "#shared/xds/served-stream.ts";
import { deltaMethod, typeUrls } from "#shared/xds/type-urls.ts";
import { AddressSource } from "./address-source.ts";
import { AuthorizationSource } from "./authorization-source.ts";
import { listenPlain } from "./grpc-listener.ts";

interface Sent {
  readonly typeUrl?: string;
  readonly node?: { readonly id: string; readonly metadata?: JsonObject };
  readonly resourceNamesSubscribe?: string[];
  readonly resourceNamesUnsubscribe?: string[];
  readonly initialResourceVersions?: Record<string, string>;
  readonly responseNonce?: string;
  readonly errorDetail?: { readonly message: string };
}

const node = { id: "ztunnel~10.0.0.1~ztunnel-1.istio-system~istio-system.svc.cluster.local" };
const onNode = (nodeName: string) => ({ ...node, metadata: { NODE_NAME: nodeName } });
const namesOf = ({ resources }: DeltaDiscoveryResponse) => resources.map(({ name }) => name).toSorted();

/** A client of which the test writes every request and reads every response. */
class RawClient {
  readonly #stream: ClientDuplexStream<Sent, DeltaDiscoveryResponse>;
  readonly #arrived: DeltaDiscoveryResponse[] = [];
  readonly #waiting: ((response: DeltaDiscoveryResponse) => void)[] = [];
  readonly ended: Promise<{ code: status; details: string }>;

  constructor(client: Client, method: string) {
    this.#stream = client.makeBidiStreamRequest(
      method,
      (request: Sent) =>
        Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, request))),
      (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
      new Metadata(),
    );
    this.#stream.on("data", (response: DeltaDiscoveryResponse) => {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#arrived.push(response);
      else waiter(response);
    });
    this.ended = new Promise((resolve) => {
      this.#stream.on("status", ({ code, details }: { code: status; details: string }) => resolve({ code, details }));
      this.#stream.on("error", (_error: ServiceError) => {});
    });
  }

  send(request: Sent): void {
    this.#stream.write({ typeUrl: typeUrls.address, ...request });
  }

  next(): Promise<DeltaDiscoveryResponse> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return Promise.resolve(arrived);
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  async ask(request: Sent): Promise<DeltaDiscoveryResponse> {
    this.send(request);
    const response = await this.next();
    this.ack(response);
    return response;
  }

  ack({ typeUrl, nonce }: DeltaDiscoveryResponse): void {
    this.#stream.write({ typeUrl, responseNonce: nonce });
  }

  cancel(): void {
    this.#stream.cancel();
  }

  /** Nothing has been sent: a question whose answer is known comes back as the very next response. */
  async expectNothing(): Promise<void> {
    const marker = "marker/nobody";
    this.send({ resourceNamesSubscribe: [marker] });
    const response = await this.next();
    expect(response.removedResources).toEqual([marker]);
    expect(namesOf(response)).toEqual([]);
    this.ack(response);
  }
}

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

const nobody: Admit = () => Promise.resolve({ checked: false });

async function startServer(admit: Admit = nobody, options: Partial<DiscoveryServerOptions> = {}) {
  const [addresses, authorizations] = [new AddressSource(), new AuthorizationSource()];
  const server = new DiscoveryServer({
    sources: [addresses, authorizations],
    isSynced: () => true,
    clock: new FakeClock(),
    log: silentLogger,
    streamsPerSecond: Number.POSITIVE_INFINITY,
    ...options,
  });
  const listener = await listenPlain({
    address: { host: "127.0.0.1", port: 0 },
    addServices: (grpc) => server.addTo(grpc, admit),
    log: silentLogger,
    maxConnectionAgeMs: 3_600_000,
  });
  open.push(() => listener[Symbol.asyncDispose]());
  open.push(() => server[Symbol.dispose]());
  const connect = (method = deltaMethod): RawClient => {
    const client = new Client(`127.0.0.1:${listener.port}`, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_receive_message_length": -1,
    });
    open.push(() => client.close());
    return new RawClient(client, method);
  };
  const state = new Map<string, Address>();
  const put = (...all: readonly Address[]) => {
    for (const address of all) state.set(keyOf(address), address);
    addresses.stage(state.values())();
  };
  const remove = (name: string) => {
    state.delete(name);
    addresses.stage(state.values())();
  };
  const policies = (...all: readonly Authorization[]) => void authorizations.stage(all)();
  return { server, connect, put, remove, policies, addresses };
}

const keyOf = ({ type }: Address) =>
  type.case === "workload"
    ? type.value.uid
    : type.case === "service"
      ? `${type.value.namespace}/${type.value.hostname}`
      : "";

interface PodFacts {
  readonly ip: string;
  readonly node?: string;
  readonly services?: readonly string[];
  readonly account?: string;
}

const pod = (name: string, { ip, node: nodeName = "n1", services = [], account = "default" }: PodFacts): Address =>
  create(AddressSchema, {
    type: {
      case: "workload",
      value: {
        uid: `Kubernetes//Pod/default/${name}`,
        name,
        namespace: "default",
        addresses: [ipToBytes(parseIp(ip))],
        node: nodeName,
        serviceAccount: account,
        services: Object.fromEntries(services.map((service) => [service, {}])),
      },
    },
  });
const uid = (name: string) => `Kubernetes//Pod/default/${name}`;

const service = (name: string, vip: string): Address =>
  create(AddressSchema, {
    type: {
      case: "service",
      value: { name, namespace: "default", hostname: name, addresses: [{ address: ipToBytes(parseIp(vip)) }] },
    },
  });

const policy = (name: string, dryRun = false): Authorization =>
  create(AuthorizationSchema, { name, namespace: "default", dryRun });

const startOnDemand = { node, resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] };

/** A turn of the event loop, within a test whose time is bounded. */
const nextTurn = (): Promise<number> => new Promise((resolve) => void setTimeout(() => resolve(0), 5));

describe("Address for everybody", () => {
  test("an empty cluster is answered; then each change sends exactly itself", async () => {
    const { connect, put, remove } = await startServer();
    const client = connect();
    const first = await client.ask({ node });
    expect([namesOf(first), first.removedResources]).toEqual([[], []]);
    put(pod("a", { ip: "10.0.0.2" }));
    const created = await client.next();
    expect(namesOf(created)).toEqual([uid("a")]);
    expect(created.resources[0]?.aliases).toEqual([]);
    expect(created.resources[0]?.version).toMatch(/^[0-9a-f]{16}$/);
    expect(created.nonce.startsWith(created.systemVersionInfo)).toBe(true);
    put(pod("b", { ip: "10.0.0.3" }));
    expect(namesOf(await client.next())).toEqual([uid("b")]);
    put(pod("a", { ip: "10.0.0.4" }));
    expect(namesOf(await client.next())).toEqual([uid("a")]);
    put(pod("a", { ip: "10.0.0.4" })); // nothing new
    remove(uid("b"));
    const gone = await client.next();
    expect([namesOf(gone), gone.removedResources]).toEqual([[], [uid("b")]]);
  });

  test("a service change sends the service and its pods", async () => {
    const { connect, put } = await startServer();
    put(pod("a", { ip: "10.0.0.2" }), pod("other", { ip: "10.0.0.9" }));
    const client = connect();
    expect(namesOf(await client.ask({ node }))).toEqual([uid("a"), uid("other")]);
    put(service("svc", "10.96.0.1"), pod("a", { ip: "10.0.0.2", services: ["default/svc"] }));
    expect(namesOf(await client.next())).toEqual([uid("a"), "default/svc"].toSorted());
  });

  test("after a reconnect what is unchanged is left out, new is sent, gone is removed", async () => {
    const { connect, put, addresses } = await startServer();
    put(pod("same", { ip: "10.0.0.2" }), pod("changed", { ip: "10.0.0.3" }), pod("new", { ip: "10.0.0.4" }));
    const response = await connect().ask({
      node,
      initialResourceVersions: {
        [uid("same")]: addresses.get(uid("same"))?.version ?? "",
        [uid("changed")]: "old",
        [uid("gone")]: "1",
      },
    });
    expect(namesOf(response)).toEqual([uid("changed"), uid("new")]);
    expect(response.removedResources).toEqual([uid("gone")]);
  });

  test("after a reconnect to a large cluster, too, whose names alone are ten megabytes", async () => {
    const { connect, put } = await startServer();
    put(pod("a", { ip: "10.0.0.2" }));
    const held = Array.from({ length: 100_000 }, (_, at) => [uid(`${at}-${"x".repeat(50)}`), "0123456789abcdef"]);
    const answer = await connect().ask({ node, initialResourceVersions: Object.fromEntries(held) });
    expect(namesOf(answer)).toEqual([uid("a")]);
    expect(answer.removedResources).toHaveLength(100_000);
  });

  test("after a reconnect with nothing new an empty response still comes", async () => {
    const { connect, put, addresses } = await startServer();
    put(pod("a", { ip: "10.0.0.2" }));
    const claimed = { [uid("a")]: addresses.get(uid("a"))?.version ?? "" };
    const response = await connect().ask({ node, initialResourceVersions: claimed });
    expect([namesOf(response), response.removedResources]).toEqual([[], []]);
  });

  test("a named subscription on top of everything sends everything again", async () => {
    const { connect, put } = await startServer();
    put(pod("a", { ip: "10.0.0.2" }), pod("b", { ip: "10.0.0.3" }));
    const client = connect();
    await client.ask({ node });
    expect(namesOf(await client.ask({ resourceNamesSubscribe: [uid("a")] }))).toEqual([uid("a"), uid("b")]);
  });
});

describe("Address on demand", () => {
  test("starts empty; unrelated pods are not sent; an address brings its pod", async () => {
    const { connect, put } = await startServer();
    const client = connect();
    expect(namesOf(await client.ask(startOnDemand))).toEqual([]);
    put(pod("a", { ip: "10.0.0.2" }));
    await client.expectNothing();
    const found = await client.ask({ resourceNamesSubscribe: ["/10.0.0.2"] });
    expect(namesOf(found)).toEqual([uid("a")]);
    expect(found.resources[0]?.aliases).toEqual(["/10.0.0.2"]);
    put(pod("a", { ip: "10.0.0.2", account: "changed" }));
    expect(namesOf(await client.next())).toEqual([uid("a")]);
  });

  test("an unknown address is answered as removed, and sent when it appears", async () => {
    const { connect, put } = await startServer();
    const client = connect();
    await client.ask(startOnDemand);
    expect((await client.ask({ resourceNamesSubscribe: ["/10.0.0.7"] })).removedResources).toEqual(["/10.0.0.7"]);
    put(pod("late", { ip: "10.0.0.7" }));
    expect(namesOf(await client.next())).toEqual([uid("late")]);
  });

  test("pods of the client's node come unasked, and so do their removals", async () => {
    const { connect, put, remove } = await startServer();
    const client = connect();
    await client.ask({ ...startOnDemand, node: onNode("n1") });
    put(pod("near", { ip: "10.0.0.2", node: "n1" }), pod("far", { ip: "10.0.0.3", node: "n2" }));
    expect(namesOf(await client.next())).toEqual([uid("near")]);
    remove(uid("near"));
    expect((await client.next()).removedResources).toEqual([uid("near")]);
    await client.expectNothing();
  });

  test("a virtual address brings the service with all its pods, which are then followed; a new pod is not", async () => {
    const { connect, put } = await startServer();
    const inService = { services: ["default/svc"], node: "n2" };
    put(
      service("svc", "10.96.0.1"),
      pod("a", { ip: "10.0.0.2", ...inService }),
      pod("b", { ip: "10.0.0.3", ...inService }),
    );
    const client = connect();
    await client.ask(startOnDemand);
    const found = await client.ask({ resourceNamesSubscribe: ["/10.96.0.1"] });
    expect(namesOf(found)).toEqual([uid("a"), uid("b"), "default/svc"].toSorted());
    put(pod("a", { ip: "10.0.0.2", ...inService, account: "changed" }));
    expect(namesOf(await client.next())).toEqual([uid("a")]);
    put(pod("c", { ip: "10.0.0.4", ...inService }));
    await client.expectNothing();
  });

  test("a reconnect by alias brings the pod and the node's pods; with the right version nothing; a stale one the pod", async () => {
    const { connect, put, addresses } = await startServer();
    put(pod("a", { ip: "10.0.0.2", node: "n2" }), pod("near", { ip: "10.0.0.3", node: "n1" }));
    const start = { ...startOnDemand, node: onNode("n1") };
    expect(namesOf(await connect().ask({ ...start, initialResourceVersions: { "/10.0.0.2": "" } }))).toEqual(
      [uid("a"), uid("near")].toSorted(),
    );
    const current = {
      [uid("a")]: addresses.get(uid("a"))?.version ?? "",
      [uid("near")]: addresses.get(uid("near"))?.version ?? "",
    };
    expect(namesOf(await connect().ask({ ...start, initialResourceVersions: current }))).toEqual([]);
    const stale = { ...current, [uid("a")]: "stale" };
    expect(namesOf(await connect().ask({ ...start, initialResourceVersions: stale }))).toEqual([uid("a")]);
    const gone = { ...current, [uid("gone")]: "1" };
    expect((await connect().ask({ ...start, initialResourceVersions: gone })).removedResources).toEqual([uid("gone")]);
  });

  test("what is unsubscribed is not followed any more", async () => {
    const { connect, put } = await startServer();
    put(pod("a", { ip: "10.0.0.2" }));
    const client = connect();
    await client.ask(startOnDemand);
    await client.ask({ resourceNamesSubscribe: [uid("a")] });
    client.send({ resourceNamesUnsubscribe: [uid("a")] });
    await client.expectNothing();
    put(pod("a", { ip: "10.0.0.2", account: "changed" }));
    const next = client.next();
    put(pod("b", { ip: "10.0.0.3" }));
    client.send({ resourceNamesSubscribe: [uid("b")] });
    expect(namesOf(await next)).toEqual([uid("b")]);
  });
});

describe("Authorization", () => {
  test("each policy is sent when it changes, without version, and removed when it goes", async () => {
    const { connect, put, policies } = await startServer();
    policies(policy("one"));
    const client = connect();
    const first = await client.ask({ typeUrl: typeUrls.authorization, node });
    expect(first.resources.map(({ name, version }) => [name, version])).toEqual([["default/one", ""]]);
    policies(policy("one"), policy("two"));
    expect(namesOf(await client.next())).toEqual(["default/two"]);
    policies(policy("one", true), policy("two"));
    expect(namesOf(await client.next())).toEqual(["default/one"]);
    put(pod("a", { ip: "10.0.0.2" })); // nobody asked for addresses
    policies(policy("one", true));
    expect((await client.next()).removedResources).toEqual(["default/two"]);
  });

  test("a client that comes back gets every policy again, and what is gone as removed", async () => {
    const { connect, policies } = await startServer();
    policies(policy("one"));
    const response = await connect().ask({
      typeUrl: typeUrls.authorization,
      node,
      initialResourceVersions: { "default/one": "", "default/gone": "" },
    });
    expect([namesOf(response), response.removedResources]).toEqual([["default/one"], ["default/gone"]]);
  });
});

describe("the stream", () => {
  test("ACK, stale nonce and NACK are not answered; a NACK is kept for the dump until the next ACK", async () => {
    const refused = Promise.withResolvers<void>();
    const onEvent = ({ kind }: ServerEvent) => kind === "rejected" && refused.resolve();
    const { connect, put, server } = await startServer(nobody, { onEvent });
    const client = connect();
    client.send({ node });
    const first = await client.next();
    client.send({ responseNonce: "stale", resourceNamesSubscribe: ["/10.0.0.2"] });
    client.send({ responseNonce: first.nonce, errorDetail: { message: "bad: no type" } });
    await refused.promise;
    expect(server.clients()[0]?.types[0]?.state).toBe("REJECTED");
    put(pod("a", { ip: "10.0.0.2" }));
    const second = await client.next();
    expect(namesOf(second)).toEqual([uid("a")]);
    const [status] = server.clients();
    expect(status?.types[0]).toMatchObject({ state: "STALE", lastError: { message: "bad: no type" } });
    client.ack(second);
    // A question brings an answer only after the ACK was read.
    await client.ask({ resourceNamesSubscribe: ["*"] });
    expect(server.clients()[0]?.types[0]?.lastError).toBeUndefined();
  });

  test("a type that is not served is ignored", async () => {
    const { connect } = await startServer();
    const client = connect();
    client.send({ typeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster", node });
    expect((await client.ask({})).typeUrl).toBe(typeUrls.address);
  });

  // prettier-ignore
  test.each<readonly [Sent, status, string, string]>([ // first request, status, words, why
    [{}, status.INVALID_ARGUMENT, "no node", "no node at all"],
    [{ node: { id: "" } }, status.INVALID_ARGUMENT, "empty", "an empty id"],
    [{ node: { id: "ztunnel~10.0.0.1~a" } }, status.INVALID_ARGUMENT, "3 parts", "too few parts"],
    [{ node: { id: "envoy~10.0.0.1~a.b~b.svc" } }, status.INVALID_ARGUMENT, "the type is none of", "an unknown type"],
    [{ node: { id: "ztunnel~nowhere~a.b~b.svc" } }, status.INVALID_ARGUMENT, "no IP address", "no address"],
    [{ node: { id: `ztunnel~10.0.0.1~${"a".repeat(5_000)}~b` } }, status.INVALID_ARGUMENT, "longer than", "too long"],
  ])("a bad first request (case %#) ends the stream", async (request, code, words) => {
    const { connect, server } = await startServer();
    const client = connect();
    client.send(request);
    const ended = await client.ended;
    expect(ended.code).toBe(code);
    expect(ended.details).toContain(words);
    expect(server.clients()).toEqual([]);
  });

  const ztunnel = spiffeId({ trustDomain: "cluster.local", namespace: "istio-system", serviceAccount: "ztunnel" });
  // prettier-ignore
  test.each<[string, JsonObject, boolean, string]>([ // namespace, metadata, allowed, why
    ["istio-system", {},                                                        true,  "its own namespace"],
    ["istio-system", { SERVICE_ACCOUNT: "ztunnel" },                            true,  "its own account"],
    ["istio-system", { SERVICE_ACCOUNT: "admin" },                              false, "another account"],
    ["shop",         {},                                                        false, "another namespace"],
    ["shop",         { NAMESPACE: "istio-system" },                             true,  "metadata counts before the id"],
  ])("for namespace %s with %j a ztunnel's identity is allowed: %j (%s)", async (namespace, metadata, allowed) => {
    const { connect } = await startServer(() => Promise.resolve({ checked: true, identities: [ztunnel] }));
    const client = connect();
    client.send({ node: { id: `ztunnel~10.0.0.1~z.${namespace}~${namespace}.svc.cluster.local`, metadata } });
    const answered = client.next().then(() => true);
    const refused = client.ended.then(({ code }) => code !== status.PERMISSION_DENIED);
    expect(await Promise.race([answered, refused])).toBe(allowed);
  });

  test("who cannot be authenticated is told so, and who comes before there is a state waits", async () => {
    const refused = await startServer(() => Promise.reject(new MeshError("UNAUTHENTICATED", "no token")));
    expect(await refused.connect().ended).toEqual({ code: status.UNAUTHENTICATED, details: "no token" });
    const early = await startServer(nobody, { isSynced: () => false });
    expect((await early.connect().ended).code).toBe(status.UNAVAILABLE);
  });

  test("streams are taken in one by one, and refused where too many come", async () => {
    const clock = new FakeClock();
    const { connect } = await startServer(nobody, { clock, streamsPerSecond: 2 });
    const clients = Array.from({ length: 5 }, () => connect());
    for (const client of clients) client.send({ node });
    // One at once, two more within the second; two are refused, whichever came last.
    const refused: status[] = [];
    for (const client of clients) void client.ended.then(({ code }) => refused.push(code));
    while (refused.length < 2) await nextTurn();
    expect(refused).toEqual([status.RESOURCE_EXHAUSTED, status.RESOURCE_EXHAUSTED]);
    const served: string[] = [];
    for (const client of clients) void client.next().then(({ typeUrl }) => served.push(typeUrl));
    await clock.advance(1_000);
    while (served.length < 3) await nextTurn();
    expect(served).toHaveLength(3);
  });

  test("a stream ends cleanly near its age limit, and one that says nothing after half a minute", async () => {
    const clock = new FakeClock();
    const { connect } = await startServer(nobody, { clock, maxStreamAgeMs: 60_000 });
    const [talking, silent] = [connect(), connect()];
    await talking.ask({ node });
    const ended = { talking: talking.ended, silent: silent.ended };
    // Each stream has two deadlines by now.
    while (clock.pending < 4) await nextTurn();
    await clock.advance(30_000);
    expect((await ended.silent).code).toBe(status.DEADLINE_EXCEEDED);
    await clock.advance(30_000);
    expect(await ended.talking).toMatchObject({ code: status.OK });
  });

  test("clients that leave are forgotten", async () => {
    const left = Promise.withResolvers<number>();
    const { connect, server } = await startServer(nobody, {
      onEvent: (event) => event.kind === "disconnected" && left.resolve(event.connections),
    });
    const client = connect();
    await client.ask({ node });
    expect(server.clients()).toHaveLength(1);
    client.cancel();
    expect(await left.promise).toBe(0);
    expect(server.clients()).toEqual([]);
  });
});
