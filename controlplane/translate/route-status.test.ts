import { describe, expect, test } from "@jest/globals";
import { namespace, object, serve, service, serviceEntry, waypoint } from "./small-world.ts";

type Json = Readonly<Record<string, unknown>>;

const toCart = { group: "", kind: "Service", name: "cart" };
const backend = (more: Json = {}): Json => ({ name: "cart", port: 80, ...more });
const rule = (...backendRefs: readonly Json[]): Json => ({ backendRefs });

const route = (parentRefs: readonly Json[], rules: readonly Json[] = [], kind = "HTTPRoute", status?: Json) =>
  object(
    "gateway.networking.k8s.io/v1",
    kind,
    "shop/r",
    { spec: { parentRefs, rules }, ...(status === undefined ? {} : { status }) },
    { generation: 3 },
  );

/** The parents in the status of the route, with `type=status/reason` of their conditions. */
function parentsOf(objects: readonly object[], kind = "HTTPRoute"): readonly unknown[] {
  const { form } = serve(objects as never);
  const found = form.status.find((each) => each.kind === kind && each.name === "r");
  return (found?.status.parents ?? []).map(({ parentRef, controllerName, conditions }) => {
    expect(controllerName).toBe("istio.io/gateway-controller");
    expect(conditions.map(({ observedGeneration }) => observedGeneration)).toEqual(conditions.map(() => 3));
    return [parentRef, ...conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`)];
  });
}

const accepted = "Accepted=True/Accepted";
const resolved = ["ResolvedRefs=True/ResolvedRefs", "ResolvedWaypoints=True/ResolvedWaypoints"];
const world = [namespace("shop"), service("shop/cart", {})];

describe("parents", () => {
  test.each(["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"])("a Service is one of a %s", (kind) => {
    expect(parentsOf([...world, route([toCart], [rule(backend())], kind)], kind)).toEqual([
      [toCart, accepted, ...resolved],
    ]);
  });

  test("a reference is repeated as it was written; other namespaces need no grant", () => {
    const ref = { ...toCart, namespace: "other", port: 80 };
    expect(parentsOf([service("other/cart", {}), route([ref, ref])])).toEqual([[ref, accepted, ...resolved]]);
  });

  test("a ServiceEntry is one; a Gateway, a class unknown here and a Service of the wrong group are not told", () => {
    const entry = { group: "networking.istio.io", kind: "ServiceEntry", name: "a" };
    const others = [{ name: "wp" }, { kind: "Service", name: "cart" }, { group: "example.com", kind: "X", name: "x" }];
    expect(parentsOf([...world, serviceEntry("shop/a", {}), waypoint("shop/wp"), route([...others, entry])])).toEqual([
      [entry, accepted, ...resolved],
    ]);
    expect(parentsOf([...world, route(others)])).toEqual([]);
  });

  test.each(["Service", "ServiceEntry"])("a missing %s", (kind) => {
    const ref = { group: kind === "Service" ? "" : "networking.istio.io", kind, name: "nobody" };
    expect(parentsOf([...world, route([ref])])).toEqual([[ref, "Accepted=False/NoMatchingParent", ...resolved]]);
  });

  test.each([
    ["theirs", 0],
    ["istio-waypoint", 1],
  ])("behind a waypoint of class %s: %j told", (gatewayClassName, told) => {
    const bound = service("shop/cart", {}, { labels: { "istio.io/use-waypoint": "wp" } });
    expect(parentsOf([bound, waypoint("shop/wp", { spec: { gatewayClassName } }), route([toCart])])).toHaveLength(told);
    const inherited = namespace("shop", { labels: { "istio.io/use-waypoint": "wp" } });
    const plain = service("shop/cart", {});
    const objects = [inherited, plain, waypoint("shop/wp", { spec: { gatewayClassName } }), route([toCart])];
    expect(parentsOf(objects)).toHaveLength(told);
  });

  test.each<[string, Json, string]>([
    ["a port", { port: 80 }, accepted],
    ["a port that it has not", { port: 81 }, "Accepted=False/NoMatchingParent"],
    ["the name of a port", { sectionName: "http" }, accepted],
    ["a name that no port has", { sectionName: "grpc" }, "Accepted=False/NoMatchingParent"],
  ])("%s of a Service", (_what, where, verdict) => {
    const ref = { ...toCart, ...where };
    expect(parentsOf([...world, route([ref])])).toEqual([[ref, verdict, ...resolved]]);
  });

  test("of an HTTPRoute and a GRPCRoute for one port the older one is taken", () => {
    const later = object(
      "gateway.networking.k8s.io/v1",
      "GRPCRoute",
      "shop/r",
      { spec: { parentRefs: [toCart] } },
      { generation: 3 },
    );
    expect(parentsOf([...world, route([toCart]), later], "GRPCRoute")).toEqual([
      [toCart, "Accepted=False/RouteConflict", ...resolved],
    ]);
    expect(parentsOf([...world, later, route([toCart])])).toEqual([
      [toCart, "Accepted=False/RouteConflict", ...resolved],
    ]);
  });

  test("one of another namespace stands in nobody's way", () => {
    const parentRef = { ...toCart, namespace: "shop" };
    const stranger = object("gateway.networking.k8s.io/v1", "GRPCRoute", "a/older", {
      spec: { parentRefs: [parentRef] },
    });
    expect(parentsOf([...world, stranger, route([toCart])])).toEqual([[toCart, accepted, ...resolved]]);
  });

  test("a TLSRoute for other names than the service's own is taken only where names can be seen", () => {
    const tls = (hostname: string) =>
      object(
        "gateway.networking.k8s.io/v1",
        "TLSRoute",
        "shop/r",
        { spec: { parentRefs: [toCart], hostnames: [hostname] } },
        { generation: 3 },
      );
    expect(parentsOf([...world, tls("*.shop.svc.cluster.local")], "TLSRoute")).toEqual([
      [toCart, accepted, ...resolved],
    ]);
    expect(parentsOf([...world, tls("a.example.com")], "TLSRoute")).toEqual([
      [toCart, "Accepted=False/NoMatchingListenerHostname", ...resolved],
    ]);
    const known = service("shop/cart", { ports: [{ name: "tls", port: 443 }] });
    expect(parentsOf([namespace("shop"), known, tls("a.example.com")], "TLSRoute")).toEqual([
      [toCart, accepted, ...resolved],
    ]);
  });

  test("what a rule cannot do is said beside", () => {
    expect(parentsOf([...world, route([toCart], [{ sessionPersistence: {} }])])).toEqual([
      [toCart, accepted, ...resolved, "PartiallyInvalid=True/UnsupportedValue"],
    ]);
    const regex = { matches: [{ path: { type: "RegularExpression", value: "/a" } }] };
    expect(parentsOf([...world, route([toCart], [regex, { matches: [{ path: { value: "/" } }] }])])).toEqual([
      [toCart, accepted, ...resolved, "PartiallyInvalid=True/UnsupportedValue"],
    ]);
    expect(parentsOf([...world, route([toCart], [regex, { matches: [{ path: { value: "/b" } }] }])])).toEqual([
      [toCart, accepted, ...resolved],
    ]);
  });

  test("a route of another revision is not ours", () => {
    const foreign = route([toCart]) as { readonly metadata: object };
    const labels = { "istio.io/rev": "old" };
    expect(parentsOf([...world, { ...foreign, metadata: { ...foreign.metadata, labels } }])).toEqual([]);
  });

  test("what we said of a parent that is gone is taken back", () => {
    const status = { parents: [{ parentRef: toCart, controllerName: "istio.io/gateway-controller", conditions: [] }] };
    const { updates } = serve([...world, route([], [], "HTTPRoute", status)]);
    expect(updates.filter(({ kind }) => kind === "HTTPRoute")).toMatchObject([{ status: { parents: [] } }]);
    expect(serve([...world, route([])]).updates.filter(({ kind }) => kind === "HTTPRoute")).toEqual([]);
  });
});

const grant = object("gateway.networking.k8s.io/v1", "ReferenceGrant", "granting/g", {
  spec: {
    from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "shop" }],
    to: [{ group: "", kind: "Service" }],
  },
});

test.each<[string, readonly Json[], string]>([
  ["no rules", [], "True/ResolvedRefs"],
  ["one that exists", [rule(backend())], "True/ResolvedRefs"],
  ["a missing one", [rule(backend({ name: "nobody" }))], "False/BackendNotFound"],
  ["a missing one without weight", [rule(backend(), backend({ name: "nobody", weight: 0 }))], "True/ResolvedRefs"],
  ["one of another namespace, without a grant", [rule(backend({ namespace: "other" }))], "False/RefNotPermitted"],
  ["one of another namespace, granted", [rule(backend({ namespace: "granting" }))], "True/ResolvedRefs"],
  [
    "a granted one that is missing",
    [rule(backend({ namespace: "granting", name: "nobody" }))],
    "False/BackendNotFound",
  ],
  ["a port that the service has not", [rule(backend({ port: 81 }))], "False/BackendNotFound"],
  ["another kind", [rule(backend({ kind: "Pod" }))], "False/InvalidKind"],
  ["no port", [rule({ name: "cart" })], "False/InvalidDestination"],
  ["a hostname for a name", [rule(backend({ name: "cart.shop.svc" }))], "False/InvalidDestination"],
  ["the fatal one counts", [rule(backend({ name: "nobody" })), rule({ name: "cart" })], "False/InvalidDestination"],
  ["else the last", [rule(backend({ kind: "Pod" })), rule(backend({ name: "nobody" }))], "False/BackendNotFound"],
  [
    "a host of a ServiceEntry",
    [rule({ group: "networking.istio.io", kind: "Hostname", name: "a.example.com", port: 80 })],
    "True/ResolvedRefs",
  ],
  [
    "a host that nobody has",
    [rule({ group: "networking.istio.io", kind: "Hostname", name: "b.example.com", port: 80 })],
    "False/BackendNotFound",
  ],
  [
    "a host with a namespace",
    [rule({ group: "networking.istio.io", kind: "Hostname", name: "a.example.com", port: 80, namespace: "shop" })],
    "False/InvalidDestination",
  ],
  ["a filter of somebody else's", [{ filters: [{ type: "ExtensionRef" }] }], "False/InvalidFilter"],
  [
    "a mirror that is missing",
    [{ filters: [{ type: "RequestMirror", requestMirror: { backendRef: backend({ name: "nobody" }) } }] }],
    "False/BackendNotFound",
  ],
  ["a filter of a backend", [rule(backend({ filters: [{ type: "URLRewrite" }] }))], "False/InvalidFilter"],
])("backends: %s", (_what, rules, expected) => {
  const objects = [...world, service("granting/cart", {}), grant, serviceEntry("shop/a", {}), route([toCart], rules)];
  const [parent] = parentsOf(objects) as [readonly unknown[]];
  expect(parent).toContain(`ResolvedRefs=${expected}`);
});
