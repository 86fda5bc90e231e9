import { describe, expect, test } from "@jest/globals";
import { meshConfigPlace } from "./mesh-config.ts";
import { World } from "./world.ts";

const pod = (name: string, spec: unknown = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { namespace: "shop", name },
  spec,
});

describe("an object that does not fit", () => {
  test.each([
    [{ nodeName: 7 }, "spec.nodeName", "spec.nodeName: expected text, found 7"],
    [{ containers: {} }, "spec.containers", "spec.containers: expected a list, found an object"],
    [
      { containers: [{ ports: [{ containerPort: 99_999 }] }] },
      "spec.containers[0].ports[0].containerPort",
      "spec.containers[0].ports[0].containerPort: expected a number from 0 to 65535, found 99999",
    ],
    [[], "spec", "spec: expected an object, found a list"],
  ])("is reported with its field: %j", (spec, path, message) => {
    const world = new World();
    expect(world.upsert(pod("a", spec))).toEqual({ kind: "Pod", namespace: "shop", name: "a", path, message });
    expect(world.problems).toHaveLength(1);
    expect(world.all("Pod")).toEqual([]);
  });

  test("leaves the version before in force, until it is mended or removed", () => {
    const world = new World();
    world.upsert(pod("a", { nodeName: "one" }));
    const revision = world.revision;
    world.upsert(pod("a", { nodeName: 7 }));
    expect(world.revision).toBe(revision);
    expect(world.get("Pod", "shop", "a")?.node).toBe("one");
    world.upsert(pod("a", { nodeName: "two" }));
    expect(world.problems).toEqual([]);
    expect(world.get("Pod", "shop", "a")?.node).toBe("two");
    world.upsert(pod("a", { nodeName: 7 }));
    world.remove(pod("a"));
    expect(world.problems).toEqual([]);
    expect(world.get("Pod", "shop", "a")).toBeUndefined();
  });
});

describe("discovery selectors", () => {
  const namespace = (name: string, labels: Readonly<Record<string, string>>) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels },
  });
  const worldOf = (discoverySelectors: readonly object[]): World => {
    const world = new World();
    world.upsert({ kind: "MeshConfig", mesh: { discoverySelectors } });
    world.upsert(namespace("shop", { mesh: "yes", team: "a" }));
    world.upsert(namespace("back", { mesh: "no" }));
    for (const each of ["shop", "back", "nowhere"]) {
      world.upsert({ ...pod(each), metadata: { namespace: each, name: each } });
    }
    return world;
  };

  test.each<[readonly object[], readonly string[]]>([
    [[], ["back", "nowhere", "shop"]],
    [[{}], ["back", "shop"]],
    [[{ matchLabels: { mesh: "yes" } }], ["shop"]],
    [[{ matchLabels: { mesh: "yes", team: "b" } }], []],
    [
      [{ matchLabels: { team: "a" } }, { matchExpressions: [{ key: "mesh", operator: "In", values: ["no"] }] }],
      ["back", "shop"],
    ],
  ])("%j: objects of %j", (selectors, found) => {
    const world = worldOf(selectors);
    expect(world.all("Pod").map(({ meta }) => meta.namespace)).toEqual(found);
    for (const name of ["shop", "back", "nowhere"]) {
      expect(world.get("Pod", name, name) !== undefined).toBe(found.includes(name));
    }
    expect(world.all("Namespace")).toHaveLength(2);
  });

  test("a namespace's labels decide as they are now", () => {
    const world = worldOf([{ matchLabels: { mesh: "yes" } }]);
    world.upsert(namespace("back", { mesh: "yes" }));
    world.upsert(namespace("shop", {}));
    expect(world.all("Pod").map(({ meta }) => meta.namespace)).toEqual(["back"]);
  });
});

test("objects come out by namespace and name, whatever the order they came in", () => {
  const world = new World();
  for (const name of ["c", "a", "b"]) world.upsert(pod(name));
  expect(world.all("Pod").map(({ meta }) => meta.name)).toEqual(["a", "b", "c"]);
});

test("kinds of the same name in other groups, and kinds that mean nothing here, are passed over", () => {
  const world = new World();
  world.upsert({
    apiVersion: "networking.istio.io/v1",
    kind: "Gateway",
    metadata: { name: "a" },
    spec: { selector: 7 },
  });
  world.upsert({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "a" } });
  expect([world.revision, world.problems, world.all("Gateway")]).toEqual([0, [], []]);
});

describe("mesh configuration", () => {
  const configMap = (mesh: string) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { namespace: "istio-system", name: "istio" },
    data: { mesh },
  });

  test("comes from the ConfigMap of the control plane, and goes with it", () => {
    const world = new World();
    world.upsert(configMap("trustDomain: td\nrootNamespace: istio-system\nother: {x: 1}"));
    expect(world.meshConfig.trustDomain).toBe("td");
    world.remove(configMap(""));
    expect(world.meshConfig.trustDomain).toBe("cluster.local");
  });

  test.each([["trustDomain: ["], ["trustDomain: {}"], ["serviceEntryVisibility: {defaultVisibility: SOME}"], ["- a"]])(
    "%j is reported and leaves the last one in force",
    (text) => {
      const world = new World();
      world.upsert(configMap("trustDomain: td"));
      expect(world.upsert(configMap(text))?.kind).toBe("MeshConfig");
      expect(world.meshConfig.trustDomain).toBe("td");
    },
  );

  test("stays where it is when it names another root namespace", () => {
    const world = new World();
    world.upsert(configMap("rootNamespace: policies"));
    world.upsert(configMap("rootNamespace: policies\ntrustDomain: td"));
    expect(world.meshConfig).toMatchObject({ rootNamespace: "policies", trustDomain: "td" });
    world.remove(configMap(""));
    expect(world.meshConfig.rootNamespace).toBe("istio-system");
  });

  test.each([
    ["", "istio"],
    ["default", "istio"],
    ["canary", "istio-canary"],
  ])("of revision %j is in ConfigMap %j", (revision, name) => {
    const place = meshConfigPlace({ systemNamespace: "mesh", revision });
    const world = new World(place);
    for (const other of ["istio", "istio-canary"]) {
      world.upsert({ ...configMap(`trustDomain: ${other}`), metadata: { namespace: "mesh", name: other } });
    }
    expect(place).toEqual({ namespace: "mesh", name });
    expect(world.meshConfig.trustDomain).toBe(name);
  });

  test("other ConfigMaps mean nothing", () => {
    const world = new World();
    world.upsert({ ...configMap("trustDomain: td"), metadata: { namespace: "shop", name: "istio" } });
    expect(world.meshConfig.trustDomain).toBe("cluster.local");
  });
});
