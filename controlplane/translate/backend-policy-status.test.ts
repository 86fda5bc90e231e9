import { describe, expect, test } from "@jest/globals";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { namespace, object, serve, service, serviceEntry, waypoint } from "./small-world.ts";

type Json = Readonly<Record<string, unknown>>;

/** Of nobody. */
const certificate =
  "-----BEGIN CERTIFICATE-----\nMIIBkDCCATWgAwIBAgIUH2Cib40HgAi0ZlbgIbK9PKWgtG0wCgYIKoZIzj0EAwIw\nHDEaMBgGA1UEAwwRRXhhbXBsZSBBdXRob3JpdHkwIBcNMjYxMTIxMjMxOTM4WhgP\nMjEyNjEwMjgyMzE5MzhaMBwxGjAYBgNVBAMMEUV4YW1wbGUgQXV0aG9yaXR5MFkw\nEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbTy0Lw8TCOUYHX7WXvceSPgShXxKVIng\nV1/E+bqwzEYLbEy3FBQy1EtOy4cORfl1F8L+fILRA1hxKIFiQMtlm6NTMFEwHQYD\nVR0OBBYEFIGl5kBc1dC4Gv0ZQatNavi2Q14nMB8GA1UdIwQYMBaAFIGl5kBc1dC4\nGv0ZQatNavi2Q14nMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIh\nAKWKnXsso98lDkYfy5fBNp51zyDdPldmuHAPeMZt1HxYAiEAzjLb1kwAwlPMZ8oB\nHhBt15o/YWzxKgwqYgQm3/j8lqs=\n-----END CERTIFICATE-----\n";

const toCart = { group: "", kind: "Service", name: "cart" };
const system = { hostname: "cart.example", wellKnownCACertificates: "System" };
const refs = (...names: readonly string[]): Json => ({
  hostname: "cart.example",
  caCertificateRefs: names.map((name) => ({ group: "", kind: "ConfigMap", name })),
});

function tls(
  name: string,
  validation: Json,
  targetRefs: readonly Json[] = [toCart],
  more: Json = {},
  born = 10,
): KubeObject {
  const meta = { generation: 3, creationTimestamp: `2026-01-01T00:00:${born}Z` };
  return object(
    "gateway.networking.k8s.io/v1",
    "BackendTLSPolicy",
    `shop/${name}`,
    { spec: { targetRefs, validation }, ...more },
    meta,
  );
}

const traffic = (name: string, spec: Json, born = 10): KubeObject =>
  object(
    "gateway.networking.x-k8s.io/v1alpha1",
    "XBackendTrafficPolicy",
    `shop/${name}`,
    { spec: { targetRefs: [toCart], ...spec } },
    { generation: 3, creationTimestamp: `2026-01-01T00:00:${born}Z` },
  );

const rule = (trafficPolicy: Json): KubeObject =>
  object("networking.istio.io/v1", "DestinationRule", "shop/cart", { spec: { host: "cart", trafficPolicy } });

const ports = {
  ports: [
    { name: "http", port: 80 },
    { name: "http-b", port: 81 },
  ],
};
const world = [
  namespace("shop", { labels: { "istio.io/use-waypoint": "wp" } }),
  waypoint("shop/wp", { spec: { gatewayClassName: "istio-waypoint" } }),
  service("shop/cart", ports),
  object("v1", "ConfigMap", "shop/ca", { data: { "ca.crt": certificate } }),
];

/** Ancestors of a policy with what is told of each. */
function ancestorsOf(
  name: string,
  objects: readonly KubeObject[],
  base: readonly KubeObject[] = world,
): readonly unknown[] {
  const { form } = serve([...base, ...objects]);
  const found = form.status.find((each) => each.kind.endsWith("Policy") && each.name === name);
  return (found?.status.ancestors ?? []).map(({ ancestorRef, controllerName, conditions }) => {
    expect(controllerName).toBe("istio.io/gateway-controller");
    expect(conditions.map(({ observedGeneration }) => observedGeneration)).toEqual(conditions.map(() => 3));
    return [ancestorRef, ...conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`)];
  });
}

const [accepted, resolved, bound] = [
  "Accepted=True/Accepted",
  "ResolvedRefs=True/ResolvedRefs",
  "ResolvedWaypoints=True/ResolvedWaypoints",
];
const ofKind = (validation: Json, kind: string) => ({
  ...validation,
  caCertificateRefs: [{ group: "", kind, name: "ca" }],
});

describe("a BackendTLSPolicy", () => {
  // prettier-ignore
  test.each<[string, Json, readonly string[]]>([
    ["trusts the system",          system,                                            [accepted, resolved, bound]],
    ["trusts a ConfigMap",         refs("ca"),                                        [accepted, resolved, bound]],
    ["finds one of two",           refs("nowhere", "ca"),                             [accepted, "ResolvedRefs=False/InvalidCACertificateRef", bound]],
    ["finds no ConfigMap",         refs("nowhere"),                                   ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidCACertificateRef", bound]],
    ["names a Secret",             ofKind({ hostname: "cart.example" }, "Secret"),    ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidKind", bound]],
    ["trusts whom nobody knows",   { ...system, wellKnownCACertificates: "a.b/C" },   ["Accepted=False/Invalid", resolved, bound]],
  ])("%s", (_what, validation, told) => {
    expect(ancestorsOf("p", [tls("p", validation)])).toEqual([[toCart, ...told]]);
  });

  const entry = { group: "networking.istio.io", kind: "ServiceEntry", name: "outside" };
  const section = (name: string) => ({ ...toCart, sectionName: name });

  test("each target has its own answer; what is no service has none", () => {
    const foreign = { group: "multicluster.x-k8s.io", kind: "ServiceImport", name: "cart" };
    const targets = [section("http"), section("nothing"), { ...toCart, name: "nobody" }, entry, foreign];
    const missing = ["Accepted=False/TargetNotFound", resolved];
    expect(
      ancestorsOf("p", [
        serviceEntry("shop/outside", { ports: [{ number: 80, name: "http", protocol: "HTTP" }] }),
        tls("p", system, targets),
      ]),
    ).toEqual([
      [section("http"), accepted, resolved, bound],
      [section("nothing"), ...missing],
      [{ ...toCart, name: "nobody" }, ...missing],
      [entry, accepted, resolved, bound],
    ]);
  });

  test("without a waypoint it says so; behind another maker's nothing is said", () => {
    const plain = [namespace("shop"), service("shop/cart", {})];
    expect(ancestorsOf("p", [tls("p", system)], plain)).toEqual([
      [toCart, accepted, resolved, "ResolvedWaypoints=False/MissingUseWaypointLabel"],
    ]);
    const theirs = waypoint("shop/wp", { spec: { gatewayClassName: "theirs" } });
    const elsewhere = world.map((each) => (each.kind === "Gateway" ? theirs : each));
    expect(ancestorsOf("p", [tls("p", system)], elsewhere)).toEqual([]);
  });

  test("the oldest has the target, then the first by name; one for a port takes nothing from one for all", () => {
    const older = tls("older", system);
    const younger = tls("younger", system, [toCart], {}, 11);
    expect(ancestorsOf("older", [younger, older])).toEqual([[toCart, accepted, resolved, bound]]);
    expect(ancestorsOf("younger", [younger, older])).toEqual([[toCart, "Accepted=False/Conflicted", resolved, bound]]);
    expect(ancestorsOf("b", [tls("b", system), tls("a", system)])).toEqual([
      [toCart, "Accepted=False/Conflicted", resolved, bound],
    ]);
    const ofPort = tls("port", system, [section("http")], {}, 12);
    expect(ancestorsOf("port", [older, ofPort])).toEqual([[section("http"), accepted, resolved, bound]]);
    expect(ancestorsOf("older", [older, ofPort])).toEqual([[toCart, accepted, resolved, bound]]);
  });

  test("who cannot be met keeps the target: a younger one would let in what the older forbids", () => {
    const younger = tls("younger", system, [toCart], {}, 11);
    expect(ancestorsOf("younger", [tls("older", refs("nowhere")), younger])).toEqual([
      [toCart, "Accepted=False/Conflicted", resolved, bound],
    ]);
  });

  test("a DestinationRule with TLS of its own counts before it, for one port or for all", () => {
    const own = { tls: { mode: "SIMPLE" } };
    expect(ancestorsOf("p", [tls("p", system), rule(own)])).toEqual([
      [toCart, "Accepted=False/Conflicted", resolved, bound],
    ]);
    const ofPort = rule({ portLevelSettings: [{ port: { number: 81 }, ...own }] });
    expect(ancestorsOf("p", [tls("p", system), ofPort])).toEqual([[toCart, accepted, resolved, bound]]);
    expect(ancestorsOf("p", [tls("p", system, [section("http-b")]), ofPort])).toEqual([
      [section("http-b"), "Accepted=False/Conflicted", resolved, bound],
    ]);
  });

  test("what was told of a target that is no more is taken back", () => {
    const status = {
      ancestors: [{ ancestorRef: toCart, controllerName: "istio.io/gateway-controller", conditions: [] }],
    };
    const foreign = { group: "multicluster.x-k8s.io", kind: "ServiceImport", name: "cart" };
    const updates = (more: Json) =>
      serve([...world, tls("p", system, [foreign], more)]).form.status.filter(
        ({ kind }) => kind === "BackendTLSPolicy",
      );
    expect(updates({ status })).toMatchObject([{ status: { ancestors: [] } }]);
    expect(updates({})).toEqual([]);
  });
});

describe("an XBackendTrafficPolicy", () => {
  const partly = "PartiallyInvalid=True/UnsupportedValue";
  const budget = { retryConstraint: {} };
  // prettier-ignore
  test.each<[string, readonly KubeObject[], readonly string[]]>([
    ["bounds retries",                   [traffic("p", budget)],                                                   [accepted, bound]],
    ["asks for sessions",                [traffic("p", { sessionPersistence: {} })],                               [accepted, partly, bound]],
    ["has an older one before it",       [traffic("p", budget, 12), traffic("older", budget)],                     ["Accepted=False/Conflicted", bound]],
    ["has one before it that says none", [traffic("p", budget, 12), traffic("older", { sessionPersistence: {} })], [accepted, bound]],
    ["has a rule before it",             [traffic("p", budget), rule({ retryBudget: { percent: 5 } })],            ["Accepted=False/Conflicted", bound]],
  ])("%s", (_what, objects, told) => {
    expect(ancestorsOf("p", objects)).toEqual([[toCart, ...told]]);
  });
});
