/** A gRPC client without a proxy, in its own implementation of xDS, against our control plane. */
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Client, credentials, Server, ServerCredentials, status, type ServiceError } from "@grpc/grpc-js";
import { register } from "@grpc/grpc-js-xds";
import { setImmediate as nextTurn } from "node:timers/promises";
import { systemClock } from "#shared/clock/clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { DiscoveryServer } from "#shared/xds/discovery-server.ts";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { object, pod, service } from "#controlplane/translate/small-world.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { listenPlain } from "./grpc-listener.ts";
import { ProxylessViews } from "./proxyless-views.ts";

beforeAll(() => register());

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

async function startControlPlane() {
  const views = new ProxylessViews(silentLogger);
  const server = new DiscoveryServer({
    sources: [],
    openSources: (client) => views.open(client),
    isSynced: () => true,
    clock: systemClock,
    log: silentLogger,
  });
  const listener = await listenPlain({
    address: { host: "127.0.0.1", port: 0 },
    addServices: (grpc) => server.addTo(grpc, () => Promise.resolve({ checked: false })),
    log: silentLogger,
    maxConnectionAgeMs: 3_600_000,
  });
  open.push(() => listener[Symbol.asyncDispose]());
  open.push(() => server[Symbol.dispose]());
  const publish = (objects: readonly KubeObject[]): void => {
    const world = new World();
    for (const each of withApiDefaults(objects.map((written) => ({ object: written })))) world.upsert(each);
    expect(world.problems).toEqual([]);
    views.publish(translate(world, defaultOptions).collected);
  };
  return { port: listener.port, publish, server };
}

const path = "/test.Names/Get";
const raw = (bytes: Buffer): Buffer => bytes;

/** Answers every call with its own name. */
async function startBackend(name: string, host: string, port = 0): Promise<number> {
  const server = new Server();
  const method = { path, requestStream: false, responseStream: false } as const;
  server.addService(
    {
      get: {
        ...method,
        requestSerialize: raw,
        requestDeserialize: raw,
        responseSerialize: raw,
        responseDeserialize: raw,
      },
    },
    { get: (_call: unknown, reply: (error: null, bytes: Buffer) => void) => reply(null, Buffer.from(name)) },
  );
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, at) =>
      error === null ? resolve(at) : reject(error),
    ),
  );
  stop.set(name, () => server.forceShutdown());
  open.push(() => server.forceShutdown());
  return bound;
}
const stop = new Map<string, () => void>();

function connect(controlPlane: number, target: string) {
  const bootstrap = {
    xds_servers: [
      { server_uri: `127.0.0.1:${controlPlane}`, channel_creds: [{ type: "insecure" }], server_features: ["xds_v3"] },
    ],
    node: {
      id: "sidecar~127.0.0.1~client.shop~shop.svc.cluster.local",
      locality: {},
      metadata: { GENERATOR: "grpc" },
    },
  };
  const client = new Client(`xds:///${target}`, credentials.createInsecure(), {
    "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config": JSON.stringify(bootstrap),
    "grpc.use_local_subchannel_pool": 1,
  });
  open.push(() => client.close());
  return (deadlineMs = 60_000): Promise<string> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(path, raw, raw, Buffer.alloc(0), { deadline: Date.now() + deadlineMs }, (error, reply) =>
        error === null ? resolve(String(reply)) : reject(error),
      );
    });
}

const backend = (name: string, version: string, ip: string) =>
  pod(`shop/${name}`, { labels: { app: "names", version }, annotations: {}, status: { podIP: ip } });

const names = (targetPort: number) =>
  service("shop/names", {
    clusterIP: "10.96.0.9",
    selector: { app: "names" },
    ports: [{ name: "grpc", port: 80, targetPort }],
  });

const subsets = object("networking.istio.io/v1", "DestinationRule", "shop/names", {
  spec: {
    host: "names",
    subsets: [
      { name: "v1", labels: { version: "v1" } },
      { name: "v2", labels: { version: "v2" } },
    ],
  },
});

const virtualService = (http: readonly unknown[]) =>
  object("networking.istio.io/v1", "VirtualService", "shop/names", { spec: { hosts: ["names"], http } });

const to = (subset: string, weight: number) => ({ destination: { host: "names", subset }, weight });

describe("a gRPC client without a proxy", () => {
  test("resolves a service, splits by weight, follows changes and fails over", async () => {
    const { port, publish, server } = await startControlPlane();
    const target = await startBackend("one", "127.0.0.2");
    await startBackend("two", "127.0.0.3", target);
    const pods = [backend("one", "v1", "127.0.0.2"), backend("two", "v2", "127.0.0.3")];
    publish([...pods, names(target), subsets]);
    const call = connect(port, "names.shop.svc.cluster.local:80");
    const many = async (count: number): Promise<Record<string, number>> => {
      const counts: Record<string, number> = {};
      for (let index = 0; index < count; index++) {
        const name = await call();
        counts[name] = (counts[name] ?? 0) + 1;
      }
      return counts;
    };
    // Whom it has reached first gets all calls until it has reached the other.
    await until(
      async () =>
        Object.keys(await many(20))
          .toSorted()
          .join() === "one,two",
    );

    publish([...pods, names(target), subsets, virtualService([{ route: [to("v1", 50), to("v2", 50)] }])]);
    const split = await many(200);
    // By chance less often than once in 10^12 times.
    expect(split["one"]).toBeGreaterThan(50);
    expect(split["two"]).toBeGreaterThan(50);

    publish([...pods, names(target), subsets, virtualService([{ route: [to("v2", 100)] }])]);
    await until(async () => (await many(5))["two"] === 5);

    // The first is gone before the control plane has heard of it.
    publish([...pods, names(target), subsets]);
    await until(async () => (await many(10))["one"] !== undefined);
    stop.get("one")?.();
    await until(async () => (await many(10))["two"] === 10);

    for (const each of server.clients()) {
      expect(each.types.map(({ state, lastError }) => [state, lastError])).toEqual(
        each.types.map(() => ["SYNCED", undefined]),
      );
    }
  });

  test("aborts calls as told, and has no route to what is answered by proxies", async () => {
    const { port, publish } = await startControlPlane();
    const target = await startBackend("three", "127.0.0.4");
    const world = [backend("three", "v1", "127.0.0.4"), names(target), subsets];
    const all = { percentage: { value: 100 } };
    publish([
      ...world,
      virtualService([{ fault: { abort: { grpcStatus: "NOT_FOUND", ...all } }, route: [to("v1", 1)] }]),
    ]);
    const call = connect(port, "names.shop.svc.cluster.local:80");
    await expect(call()).rejects.toMatchObject({ code: status.NOT_FOUND } satisfies Partial<ServiceError>);

    publish([...world, virtualService([{ directResponse: { status: 200 } }])]);
    await until(() =>
      call().then(
        () => false,
        (error: ServiceError) => error.code === status.UNAVAILABLE,
      ),
    );
    publish(world);
    await until(() =>
      call().then(
        (name) => name === "three",
        () => false,
      ),
    );
  });
});

/** What the client has been told reaches its calls a moment later. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const latest = Date.now() + 60_000;
  while (!(await holds())) {
    if (Date.now() > latest) throw new Error("It did not come about");
    // A call that is refused at once leaves no room for news.
    await nextTurn();
  }
}
