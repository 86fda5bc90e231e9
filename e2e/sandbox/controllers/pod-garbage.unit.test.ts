import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { MemoryObjectStore } from "../apiserver/object-store.ts";
import { RangeAllocator } from "../apiserver/range-allocator.ts";
import { ResourceRegistry } from "../apiserver/resource-registry.ts";
import { ids } from "../apiserver/resources.ts";
import { strategiesFor } from "../apiserver/strategies.ts";
import { eventRecorder } from "../events.ts";
import type { Controller } from "./controller.ts";
import { startPodGarbage } from "./pod-garbage.ts";

let clock: FakeClock;
let store: MemoryObjectStore;
let controller: Controller;

beforeEach(() => {
  clock = new FakeClock();
  store = new MemoryObjectStore({ clock });
  const registry = new ResourceRegistry(store);
  store.installStrategies(strategiesFor({ store, registry, allocator: new RangeAllocator() }));
  store.create(ids.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  store.create(ids.serviceAccounts, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: "default", namespace: "shop" },
  });
  store.create(ids.nodes, { apiVersion: "v1", kind: "Node", metadata: { name: "node-1" } });
  for (const nodeName of ["node-1", "nowhere"])
    store.create(ids.pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `on-${nodeName}`, namespace: "shop" },
      spec: { nodeName, containers: [{ name: "a", image: "a:1" }] },
    });
  const onError = (_controller: string, _key: string, error: unknown) => {
    throw error;
  };
  controller = startPodGarbage({ store, clock, events: eventRecorder(store, clock, "test"), onError });
});

afterEach(() => controller.close());

const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};
const pods = () => store.list(ids.pods).map(({ metadata }) => metadata.name);

test("a pod that is deleted on a node that does not exist goes at once; others wait for their kubelet", async () => {
  await settled();
  expect(pods()).toEqual(["on-node-1", "on-nowhere"]);
  for (const name of pods()) store.delete(ids.pods, "shop", name);
  await settled();
  expect(pods()).toEqual(["on-node-1"]);
});

test("pods of a node that is deleted, and does not come back, go with it", async () => {
  await settled();
  store.delete(ids.nodes, undefined, "node-1");
  await settled();
  await clock.advance(39_000);
  await settled();
  expect(pods()).toEqual(["on-node-1", "on-nowhere"]);
  await clock.advance(2_000);
  await settled();
  expect(pods()).toEqual(["on-nowhere"]);
});
