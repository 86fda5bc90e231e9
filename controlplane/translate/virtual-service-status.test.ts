import { expect, test } from "@jest/globals";
import { namespace, object, serve, service, waypoint } from "./small-world.ts";

type Json = Readonly<Record<string, unknown>>;

const destinationRule = object("networking.istio.io/v1", "DestinationRule", "shop/cart", {
  spec: { host: "cart", subsets: [{ name: "v1", labels: { version: "v1" } }] },
});
const virtualService = (spec: Json, path = "shop/cart", status: Json = {}) =>
  object("networking.istio.io/v1", "VirtualService", path, { spec, status }, { generation: 2 });
const world = [
  namespace("shop", { labels: { "istio.io/use-waypoint": "wp" } }),
  waypoint("shop/wp", { spec: { gatewayClassName: "istio-waypoint" } }),
  service("shop/cart", {}),
  destinationRule,
];
const to = (host: string, more: Json = {}): Json => ({ route: [{ destination: { host, ...more } }] });

function told(objects: readonly object[], name = "cart"): unknown {
  const update = serve([...world, ...objects] as never).updates.find(
    (each) => each.kind === "VirtualService" && each.name === name,
  );
  return update?.status.conditions?.map(({ type, status, reason, message, observedGeneration }) => {
    expect({ type, status, observedGeneration }).toEqual({
      type: "ambit.dev/Resolved",
      status: "False",
      observedGeneration: "2",
    });
    return `${reason}: ${message}`;
  });
}

const fails = "requests for it fail with 503";

test.each<[string, Json, string | undefined]>([
  ["a service that exists", { http: [to("cart")] }, undefined],
  [
    "its full name, a port and a subset",
    { http: [to("cart.shop.svc.cluster.local", { port: { number: 80 }, subset: "v1" })] },
    undefined,
  ],
  [
    "no such service",
    { http: [to("nobody")] },
    `HostNotFound: spec.http[0].route[0].destination.host: there is no service "nobody.shop.svc.cluster.local"; ${fails}`,
  ],
  [
    "a name with its namespace only",
    { http: [to("cart.shop")] },
    `HostNotFound: spec.http[0].route[0].destination.host: there is no service "cart.shop", write cart.shop.svc.cluster.local; ${fails}`,
  ],
  [
    "no such port",
    { http: [to("cart", { port: { number: 81 } })] },
    `PortNotFound: spec.http[0].route[0].destination.port: "cart.shop.svc.cluster.local" has no port 81, its ports are 80; ${fails}`,
  ],
  [
    "no such subset",
    { http: [to("cart", { subset: "v3" })] },
    `SubsetNotFound: spec.http[0].route[0].destination.subset: "v3" is not defined by any DestinationRule for "cart.shop.svc.cluster.local"; ${fails}`,
  ],
  [
    "a mirror that is nobody",
    { http: [{ ...to("cart"), mirror: { host: "nobody" } }] },
    `HostNotFound: spec.http[0].mirrors[0].destination.host: there is no service "nobody.shop.svc.cluster.local"; ${fails}`,
  ],
  [
    "a TCP route to nobody",
    { tcp: [to("nobody")] },
    `HostNotFound: spec.tcp[0].route[0].destination.host: there is no service "nobody.shop.svc.cluster.local"; ${fails}`,
  ],
  [
    "a rule behind one that takes everything",
    { http: [{ match: [{ uri: { prefix: "/" } }], ...to("cart") }, to("cart")] },
    "NeverReached: spec.http[1] is never reached: spec.http[0] takes every request",
  ],
  [
    "labels of the caller",
    { http: [{ match: [{ sourceLabels: { app: "web" } }], ...to("cart") }] },
    "NotSupported: spec.http[0].match[0].sourceLabels: a waypoint does not know its callers by that, and the match never applies",
  ],
  [
    "a delegate that is not there",
    { http: [{ delegate: { name: "inner" } }] },
    'DelegateNotFound: spec.http[0].delegate: there is no VirtualService "shop/inner"; the rule is left out',
  ],
])("destinations and rules: %s", (_what, spec, expected) => {
  expect(told([virtualService({ hosts: ["cart"], ...spec })])).toEqual(expected === undefined ? undefined : [expected]);
});

test.each<[string, Json, string]>([
  [
    "with hosts",
    { hosts: ["cart"], http: [to("cart")] },
    'VirtualService "shop/inner" has hosts, a delegate has none; the rule is left out',
  ],
  [
    "not exported",
    { exportTo: ["other"], http: [to("cart")] },
    'VirtualService "shop/inner" is not exported to namespace "shop"; the rule is left out',
  ],
  [
    "for other paths",
    { http: [{ match: [{ uri: { prefix: "/b" } }], ...to("cart") }] },
    'rule http[0] of VirtualService "shop/inner" has a match that no match of this rule holds together with, and is left out',
  ],
])("a delegate %s", (_what, spec, expected) => {
  const root = virtualService({
    hosts: ["cart"],
    http: [{ match: [{ uri: { prefix: "/a" } }], delegate: { name: "inner" } }],
  });
  const [reason] = told([root, virtualService(spec, "shop/inner")]) as [string];
  expect(reason).toContain(expected);
});

test.each<[string, Json, string | undefined]>([
  ["nobody", { hosts: ["nobody"] }, 'HostNotFound: spec.hosts[0]: there is no service "nobody.shop.svc.cluster.local"'],
  ["a gateway's", { hosts: ["nobody.example.com"], gateways: ["mesh", "edge"] }, undefined],
  ["many", { hosts: ["*.shop.svc.cluster.local"] }, undefined],
])("hosts: %s", (_what, spec, expected) => {
  expect(told([virtualService({ http: [to("cart")], ...spec })])).toEqual(
    expected === undefined ? undefined : [expected],
  );
});

test("a host whose waypoint is not there yet", () => {
  const labels = { "istio.io/use-waypoint": "missing" };
  const [reason] = told(
    [service("shop/late", {}, { labels }), virtualService({ hosts: ["late"], http: [to("late")] }, "shop/late")],
    "late",
  ) as [string];
  expect(reason).toContain('spec.hosts[0]: "late.shop.svc.cluster.local" is not bound to its waypoint: ');
});

test("a host without a waypoint, and one whose waypoint does not read this namespace", () => {
  const plain = service("other/plain", {});
  const spec = { hosts: ["plain"], http: [to("plain")] };
  expect(told([plain, virtualService(spec, "other/plain")], "plain")).toEqual([
    'WaypointMissing: spec.hosts[0]: "plain.other.svc.cluster.local" has no waypoint to do what is written here: set the label istio.io/use-waypoint',
  ]);
  const host = "cart.shop.svc.cluster.local";
  const [reason] = told([virtualService({ hosts: [host], http: [to(host)] }, "other/far")], "far") as [string];
  expect(reason).toContain(`the waypoint of "${host}" reads VirtualServices of its own namespace and the service's`);
});

test("what was said is taken back when all is well", () => {
  const status = { conditions: [{ type: "ambit.dev/Resolved", status: "False", reason: "HostNotFound", message: "" }] };
  expect(told([virtualService({ hosts: ["cart"], http: [to("cart")] }, "shop/cart", status)])).toEqual([]);
});
