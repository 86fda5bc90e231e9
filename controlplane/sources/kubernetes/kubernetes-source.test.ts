import { describe, expect, test } from "@jest/globals";
import { configKinds } from "#controlplane/schema/kinds.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { describeSource, type Written } from "../testing/describe-source.ts";
import { FakeApiServer } from "../testing/fake-api-server.ts";
import { RecordedSource } from "../testing/recorded-source.ts";
import { KubernetesSource } from "./kubernetes-source.ts";

const allKinds = configKinds.map(({ group, versions, plural }) => `/apis/${group}/${versions[0] ?? ""}/${plural}`);
const policies = "/apis/security.istio.io/v1/authorizationpolicies";
const services = "/api/v1/services";
const pods = "/api/v1/pods";

const pathOf = ({ apiVersion, kind }: Written): string => {
  const plural = configKinds.find((definition) => definition.kind === kind)?.plural ?? `${kind.toLowerCase()}s`;
  return apiVersion.includes("/") ? `/apis/${apiVersion}/${plural}` : `/api/${apiVersion}/${plural}`;
};

const open = (server: FakeApiServer): KubernetesSource =>
  new KubernetesSource({
    client: server.client(),
    meshConfig: { namespace: "istio-system", name: "istio" },
    log: silentLogger,
  });

describeSource("kubernetes", async () => {
  const server = await FakeApiServer.start();
  server.install(...allKinds);
  return {
    source: open(server),
    write: async (object) => void server.put(pathOf(object), object),
    remove: async (object) => server.delete(pathOf(object), object.metadata.namespace ?? "", object.metadata.name),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
});

const pod = (name: string, more: object = {}): Written => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "shop", ...more },
  spec: { nodeName: "node-1", containers: [{ name: "app" }] },
});
const policy = (name: string, metadata: object = {}): Written => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name, namespace: "shop", ...metadata },
  spec: { action: "DENY", rules: [{}] },
});

describe("kubernetes source", () => {
  test("kinds that are not installed count as empty, and are taken up when they appear", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    expect(source.troubles.size).toBe(0);
    server.install(policies);
    server.put(policies, policy("late"));
    await source.until(() => source.inForce.size === 1);
    expect([...source.inForce.keys()]).toEqual(["security.istio.io/AuthorizationPolicy/shop/late"]);
  });

  test("a kind that an API server does not serve yet when its definition is told is looked for again soon", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    let looks = 0;
    server.override = (method, path) =>
      path === policies && ++looks <= 2 ? { status: 404, body: { message: `no ${method} here yet` } } : undefined;
    server.install(policies);
    server.put(policies, policy("late"));
    await source.until(() => source.inForce.size === 1);
    expect(looks).toBeGreaterThan(2);
  });

  test("an older installation that serves only v1beta1 is read too", async () => {
    await using server = await FakeApiServer.start();
    const old = "/apis/security.istio.io/v1beta1/authorizationpolicies";
    server.install(old);
    server.put(old, { ...policy("old"), apiVersion: "security.istio.io/v1beta1" });
    await using source = new RecordedSource(open(server));
    await source.synced();
    expect([...source.inForce.values()][0]?.apiVersion).toBe("security.istio.io/v1beta1");
  });

  test("lists in pages", async () => {
    await using server = await FakeApiServer.start();
    for (let index = 0; index < 1_201; index++) server.put(pods, pod(`pod-${index}`));
    await using source = new RecordedSource(open(server));
    await source.synced();
    expect(source.inForce.size).toBe(1_201);
    expect(server.requests.filter((line) => line.startsWith(`GET ${pods}?limit`))).toHaveLength(3);
  });

  test("goes on from the last event after a break, without listing again", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    await server.until(() => server.countWatches(pods) === 1);
    server.put(pods, pod("one"));
    await source.until(() => source.inForce.size === 1);
    server.breakWatches();
    server.put(pods, pod("two"));
    await source.until(() => source.inForce.size === 2);
    expect(server.requests.filter((line) => line.startsWith(`GET ${pods}?limit`))).toHaveLength(1);
    expect(source.events.filter(({ type }) => type === "upsert")).toHaveLength(2);
    expect(source.troubles.size).toBe(0);
  });

  test("goes on from a bookmark", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    await server.until(() => server.countWatches(pods) === 1);
    server.sendToWatches(pods, { type: "BOOKMARK", object: { kind: "Pod", metadata: { resourceVersion: "4711" } } });
    server.put(services, { apiVersion: "v1", kind: "Service", metadata: { name: "s", namespace: "n" }, spec: {} });
    await source.until(() => source.inForce.size === 1);
    server.breakWatches();
    await server.until(() =>
      server.requests.some((line) => line.includes(`${pods}?watch`) && line.includes("resourceVersion=4711")),
    );
    expect(server.requests.filter((line) => line.startsWith(`GET ${pods}?limit`))).toHaveLength(1);
  });

  test("lists again when the server has forgotten, and tells only the difference", async () => {
    await using server = await FakeApiServer.start();
    server.put(pods, pod("stays"));
    server.put(pods, pod("goes"));
    server.put(pods, pod("again"));
    await using source = new RecordedSource(open(server));
    await source.synced();
    await server.until(() => server.countWatches(pods) === 1);
    const told = source.events.length;
    server.breakWatches();
    server.delete(pods, "shop", "goes");
    server.delete(pods, "shop", "again");
    server.put(pods, pod("again"));
    server.put(pods, pod("new"));
    server.forget();
    await source.until(() => source.inForce.has("/Pod/shop/new"));
    const names = source.events
      .slice(told)
      .map((event) =>
        event.type === "upsert" || event.type === "remove" ? `${event.type} ${event.ref.name}` : event.type,
      );
    // "again" is another pod of the same name: the first is gone before the second is there.
    expect(names).toEqual(["remove goes", "remove again", "upsert again", "upsert new"]);
  });

  test("an ERROR event with 410 means listing again", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    await server.until(() => server.countWatches(pods) === 1);
    const lists = (): number => server.requests.filter((line) => line.startsWith(`GET ${pods}?limit`)).length;
    server.sendToWatches(pods, { type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } });
    await server.until(() => lists() === 2);
    server.put(pods, pod("one"));
    await source.until(() => source.inForce.size === 1);
    expect(source.troubles.size).toBe(0);
  });

  test("garbage in a watch breaks that watch and nothing else", async () => {
    await using server = await FakeApiServer.start();
    await using source = new RecordedSource(open(server));
    await source.synced();
    await server.until(() => server.countWatches(pods) === 1);
    server.sendToWatches(pods, "this is no JSON");
    server.sendToWatches(pods, { type: "ADDED", object: { metadata: {} } });
    server.put(pods, pod("one"));
    await source.until(() => source.inForce.size === 1);
    expect([...source.inForce.keys()]).toEqual(["/Pod/shop/one"]);
  });

  test("a kind that may not be listed holds up synced, with the remedy, until it may", async () => {
    await using server = await FakeApiServer.start();
    server.install(policies);
    server.put(policies, policy("one"));
    server.override = (_method, path) =>
      path === policies
        ? { status: 403, body: { kind: "Status", reason: "Forbidden", message: "no", code: 403 } }
        : undefined;
    await using source = new RecordedSource(open(server));
    const place = "authorizationpolicies.security.istio.io";
    await source.until(() => source.troubles.has(place));
    expect(source.troubles.get(place)?.[0]).toContain(
      "let the control plane get, list and watch authorizationpolicies",
    );
    expect(source.isSynced).toBe(false);
    server.override = undefined;
    await source.synced();
    expect(source.troubles.size).toBe(0);
    expect(source.inForce.size).toBe(1);
  });

  test("heartbeats of nodes are no news, labels are", async () => {
    await using server = await FakeApiServer.start();
    const nodes = "/api/v1/nodes";
    const node = (labels: object, beat: number): Written => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "node-1", labels },
      status: { beat },
    });
    server.put(nodes, node({}, 1));
    await using source = new RecordedSource(open(server));
    await source.synced();
    server.put(nodes, node({}, 2));
    server.put(nodes, node({}, 3));
    server.put(nodes, node({ zone: "a" }, 4));
    await source.until(() => source.events.filter(({ type }) => type === "upsert").length > 1);
    expect(source.events.filter(({ type }) => type === "upsert")).toHaveLength(2);
  });

  test("only the mesh's own ConfigMap is read, and nobody's field managers", async () => {
    await using server = await FakeApiServer.start();
    const configMap = (name: string, namespace: string): Written => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace },
      data: { mesh: "trustDomain: td" },
    });
    const path = "/api/v1/configmaps";
    for (const [name, where] of [
      ["istio", "istio-system"],
      ["istio", "shop"],
      ["other", "istio-system"],
    ] as const) {
      server.put(path, configMap(name, where));
    }
    await using source = new RecordedSource(open(server));
    await source.synced();
    expect([...source.inForce.keys()]).toEqual(["/ConfigMap/istio-system/istio"]);
    expect([...source.inForce.values()][0]?.metadata["managedFields"]).toBeUndefined();
  });

  describe("ConfigMaps that objects name", () => {
    const configMaps = "/api/v1/configmaps";
    const policies = "/apis/gateway.networking.k8s.io/v1/backendtlspolicies";
    const configMap = (name: string, text: string): Written => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace: "shop" },
      data: { "ca.crt": text },
    });
    const policy = (name: string, ...refs: readonly string[]): Written => ({
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "BackendTLSPolicy",
      metadata: { name, namespace: "shop" },
      spec: {
        targetRefs: [{ group: "", kind: "Service", name: "cart" }],
        validation: {
          hostname: "cart.example",
          caCertificateRefs: refs.map((ref) => ({ group: "", kind: "ConfigMap", name: ref })),
        },
      },
    });
    const key = (name: string): string => `/ConfigMap/shop/${name}`;

    test("are told before synced, and as long as one of them names them", async () => {
      await using server = await FakeApiServer.start();
      server.install(policies);
      for (const name of ["one", "two", "nobodys"]) server.put(configMaps, configMap(name, name));
      server.put(policies, policy("a", "one"));
      await using source = new RecordedSource(open(server));
      await source.synced();
      expect([...source.inForce.keys()].filter((each) => each.includes("ConfigMap"))).toEqual([key("one")]);
      server.put(policies, policy("b", "one", "two"));
      await source.until(() => source.inForce.has(key("two")));
      server.put(configMaps, configMap("two", "changed"));
      await source.until(() => JSON.stringify(source.inForce.get(key("two"))).includes("changed"));
      server.put(policies, policy("a", "two"));
      server.delete(policies, "shop", "b");
      await source.until(() => !source.inForce.has(key("one")));
      expect(source.inForce.has(key("two"))).toBe(true);
      server.put(policies, policy("b", "one"));
      await source.until(() => source.inForce.has(key("one")));
    });

    test("may come later", async () => {
      await using server = await FakeApiServer.start();
      server.install(policies);
      server.put(policies, policy("a", "later"));
      await using source = new RecordedSource(open(server));
      await source.synced();
      server.put(configMaps, configMap("later", "x"));
      await source.until(() => source.inForce.has(key("later")));
      expect(source.events.filter(({ type }) => type === "synced")).toHaveLength(1);
    });
  });
});
