/** Whatever stands in one object, translation goes on, and what the others mean is served unchanged. */
import { expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { toBinary } from "@bufbuild/protobuf";
import { AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { damaged, junk } from "./damage.ts";
import { defaultOptions } from "./options.ts";
import { servedForm } from "./served-form.ts";
import {
  namespace,
  object,
  peerAuthentication,
  pod,
  policy,
  service,
  serviceEntry,
  slice,
  waypoint,
  workloadEntry,
} from "./small-world.ts";
import { translate } from "./translate.ts";

const written: readonly KubeObject[] = [
  namespace("shop", { labels: { "istio.io/use-waypoint": "wp" } }),
  object("v1", "Node", "node-a", {}, { labels: { "topology.kubernetes.io/region": "r" } }),
  service("shop/cart", { selector: { app: "cart" } }),
  slice("shop/cart-1", "cart", { endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready: true } }] }),
  serviceEntry("shop/ext", {
    endpoints: [{ address: "192.0.2.1", ports: { http: 1 } }],
    ports: [{ name: "http", number: 80 }],
  }),
  workloadEntry("shop/vm", { ports: { http: 1 }, weight: 2 }),
  policy("shop/allow", {
    selector: { matchLabels: { app: "cart" } },
    rules: [{ from: [{ source: { ipBlocks: ["10.0.0.0/8"] } }], when: [{ key: "source.ip", values: ["1.1.1.1"] }] }],
  }),
  peerAuthentication("shop/strict", {
    selector: { matchLabels: { app: "cart" } },
    portLevelMtls: { 80: { mode: "STRICT" } },
  }),
  waypoint("shop/wp"),
  object("gateway.networking.k8s.io/v1", "Gateway", "shop/ours", {
    spec: { gatewayClassName: "istio-waypoint", listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }] },
  }),
  object("gateway.networking.k8s.io/v1", "GatewayClass", "theirs", { spec: { controllerName: "x/y" } }),
];
const innocent = pod("calm/bystander");

function serveAll(objects: readonly KubeObject[]): ReturnType<typeof servedForm> {
  const world = new World();
  for (const each of withApiDefaults(objects.map((object_) => ({ object: object_ })))) world.upsert(each);
  const translation = translate(world, defaultOptions);
  // What is served must also fit on the wire.
  for (const address of translation.addresses.values()) toBinary(AddressSchema, address);
  for (const authorization of translation.authorizations.values()) toBinary(AuthorizationSchema, authorization);
  return servedForm(translation);
}

test.each(written.map((each) => [String(each.kind), each] as const))("junk in a %s", (_, original) => {
  const others = [innocent, ...written.filter((each) => each !== original)];
  fc.assert(
    fc.property(damaged(original), (broken) => {
      const served = serveAll([broken, ...others]);
      expect(served.addresses.map(({ name }) => name)).toContain("Kubernetes//Pod/calm/bystander");
    }),
    { numRuns: 60 },
  );
});

test("junk in a Pod", () => {
  fc.assert(
    fc.property(
      damaged(pod("shop/cart", { spec: { containers: [{ ports: [{ name: "a", containerPort: 1 }] }] } })),
      (broken) => {
        expect(serveAll([broken, ...written, innocent]).addresses.map(({ name }) => name)).toContain(
          "Kubernetes//Pod/calm/bystander",
        );
      },
    ),
    { numRuns: 60 },
  );
});

test("an object of nothing but junk", () => {
  fc.assert(
    fc.property(
      fc.record({
        apiVersion: junk,
        kind: fc.oneof(junk, fc.constantFrom("Pod", "Service", "MeshConfig", "ConfigMap")),
        metadata: junk,
        spec: junk,
        mesh: junk,
        data: junk,
      }),
      (broken) => {
        serveAll([broken, innocent]);
      },
    ),
    { numRuns: 60 },
  );
});

test("the order in which objects come does not matter where they state their age", () => {
  const aged = [...written, innocent].map((each, index) => ({
    ...each,
    metadata: {
      ...(each.metadata as object),
      creationTimestamp: new Date(Date.UTC(2026, 0, 1, 0, 0, index)).toISOString(),
    },
  }));
  const expected = serveAll(aged);
  fc.assert(
    fc.property(fc.shuffledSubarray(aged, { minLength: aged.length }), (shuffled) => {
      expect(serveAll(shuffled)).toEqual(expected);
    }),
    { numRuns: 10 },
  );
});

test("removing what was added leaves nothing behind", () => {
  const world = new World();
  const before = servedForm(translate(world, defaultOptions));
  const objects = withApiDefaults([...written, innocent].map((object_) => ({ object: object_ })));
  for (const each of objects) world.upsert(each);
  for (const each of objects) world.remove(each);
  expect(servedForm(translate(world, defaultOptions))).toEqual(before);
  expect(world.problems).toEqual([]);
});

test("a large world takes a moment, not a minute", () => {
  const objects = Array.from({ length: 20 }, (_, n) => [
    ...Array.from({ length: 50 }, (_unused, s) =>
      service(`ns-${n}/svc-${s}`, { selector: { all: "yes", app: `app-${s}` } }),
    ),
    ...Array.from({ length: 250 }, (_unused, p) =>
      pod(`ns-${n}/pod-${p}`, { labels: { all: "yes", app: `app-${p % 50}` } }),
    ),
  ]).flat();
  const world = new World();
  for (const each of objects) world.upsert(each);
  const startedMs = process.cpuUsage().user / 1000;
  expect(translate(world, defaultOptions).addresses.size).toBe(6000);
  // About 0.2 s on a slow core; a quadratic loop takes many times that.
  expect(process.cpuUsage().user / 1000 - startedMs).toBeLessThan(5000);
});
