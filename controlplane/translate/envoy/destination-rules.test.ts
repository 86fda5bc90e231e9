import { describe, expect, test } from "@jest/globals";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { namespace, object, pod, service, waypoint } from "#controlplane/translate/small-world.ts";
import { translate } from "#controlplane/translate/translate.ts";
import { consistentHash, effectivePolicy, ruleFor } from "./destination-rules.ts";
import { envoyContext, proxyFacts } from "./view.ts";

type Spec = Readonly<Record<string, unknown>>;

const rule = (path: string, spec: Spec): KubeObject =>
  object("networking.istio.io/v1", "DestinationRule", path, { spec: { host: "a.shop.svc.cluster.local", ...spec } });

/** A rule that is known again by its limit. */
const limited = (path: string, maxConnections: number, more: Spec = {}): KubeObject =>
  rule(path, { trafficPolicy: { connectionPool: { tcp: { maxConnections } } }, ...more });

/** The context of waypoint `edge/wp`, which stands before service `shop/a`, and that service. */
function seen(rules: readonly KubeObject[], { client = "edge" } = {}) {
  const world = new World();
  const objects = [
    namespace("shop", { labels: { "istio.io/use-waypoint": "wp", "istio.io/use-waypoint-namespace": client } }),
    waypoint(`${client}/wp`, {
      spec: {
        listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE", allowedRoutes: { namespaces: { from: "All" } } }],
      },
    }),
    pod(`${client}/wp-1`, { labels: { role: "waypoint" } }),
    service("shop/a", {}),
    ...rules,
  ];
  for (const each of withApiDefaults(objects.map((written) => ({ object: written })))) world.upsert(each);
  expect(world.problems).toEqual([]);
  const { collected } = translate(world, defaultOptions);
  const found = collected.waypoints.get(client, "wp");
  const [target] = collected.services;
  if (found === undefined || target === undefined) throw new TypeError("The world lacks its waypoint or its service");
  const facts = proxyFacts(world, "", { namespace: client, name: "wp-1", node: "", ips: ["10.0.0.1"] });
  const context = envoyContext(collected, found, facts);
  return { context, service: target, rule: ruleFor(context, target) };
}

describe("the rule that holds", () => {
  const selecting = (role: string) => ({ workloadSelector: { matchLabels: { role } } });
  const cases: readonly [string, number | undefined, readonly KubeObject[], string?][] = [
    ["none", undefined, []],
    ["the waypoint's namespace before the service's", 1, [limited("shop/x", 2), limited("edge/x", 1)]],
    ["the service's before the root's", 2, [limited("istio-system/x", 3), limited("shop/x", 2)]],
    ["the root's at last", 3, [limited("istio-system/x", 3)]],
    ["never a third namespace's", undefined, [limited("other/x", 4)]],
    ["only what is exported", 3, [limited("shop/x", 2, { exportTo: ["."] }), limited("istio-system/x", 3)]],
    ["exported to the waypoint's by name", 2, [limited("shop/x", 2, { exportTo: ["edge"] })]],
    [
      "not exported from its own namespace to itself",
      2,
      [limited("edge/x", 1, { exportTo: ["shop"] }), limited("shop/x", 2)],
    ],
    ["the exact host before wildcards", 1, [limited("shop/a", 2, { host: "*.local" }), limited("shop/b", 1)]],
    [
      "the longer wildcard",
      2,
      [limited("shop/a", 1, { host: "*.local" }), limited("shop/b", 2, { host: "*.shop.svc.cluster.local" })],
    ],
    [
      "a short host is of its own namespace",
      2,
      [limited("edge/x", 1, { host: "a" }), limited("shop/x", 2, { host: "a" })],
    ],
    ["of equal ones the older", 1, [limited("shop/z", 1), limited("shop/a", 2)]],
    ["for its own labels before for all", 2, [limited("edge/a", 1), limited("edge/b", 2, selecting("waypoint"))]],
    ["not for others' labels", 1, [limited("edge/a", 1), limited("edge/b", 2, selecting("else"))]],
    ["for labels only in its namespace", undefined, [limited("shop/b", 2, selecting("waypoint"))]],
    [
      "a waypoint in the root's has its private ones first",
      1,
      [limited("shop/x", 2), limited("istio-system/x", 1, { exportTo: ["."] })],
      "istio-system",
    ],
    [
      "and the service's before its public ones",
      2,
      [limited("shop/x", 2), limited("istio-system/x", 1)],
      "istio-system",
    ],
  ];
  test.each(cases.map(([what, expected, rules, client = "edge"]) => ({ what, expected, rules, client })))(
    "$what",
    ({ expected, rules, client }) => {
      expect(seen(rules, { client }).rule?.policy?.connectionPool?.tcp?.maxConnections).toBe(expected);
    },
  );
});

test("rules for one host add up: the first policy, and every subset under its first meaning", () => {
  const { rule: merged } = seen([
    rule("shop/a", { subsets: [{ name: "v1", labels: { version: "1" } }] }),
    limited("shop/b", 5, {
      subsets: [
        { name: "v1", labels: { version: "other" } },
        { name: "v2", labels: {} },
      ],
    }),
    limited("shop/c", 6),
  ]);
  expect(merged?.policy?.connectionPool?.tcp?.maxConnections).toBe(5);
  expect(merged?.subsets.map(({ name, labels }) => [name, [...labels]])).toEqual([
    ["v1", [["version", "1"]]],
    ["v2", []],
  ]);
});

describe("what holds for a port and a subset", () => {
  const pool = (maxConnections: number) => ({ tcp: { maxConnections } });
  const { rule: written } = seen([
    rule("shop/a", {
      trafficPolicy: {
        connectionPool: pool(1),
        loadBalancer: { simple: "RANDOM" },
        retryBudget: { percent: 10 },
        proxyProtocol: { version: "V2" },
        portLevelSettings: [{ port: { number: 81 }, loadBalancer: { simple: "ROUND_ROBIN" } }],
      },
      subsets: [
        { name: "plain", labels: {} },
        { name: "own", labels: {}, trafficPolicy: { connectionPool: { http: { maxRetries: 7 } } } },
        {
          name: "ports",
          labels: {},
          trafficPolicy: {
            retryBudget: { percent: 20 },
            portLevelSettings: [{ port: { number: 80 }, connectionPool: pool(3) }],
          },
        },
      ],
    }),
  ]);
  test.each([
    [80, "", { connections: 1, simple: "RANDOM", budget: 10, proxy: "V2" }],
    // A port's settings take the place of all.
    [81, "", { connections: undefined, simple: "ROUND_ROBIN", budget: undefined, proxy: undefined }],
    [80, "plain", { connections: 1, simple: "RANDOM", budget: 10, proxy: "V2" }],
    // Members are not merged.
    [80, "own", { connections: undefined, simple: "RANDOM", budget: 10, proxy: "V2" }],
    [81, "own", { connections: undefined, simple: "ROUND_ROBIN", budget: undefined, proxy: undefined }],
    // A subset's port takes the place of the four members that ports have.
    [80, "ports", { connections: 3, simple: undefined, budget: 10, proxy: "V2" }],
    [81, "ports", { connections: undefined, simple: "ROUND_ROBIN", budget: 20, proxy: undefined }],
    [80, "unknown", { connections: 1, simple: "RANDOM", budget: 10, proxy: "V2" }],
  ])("port %p subset %p", (port, subset, expected) => {
    const policy = effectivePolicy(written, port, subset);
    expect({
      connections: policy.connectionPool?.tcp?.maxConnections,
      simple: policy.loadBalancer?.simple,
      budget: policy.retryBudget?.percent,
      proxy: policy.proxyProtocol,
    }).toEqual(expected);
  });
});

test("routes look for what to hash by from the subset's port outwards", () => {
  const by = (httpHeaderName: string) => ({ loadBalancer: { consistentHash: { httpHeaderName } } });
  const { rule: written } = seen([
    rule("shop/a", {
      trafficPolicy: { ...by("whole"), portLevelSettings: [{ port: { number: 81 }, ...by("port") }] },
      subsets: [
        { name: "v1", labels: {} },
        {
          name: "v2",
          labels: {},
          trafficPolicy: { ...by("subset"), portLevelSettings: [{ port: { number: 82 }, ...by("both") }] },
        },
      ],
    }),
  ]);
  const found = (port: number, subset: string) => consistentHash(written, port, subset)?.headerName;
  expect([found(80, ""), found(81, ""), found(81, "v1"), found(81, "v2"), found(82, "v2")]).toEqual([
    "whole",
    "port",
    "port",
    "subset",
    "both",
  ]);
});
