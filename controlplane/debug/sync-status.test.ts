import { afterEach, expect, test } from "@jest/globals";
import { once } from "node:events";
import { Client, credentials } from "@grpc/grpc-js";
import { create, fromBinary, toBinary, type JsonObject } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { systemClock } from "#shared/clock/clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import {
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
  type DiscoveryResponse,
} from "#shared/proto/gen/envoy/service/discovery/v3/discovery_pb.js";
import { ClientConfigSchema, ConfigStatus } from "#shared/proto/gen/envoy/service/status/v3/csds_pb.js";
import { until } from "#shared/testing/loopback.ts";
import { DiscoveryServer } from "#shared/xds/discovery-server.ts";
import { ResourceStore } from "#shared/xds/resource-store.ts";
import type { Admission } from "#shared/xds/served-stream.ts";
import { stateMethod, typeUrls } from "#shared/xds/type-urls.ts";
import { listenPlain } from "#controlplane/xds/grpc-listener.ts";
import { SyncStatus, syncType } from "./sync-status.ts";

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

const account = (namespace: string): Admission => ({
  checked: true,
  identities: [spiffeId({ trustDomain: "cluster.local", namespace, serviceAccount: "default" })],
});

/** @param admission of each stream, in their order */
async function start(...admissions: readonly Admission[]) {
  const store = new ResourceStore(typeUrls.cluster);
  const status = new SyncStatus({
    clients: () => server.clients(),
    podName: "istiod-1",
    systemNamespace: "istio-system",
  });
  const server: DiscoveryServer = new DiscoveryServer({
    sources: [store],
    openSources: (client) => status.open(client),
    isSynced: () => true,
    clock: systemClock,
    log: silentLogger,
  });
  const next = admissions[Symbol.iterator]();
  const listener = await listenPlain({
    address: { host: "127.0.0.1", port: 0 },
    addServices: (grpc) => server.addTo(grpc, () => Promise.resolve(next.next().value ?? { checked: false })),
    log: silentLogger,
    maxConnectionAgeMs: 3_600_000,
  });
  open.push(() => listener[Symbol.asyncDispose]());
  open.push(() => server[Symbol.dispose]());
  return { server, port: listener.port };
}

/** One request, and the answers to it as they come. */
function ask(port: number, typeUrl: string, id: string, metadata: JsonObject) {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  open.push(() => client.close());
  const stream = client.makeBidiStreamRequest(
    stateMethod,
    (bytes: Uint8Array) => Buffer.from(bytes),
    (bytes: Buffer): DiscoveryResponse => fromBinary(DiscoveryResponseSchema, bytes),
  );
  stream.on("error", () => {});
  const write = (more: { readonly responseNonce?: string; readonly errorDetail?: { readonly message: string } } = {}) =>
    stream.write(
      toBinary(DiscoveryRequestSchema, create(DiscoveryRequestSchema, { typeUrl, node: { id, metadata }, ...more })),
    );
  write();
  return { stream, write, first: once(stream, "data").then(([response]) => response as DiscoveryResponse) };
}

const proxy = (name: string, namespace: string) =>
  `waypoint~10.0.0.1~${name}.${namespace}~${namespace}.svc.cluster.local`;
const tool = (namespace: string): [string, JsonObject] => [
  "sidecar~10.9.9.9~test-1.default~default.svc.cluster.local",
  { GENERATOR: "event", NAMESPACE: namespace, SERVICE_ACCOUNT: "default" },
];
const configsIn = ({ resources }: DiscoveryResponse) =>
  resources.map((resource) => anyUnpack(resource, ClientConfigSchema)).filter((config) => config !== undefined);

test("istioctl is told how each proxy stands, and by whom", async () => {
  const { server, port } = await start();
  const one = ask(port, typeUrls.cluster, proxy("a", "shop"), {
    CLUSTER_ID: "c1",
    ISTIO_VERSION: "1.30.0",
    SECRET: "x",
  });
  one.write({ responseNonce: (await one.first).nonce });
  const other = ask(port, typeUrls.cluster, proxy("b", "other"), {});
  other.write({ responseNonce: (await other.first).nonce, errorDetail: { message: "cannot" } });
  const states = () => server.clients().map(({ types }) => types[0]?.state);
  await until(() => states().includes("SYNCED") && states().includes("REJECTED"), "both have answered");

  const answer = await ask(port, syncType, ...tool("istio-system")).first;
  expect(answer.typeUrl).toBe(syncType);
  expect(JSON.parse(answer.controlPlane?.identifier ?? "")).toMatchObject({ Component: "istiod", ID: "istiod-1" });
  const configs = configsIn(answer);
  expect(configs.map(({ node }) => node?.id)).toEqual([proxy("a", "shop"), proxy("b", "other")]);
  expect(configs[0]?.node?.metadata).toEqual({ NAMESPACE: "shop", CLUSTER_ID: "c1", ISTIO_VERSION: "1.30.0" });
  expect(configs.map(({ genericXdsConfigs: [config] }) => [config?.typeUrl, config?.configStatus])).toEqual([
    [typeUrls.cluster, ConfigStatus.SYNCED],
    [typeUrls.cluster, ConfigStatus.ERROR],
  ]);
  expect(configs[1]?.genericXdsConfigs[0]?.errorState?.details).toBe("cannot");
});

test("an account of another namespace is told of that one only", async () => {
  const { port } = await start(account("shop"), account("other"), account("shop"));
  await ask(port, typeUrls.cluster, proxy("a", "shop"), {}).first;
  await ask(port, typeUrls.cluster, proxy("b", "other"), {}).first;
  const answer = await ask(port, syncType, ...tool("shop")).first;
  expect(configsIn(answer).map(({ node }) => node?.id)).toEqual([proxy("a", "shop")]);
});
