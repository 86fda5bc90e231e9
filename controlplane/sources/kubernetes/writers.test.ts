import { describe, expect, test } from "@jest/globals";
import { silentLogger } from "#shared/observe/logger.ts";
import { FakeApiServer } from "../testing/fake-api-server.ts";
import { ConfigMapWriter } from "./config-map-writer.ts";
import { secretStore } from "./secret-store.ts";
import { TokenReviewer } from "./token-review.ts";

const signal = new AbortController().signal;

describe("TokenReviewer", () => {
  const reviewPath = "/apis/authentication.k8s.io/v1/tokenreviews";
  const user = {
    username: "system:serviceaccount:istio-system:ztunnel",
    extra: {
      "authentication.kubernetes.io/pod-name": ["ztunnel-abc"],
      "authentication.kubernetes.io/pod-uid": ["uid-1"],
    },
  };
  const review = async (status: object, answer = 201) => {
    await using server = await FakeApiServer.start();
    let asked: unknown;
    server.override = (_method, path, body) => {
      if (path !== reviewPath) return undefined;
      asked = body;
      return { status: answer, body: { status, message: "no token" } };
    };
    const reviewer = new TokenReviewer({ client: server.client(), audiences: ["istio-ca"], clusterId: "Kubernetes" });
    const outcome = await reviewer.review("a-token", "Kubernetes").catch((thrown: unknown) => thrown);
    return { outcome, asked };
  };

  test("tells account and pod of a token for our audience", async () => {
    const { outcome, asked } = await review({ authenticated: true, audiences: ["istio-ca"], user });
    expect(outcome).toEqual({
      namespace: "istio-system",
      serviceAccount: "ztunnel",
      pod: { name: "ztunnel-abc", uid: "uid-1" },
    });
    expect(asked).toMatchObject({ spec: { token: "a-token", audiences: ["istio-ca"] } });
  });

  // prettier-ignore
  test.each([ // why, status of the review, HTTP status, in the message
    ["unknown token",      { authenticated: false, error: "token has expired" },                       201, "token has expired"],
    ["no status",          {},                                                                          201, "does not know it"],
    ["other audience",     { authenticated: true, audiences: ["api"], user },                           201, "not made for audience istio-ca"],
    ["no audience at all", { authenticated: true, user },                                               201, "not made for audience istio-ca"],
    ["a person",           { authenticated: true, audiences: ["istio-ca"], user: { username: "jane" } }, 201, '"jane" is no service account'],
    ["unreadable token",   {},                                                                          422, "no token"],
  ])("refuses %s", async (_why, status, answer, message) => {
    const { outcome } = await review(status, answer);
    expect(outcome).toMatchObject({ code: "UNAUTHENTICATED" });
    expect(String(outcome)).toContain(message);
  });

  test("an API server that does not answer is no refusal", async () => {
    const { outcome } = await review({}, 500);
    expect(outcome).toMatchObject({ name: "KubeError", status: 500 });
  });

  test("a token of another cluster is refused without asking", async () => {
    await using server = await FakeApiServer.start();
    const reviewer = new TokenReviewer({ client: server.client(), audiences: ["istio-ca"], clusterId: "Kubernetes" });
    await expect(reviewer.review("t", "elsewhere")).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    expect(server.requests).toEqual([]);
  });
});

describe("secretStore", () => {
  const open = (server: FakeApiServer) =>
    secretStore({ client: server.client(), namespace: "istio-system", name: "istio-ca-secret" });

  test("keeps text as base64 and reads it back", async () => {
    await using server = await FakeApiServer.start();
    const store = open(server);
    expect(await store.read(signal)).toBeUndefined();
    expect(await store.write({ "ca-cert.pem": "PEM ä", "key.pem": "" }, { create: true }, signal)).toBe(true);
    expect(server.get("/api/v1/secrets", "istio-system", "istio-ca-secret")).toMatchObject({
      type: "istio.io/ca-root",
      data: { "ca-cert.pem": "UEVNIMOk", "key.pem": "" },
    });
    expect(await open(server).read(signal)).toEqual({ "ca-cert.pem": "PEM ä", "key.pem": "" });
  });

  test("of two that create, one is told that the other was faster", async () => {
    await using server = await FakeApiServer.start();
    expect(await open(server).write({ a: "1" }, { create: true }, signal)).toBe(true);
    expect(await open(server).write({ a: "2" }, { create: true }, signal)).toBe(false);
    expect(await open(server).read(signal)).toEqual({ a: "1" });
  });

  test("an update replaces only what was read", async () => {
    await using server = await FakeApiServer.start();
    const first = open(server);
    await first.write({ a: "1" }, { create: true }, signal);
    const second = open(server);
    await second.read(signal);
    expect(await first.write({ a: "2" }, { create: false }, signal)).toBe(true);
    expect(await second.write({ a: "3" }, { create: false }, signal)).toBe(false);
    expect(await open(server).read(signal)).toEqual({ a: "2" });
  });
});

describe("ConfigMapWriter", () => {
  const namespaces = "/api/v1/namespaces";
  const configMaps = "/api/v1/configmaps";
  const namespace = (name: string, more: object = {}) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name },
    ...more,
  });

  const run = async (prepare: (server: FakeApiServer) => void) => {
    const server = await FakeApiServer.start();
    prepare(server);
    const stop = new AbortController();
    let roots = "ROOT 1";
    const writer = new ConfigMapWriter({
      client: server.client(),
      log: silentLogger,
      name: "istio-ca-root-cert",
      key: "root-cert.pem",
      text: () => roots,
    });
    const running = writer.run(stop.signal);
    const rootIn = (where: string): unknown =>
      (server.get(configMaps, where, "istio-ca-root-cert")?.["data"] as { "root-cert.pem"?: string } | undefined)?.[
        "root-cert.pem"
      ];
    return {
      server,
      rootIn,
      renew: () => {
        roots = "ROOT 2";
        writer.changed();
      },
      async [Symbol.asyncDispose]() {
        stop.abort();
        await running;
        await server[Symbol.asyncDispose]();
      },
    };
  };

  test("every namespace gets it, but those without pods of users and those that are going", async () => {
    await using world = await run((server) => {
      for (const name of ["kube-system", "shop", "kube-public", "kube-node-lease"])
        server.put(namespaces, namespace(name));
      server.put(namespaces, namespace("going", { status: { phase: "Terminating" } }));
    });
    await world.server.until(() => world.rootIn("shop") === "ROOT 1" && world.rootIn("kube-system") === "ROOT 1");
    world.server.put(namespaces, namespace("late"));
    await world.server.until(() => world.rootIn("late") === "ROOT 1");
    for (const name of ["kube-public", "kube-node-lease", "going"]) expect(world.rootIn(name)).toBeUndefined();
    expect(world.server.get(configMaps, "shop", "istio-ca-root-cert")?.metadata["labels"]).toEqual({
      "istio.io/config": "true",
    });
  });

  test("what somebody changes or deletes is mended, what they add stays", async () => {
    await using world = await run((server) => server.put(namespaces, namespace("shop")));
    await world.server.until(() => world.rootIn("shop") === "ROOT 1");
    world.server.put(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "istio-ca-root-cert", namespace: "shop", labels: { mine: "yes" } },
      data: { "root-cert.pem": "FORGED", other: "kept" },
    });
    await world.server.until(() => world.rootIn("shop") === "ROOT 1");
    expect(world.server.get(configMaps, "shop", "istio-ca-root-cert")).toMatchObject({
      data: { other: "kept" },
      metadata: { labels: { mine: "yes", "istio.io/config": "true" } },
    });
    world.server.delete(configMaps, "shop", "istio-ca-root-cert");
    await world.server.until(() => world.rootIn("shop") === "ROOT 1");
  });

  test("a new root is written everywhere", async () => {
    await using world = await run((server) => {
      for (const name of ["a", "b"]) server.put(namespaces, namespace(name));
    });
    await world.server.until(() => world.rootIn("a") === "ROOT 1" && world.rootIn("b") === "ROOT 1");
    world.renew();
    await world.server.until(() => world.rootIn("a") === "ROOT 2" && world.rootIn("b") === "ROOT 2");
    expect(world.server.get(configMaps, "a", "istio-ca-root-cert")?.metadata["labels"]).toBeDefined();
  });

  test("trouble with one namespace does not end the others", async () => {
    await using world = await run((server) => {
      server.override = (method, path) =>
        method === "POST" && path.includes("/namespaces/bad/") ? { status: 500, body: { message: "boom" } } : undefined;
      for (const name of ["bad", "good"]) server.put(namespaces, namespace(name));
    });
    await world.server.until(() => world.rootIn("good") === "ROOT 1");
    expect(world.rootIn("bad")).toBeUndefined();
    world.server.override = undefined;
    await world.server.until(() => world.rootIn("bad") === "ROOT 1");
  });
});
