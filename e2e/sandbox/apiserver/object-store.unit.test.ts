import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { ApiError } from "./api-error.ts";
import {
  MemoryObjectStore,
  type KubeObject,
  type NewObject,
  type ObjectMeta,
  type StoreEvent,
} from "./object-store.ts";
import { RangeAllocator } from "./range-allocator.ts";
import { ResourceRegistry } from "./resource-registry.ts";
import { ids } from "./resources.ts";
import { strategiesFor } from "./strategies.ts";

const things = { group: "x.io", resource: "things" };

function openBare(historyLimit = 1024): MemoryObjectStore {
  return new MemoryObjectStore({ clock: new FakeClock(), historyLimit });
}

/** A store that knows Kubernetes' kinds, with a namespace `shop` and its service account. */
function openKnowing(): MemoryObjectStore {
  const store = openBare();
  store.installStrategies(
    strategiesFor({ store, registry: new ResourceRegistry(store), allocator: new RangeAllocator() }),
  );
  for (const name of ["default", "shop"])
    store.create(ids.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  store.create(ids.serviceAccounts, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: "shop" },
  });
  return store;
}

const thing = (name: string, metadata: Partial<ObjectMeta> = {}): NewObject => ({
  apiVersion: "x.io/v1",
  kind: "Thing",
  metadata: { name, namespace: "shop", ...metadata },
});
const ownedBy = (owner: KubeObject, blocks = false): Partial<ObjectMeta> => ({
  ownerReferences: [
    {
      apiVersion: owner.apiVersion,
      kind: owner.kind,
      name: owner.metadata.name,
      uid: owner.metadata.uid,
      ...(blocks ? { blockOwnerDeletion: true } : {}),
    },
  ],
});
const pod = (name: string, spec: object = {}, metadata: Partial<ObjectMeta> = {}): NewObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "shop", ...metadata },
  spec: { containers: [{ name: "a", image: "a:1" }], ...spec },
});
const settle = async () => {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const names = (store: MemoryObjectStore, id = things) => store.list(id).map(({ metadata }) => metadata.name);
const reasonOf = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    if (error instanceof ApiError) return error.reason;
    throw error;
  }
  return "accepted";
};

describe("versions", () => {
  test("every change has a higher version, and only changes have one", () => {
    const store = openBare();
    const first = store.create(things, thing("a"));
    const same = store.update(things, structuredClone(first));
    expect(same.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
    const second = store.update(things, { ...first, spec: 1 });
    expect(Number(second.metadata.resourceVersion)).toBeGreaterThan(Number(first.metadata.resourceVersion));
    expect(reasonOf(() => store.update(things, { ...first, spec: 2 }))).toBe("Conflict");
  });

  test("what the store owns cannot be changed", () => {
    const store = openBare();
    const first = store.create(things, thing("a"));
    const { uid: _uid, ...metadata } = first.metadata;
    const next = store.update(things, {
      ...first,
      metadata: { ...metadata, uid: "", creationTimestamp: "1970-01-01T00:00:00Z" },
      spec: 1,
    });
    expect(next.metadata).toMatchObject({
      uid: first.metadata.uid,
      creationTimestamp: first.metadata.creationTimestamp,
    });
    expect(Object.isFrozen(next.metadata)).toBe(true);
  });

  test("generation counts the spec, not the status", () => {
    const store = openKnowing();
    const spec = {
      selector: { matchLabels: { a: "b" } },
      template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "a", image: "a:1" }] } },
    };
    const first = store.create(ids.deployments, {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "web", namespace: "shop" },
      spec,
      status: { replicas: 9 },
    });
    expect(first).toMatchObject({ metadata: { generation: 1 }, status: {} });
    const status = store.patchStatus(ids.deployments, "shop", "web", (object) => ({
      ...object,
      status: { replicas: 1 },
      spec: {},
    }));
    expect(status).toMatchObject({ metadata: { generation: 1 }, status: { replicas: 1 }, spec: { replicas: 1 } });
    expect(store.update(ids.deployments, { ...status, spec: { ...spec, replicas: 3 }, status: {} })).toMatchObject({
      metadata: { generation: 2 },
      status: { replicas: 1 },
    });
  });

  test("a dry run changes nothing", () => {
    const store = openKnowing();
    const version = store.resourceVersion;
    expect(store.create(ids.pods, pod("a"), { dryRun: true }).metadata.name).toBe("a");
    expect([store.resourceVersion, names(store, ids.pods)]).toEqual([version, []]);
  });
});

describe("deletion", () => {
  test("waits for finalizers", () => {
    const store = openBare();
    store.create(things, thing("a", { finalizers: ["x.io/hold"] }));
    const held = store.delete(things, "shop", "a");
    expect(held.metadata.deletionTimestamp).toBeDefined();
    const { finalizers: _gone, ...metadata } = held.metadata;
    store.update(things, { ...held, metadata });
    expect(names(store)).toEqual([]);
  });

  test("a running pod gets its grace period and leaves when the kubelet confirms", () => {
    const store = openKnowing();
    store.create(ids.pods, pod("a", { nodeName: "n1", terminationGracePeriodSeconds: 5 }));
    const first = store.delete(ids.pods, "shop", "a");
    expect(first.metadata).toMatchObject({ deletionGracePeriodSeconds: 5 });
    expect(store.delete(ids.pods, "shop", "a", { gracePeriodSeconds: 60 }).metadata).toEqual(first.metadata);
    expect(store.delete(ids.pods, "shop", "a", { gracePeriodSeconds: 2 }).metadata.deletionGracePeriodSeconds).toBe(2);
    store.delete(ids.pods, "shop", "a", { gracePeriodSeconds: 0 });
    expect(names(store, ids.pods)).toEqual([]);
  });

  test("a pod that no node runs goes at once", () => {
    const store = openKnowing();
    store.create(ids.pods, pod("a"));
    store.delete(ids.pods, "shop", "a");
    expect(names(store, ids.pods)).toEqual([]);
  });

  test("what only a deleted object owned is collected", async () => {
    const store = openBare();
    const [left, right] = [store.create(things, thing("left")), store.create(things, thing("right"))];
    store.create(things, thing("child", ownedBy(left)));
    const [reference] = ownedBy(right).ownerReferences ?? [];
    store.create(
      things,
      thing("shared", {
        ownerReferences: [...(ownedBy(left).ownerReferences ?? []), ...(reference === undefined ? [] : [reference])],
      }),
    );
    store.delete(things, "shop", "left");
    await settle();
    expect(names(store)).toEqual(["right", "shared"]);
  });

  test("foreground: the owner stays until its dependents are gone", async () => {
    const store = openBare();
    const owner = store.create(things, thing("owner"));
    store.create(things, thing("child", { ...ownedBy(owner, true), finalizers: ["x.io/hold"] }));
    store.delete(things, "shop", "owner", { propagation: "Foreground" });
    await settle();
    expect(names(store)).toEqual(["child", "owner"]);
    const child = store.get(things, "shop", "child");
    if (child === undefined) throw new TypeError("gone too early");
    const { finalizers: _gone, ...metadata } = child.metadata;
    store.update(things, { ...child, metadata });
    await settle();
    expect(names(store)).toEqual([]);
  });

  test("orphan: the dependents stay and forget their owner", async () => {
    const store = openBare();
    const owner = store.create(things, thing("owner"));
    store.create(things, thing("child", ownedBy(owner)));
    store.delete(things, "shop", "owner", { propagation: "Orphan" });
    await settle();
    expect(names(store)).toEqual(["child"]);
    expect(store.get(things, "shop", "child")?.metadata.ownerReferences).toBeUndefined();
  });

  test("a namespace takes everything with it and accepts nothing new", async () => {
    const store = openKnowing();
    store.create(ids.pods, pod("a", { nodeName: "n1" }));
    store.create(ids.configMaps, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "shop" } });
    store.delete(ids.namespaces, undefined, "shop");
    await settle();
    expect(store.get(ids.namespaces, undefined, "shop")).toMatchObject({ status: { phase: "Terminating" } });
    expect(reasonOf(() => store.create(ids.pods, pod("b")))).toBe("Forbidden");
    store.delete(ids.pods, "shop", "a", { gracePeriodSeconds: 0 });
    await settle();
    expect(store.get(ids.namespaces, undefined, "shop")).toBeUndefined();
    expect(reasonOf(() => store.create(ids.pods, pod("b")))).toBe("NotFound");
    expect(reasonOf(() => store.delete(ids.namespaces, undefined, "default"))).toBe("Forbidden");
  });
});

describe("watches", () => {
  test("tell every change in order, later", async () => {
    const store = openBare();
    store.create(things, thing("old"));
    const seen: string[] = [];
    const stop = store.watch(things, ({ type, object }) => seen.push(`${type} ${object.metadata.name}`), {
      replay: true,
    });
    const a = store.create(things, thing("a"));
    store.update(things, { ...a, spec: 1 });
    store.delete(things, "shop", "a");
    expect(seen).toEqual([]);
    await settle();
    expect(seen).toEqual(["ADDED old", "ADDED a", "MODIFIED a", "DELETED a"]);
    stop();
    store.create(things, thing("b"));
    await settle();
    expect(seen).toHaveLength(4);
  });

  test("resume where they were, and are told when that is too long ago", async () => {
    const store = openBare(8);
    const first = store.create(things, thing("a"));
    const since = Number(first.metadata.resourceVersion);
    store.create(things, thing("b"));
    const seen: StoreEvent[] = [];
    store.subscribe(things, (event) => seen.push(event), { since });
    await settle();
    expect(seen.map(({ object }) => object.metadata.name)).toEqual(["b"]);
    for (let at = 0; at < 20; at++) store.create(things, thing(`c${at}`));
    expect(reasonOf(() => store.subscribe(things, () => {}, { since }))).toBe("Expired");
  });

  test("one broken listener does not silence the others", async () => {
    const errors: unknown[] = [];
    const store = new MemoryObjectStore({ clock: new FakeClock(), onListenerError: (error) => errors.push(error) });
    let heard = 0;
    store.watch(things, () => {
      throw new TypeError("broken");
    });
    store.watch(things, () => heard++);
    store.create(things, thing("a"));
    await settle();
    expect([heard, errors.length]).toEqual([1, 1]);
  });
});

describe("services", () => {
  const service = (name: string, spec: object): NewObject => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec,
  });
  const ports = [{ port: 80 }];
  // prettier-ignore
  test.each([
    ["an address of the preferred family", { ports }, { clusterIP: "10.96.0.1", ipFamilies: ["IPv4"], ipFamilyPolicy: "SingleStack" }],
    ["both families when preferred", { ports, ipFamilyPolicy: "PreferDualStack" }, { clusterIPs: ["10.96.0.1", "fd00:10:96::1"], ipFamilies: ["IPv4", "IPv6"] }],
    ["the asked order", { ports, ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv6", "IPv4"] }, { clusterIP: "fd00:10:96::1" }],
    ["IPv6 alone", { ports, ipFamilies: ["IPv6"] }, { clusterIPs: ["fd00:10:96::1"] }],
    ["the asked address", { ports, clusterIP: "10.96.0.77" }, { clusterIPs: ["10.96.0.77"] }],
    ["none for a headless service", { clusterIP: "None", selector: { a: "b" } }, { clusterIPs: ["None"], ipFamilies: ["IPv4"] }],
    ["a node port", { ports, type: "NodePort" }, { ports: [{ port: 80, protocol: "TCP", targetPort: 80, nodePort: 30_000 }] }],
  ])("gives %s", (_name, spec, expected) => {
    expect(openKnowing().create(ids.services, service("web", spec))["spec"]).toMatchObject(expected);
  });

  test("keeps its address over updates and gives it back at the end", () => {
    const store = openKnowing();
    const first = store.create(ids.services, service("a", { ports }));
    const next = store.update(ids.services, { ...first, spec: { ports: [{ port: 81 }] } });
    expect(next["spec"]).toMatchObject({ clusterIP: "10.96.0.1" });
    expect(reasonOf(() => store.update(ids.services, { ...next, spec: { ports, clusterIP: "10.96.0.9" } }))).toBe(
      "Invalid",
    );
    expect(reasonOf(() => store.create(ids.services, service("b", { ports, clusterIP: "10.96.0.1" })))).toBe("Invalid");
    store.delete(ids.services, "shop", "a");
    expect(store.create(ids.services, service("b", { ports }))["spec"]).toMatchObject({ clusterIP: "10.96.0.1" });
  });

  test("a dry run takes no address", () => {
    const store = openKnowing();
    store.create(ids.services, service("a", { ports }), { dryRun: true });
    expect(store.create(ids.services, service("b", { ports }))["spec"]).toMatchObject({ clusterIP: "10.96.0.1" });
  });
});
