import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { withApiDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "#controlplane/translate/options.ts";
import { namespace, object, pod, service, waypoint } from "#controlplane/translate/small-world.ts";
import { decide } from "./decide.ts";
import type { ReviewRequest } from "./review.ts";
import { sceneOf } from "./scene.ts";
import { mistakes, versions, type MistakenKind } from "./testing/catalogue.ts";

const shop: readonly KubeObject[] = [
  namespace("shop", { labels: { "istio.io/use-waypoint": "waypoint" } }),
  namespace("plain"),
  waypoint("shop/waypoint", { spec: { gatewayClassName: "istio-waypoint" } }),
  pod("shop/web", { labels: { app: "web", tier: "web" } }),
  ...["reviews", "ratings", "quiet"].map((name) => service(`shop/${name}`, { selector: { app: "web" } })),
  service("plain/alone", {}),
];

function sceneWith(...more: readonly KubeObject[]) {
  const world = new World();
  for (const each of withApiDefaults([...shop, ...more].map((written) => ({ object: written })))) world.upsert(each);
  return { world, scene: sceneOf(world, { ...defaultOptions, revision: "default" }) };
}

const { scene } = sceneWith();
const review = (object: unknown, rest: Partial<ReviewRequest> = {}): ReviewRequest => ({
  uid: "1",
  operation: "CREATE",
  subresource: "",
  resource: { group: "", version: "v1", resource: "" },
  object: object as ReviewRequest["object"],
  oldObject: undefined,
  ...rest,
});
const of = (kind: MistakenKind, spec: unknown, meta: object = {}): object => ({
  apiVersion: versions[kind],
  kind,
  metadata: { name: "a", namespace: "shop", ...meta },
  spec,
});
const judge = (object: unknown, rest: Partial<ReviewRequest> = {}) => decide(review(object, rest), scene);
const good = { hosts: ["quiet"], http: [{ route: [{ destination: { host: "quiet" } }] }] };
const bad = { hosts: ["quiet"], http: [{}] };
const wrong = "spec.http[0]: says nothing to do: set one of route, redirect, directResponse (or delegate)";

describe("a policy for a target that another one has", () => {
  const spec = {
    targetRefs: [{ group: "", kind: "Service", name: "quiet" }],
    validation: { hostname: "quiet.example", wellKnownCACertificates: "System" },
  };
  const older = { ...of("BackendTLSPolicy", spec), metadata: { name: "older", namespace: "shop" } } as KubeObject;

  test.each([
    ["a", {}, true],
    ["older", {}, false],
    ["a", { creationTimestamp: "2000-01-01T00:00:00Z" }, false],
  ])("%s, %j: %s", (name, meta, isWarned) => {
    const { mistakes: refused, warnings } = decide(
      review(of("BackendTLSPolicy", spec, { name, ...meta })),
      sceneWith(older).scene,
    );
    expect(refused).toEqual([]);
    expect(warnings).toEqual(isWarned ? ['"shop/older" is older and has the same target (Accepted: Conflicted)'] : []);
  });
});

describe("the catalogue", () => {
  test.each(mistakes.map((each) => [each.code, each.what, each] as const))(
    "%s %s is told when it is written",
    (_code, _what, { layer, kind, spec, told }) => {
      const { mistakes: refused, warnings } = judge(of(kind, spec));
      const said = (layer === "warned" ? warnings : refused).join("\n");
      for (const text of told) expect(said).toContain(text);
      expect(refused.length === 0).toBe(layer === "warned");
    },
  );

  // prettier-ignore
  test.each([ // code, kinds that have no effect here; where they are installed, their authors are told
    ["WP001", "extensions.istio.io/v1alpha1", "WasmPlugin",     "WasmPlugin has no effect in this mesh"],
    ["WP002", "extensions.istio.io/v1alpha1", "WasmPlugin",     "WasmPlugin has no effect in this mesh"],
    ["TE001", "extensions.istio.io/v1alpha1", "TrafficExtension", "TrafficExtension has no effect in this mesh"],
    ["-",     "networking.istio.io/v1",       "Sidecar",        "Sidecar has no effect in this mesh: there are no sidecars here"],
    ["-",     "networking.istio.io/v1",       "Gateway",        "write a Gateway of gateway.networking.k8s.io"],
  ])("%s %s %s is told that it does nothing", (_code, apiVersion, kind, told) => {
    const { mistakes: refused, warnings } = judge({ apiVersion, kind, metadata: { name: "a", namespace: "shop" } });
    expect(refused).toEqual([]);
    expect(warnings.join()).toContain(told);
  });

  test("every mistake is told at once, and once", () => {
    const spec = { hosts: ["*"], http: [{}, { ...good.http[0], retries: { attempts: 1, retryOn: "5XX" } }] };
    const { mistakes: refused } = judge(of("VirtualService", spec));
    expect(refused).toEqual([
      'spec.hosts[0]: "*" cannot be used for traffic in the mesh: name the service or bind to a gateway',
      wrong,
      'spec.http[1].retries.retryOn: unknown condition "5XX": did you mean "5xx"?',
    ]);
    const reach = {
      hosts: ["quiet"],
      http: [...good.http, { match: [{ sourceLabels: { a: "b" } }], ...good.http[0] }],
    };
    expect(judge(of("VirtualService", reach)).warnings).toHaveLength(2);
  });

  test("what is right is let pass without a word", () => {
    expect(judge(of("VirtualService", good))).toEqual({ mistakes: [], warnings: [] });
  });
});

describe("what is there already", () => {
  const old = of("VirtualService", bad) as ReviewRequest["object"];
  const update = (object: object) => judge(object, { operation: "UPDATE", oldObject: old });

  test("may get other metadata and another status, and says that it is not in force", () => {
    const labelled = of("VirtualService", bad, { labels: { a: "b" }, finalizers: ["x.io/y"] });
    expect(update({ ...labelled, status: { conditions: [] } })).toEqual({
      mistakes: [],
      warnings: [`not in force: ${wrong}`],
    });
  });

  test("is judged as a whole once its content changes, and not for mistakes of before alone", () => {
    expect(update(of("VirtualService", { ...bad, hosts: ["ratings"] })).mistakes).toEqual([wrong]);
    expect(update(of("VirtualService", good)).mistakes).toEqual([]);
  });

  test("cannot be made worse through its metadata", () => {
    const policy = { action: "AUDIT", rules: [{}], targetRefs: [{ kind: "Service", group: "", name: "quiet" }] };
    const before = of("AuthorizationPolicy", policy) as ReviewRequest["object"];
    const after = of("AuthorizationPolicy", policy, { annotations: { "istio.io/dry-run": "perhaps" } });
    expect(judge(after, { operation: "UPDATE", oldObject: before }).mistakes).toEqual([
      expect.stringContaining('"perhaps" is neither true nor false'),
    ]);
  });

  // prettier-ignore
  test.each<[string, Partial<ReviewRequest>, object]>([
    ["a deletion",                      { operation: "DELETE", oldObject: old, object: undefined }, {}],
    ["its status",                      { operation: "UPDATE", subresource: "status" },            {}],
    ["the last words of what is going", { operation: "UPDATE", oldObject: old },                   { deletionTimestamp: "2026-01-01T00:00:00Z" }],
    ["what is not asked about",         { operation: "CONNECT" },                                  {}],
  ])("%s is never refused", (_what, rest, meta) => {
    const object = of("VirtualService", { ...bad, hosts: ["*"] }, meta) as ReviewRequest["object"];
    expect(decide({ ...review(object), ...rest }, scene)).toEqual({ mistakes: [], warnings: [] });
  });
});

describe("what is not for this control plane is let pass", () => {
  const route = (parentRefs: unknown) => of("HTTPRoute", { parentRefs, rules: [{ future: 1 }] });
  const gateway = (gatewayClassName: string) =>
    object("gateway.networking.k8s.io/v1", "Gateway", "shop/g", { spec: { gatewayClassName, future: 1 } });

  // prettier-ignore
  test.each<[string, unknown, boolean]>([
    ["another revision",              of("VirtualService", bad, { labels: { "istio.io/rev": "other" } }),   false],
    ["our revision",                  of("VirtualService", bad, { labels: { "istio.io/rev": "default" } }), true],
    ["a route of a gateway",          route([{ name: "edge" }]),                                             false],
    ["a route of nothing",            route(undefined),                                                      false],
    ["a route of a service",          route([{ name: "edge" }, { kind: "Service", group: "", name: "a" }]),  true],
    ["a gateway of an unknown class", gateway("somebodys"),                                                  false],
    ["an ingress gateway",            gateway("istio"),                                                      false],
    ["a waypoint",                    gateway("istio-waypoint"),                                             true],
    ["a kind of no interest",         { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "a" } }, false],
  ])("%s", (_what, object, isJudged) => {
    expect(judge(object).mistakes.length > 0).toBe(isJudged);
  });
});

describe("what only the surroundings show", () => {
  const to = (destination: object) => ({ hosts: ["quiet"], http: [{ route: [{ destination }] }] });
  const targets = (name: string) => ({ targetRefs: [{ group: "", kind: "Service", name }] });
  const jwt = (name: string) => ({ ...targets(name), jwtRules: [{ issuer: "a", jwks: '{"keys":[]}' }] });
  const parent = (name: string, more: object = {}) => ({
    parentRefs: [{ group: "", kind: "Service", name, ...more }],
    rules: [{ backendRefs: [{ name: "quiet", port: 80 }] }],
  });

  // prettier-ignore
  test.each<[string, MistakenKind, object, string]>([
    ["no such service",      "VirtualService", to({ host: "nobody" }),            'spec.http[0].route[0].destination.host: there is no service "nobody.shop.svc.cluster.local"'],
    ["no such port",         "VirtualService", to({ host: "quiet", port: { number: 81 } }), '"quiet.shop.svc.cluster.local" has no port 81, its ports are 80'],
    ["no such subset",       "VirtualService", to({ host: "quiet", subset: "v3" }), 'subset: "v3" is not defined by any DestinationRule'],
    ["no waypoint",          "VirtualService", { ...good, hosts: ["alone.plain.svc.cluster.local"] }, "has no waypoint to do what is written here"],
    ["no such target",       "AuthorizationPolicy", { ...targets("nobody"), rules: [{}] }, "Service shop/nobody was not found (WaypointAccepted: TargetNotFound)"],
    ["no such authorizer",   "AuthorizationPolicy", { ...targets("quiet"), action: "CUSTOM", provider: { name: "x" }, rules: [{}] }, 'no extension provider "x"'],
    ["a rule for nobody",    "DestinationRule", { host: "nobody" },               'spec.host: there is no service "nobody.shop.svc.cluster.local"; the rule holds for nothing'],
    ["no target for tokens", "RequestAuthentication", jwt("nobody"),              "Service shop/nobody was not found"],
    ["tokens for nobody",    "RequestAuthentication", { jwtRules: jwt("quiet").jwtRules }, "Tokens are looked at by waypoints"],
    ["no such parent",       "HTTPRoute", parent("nobody"),                       "nobody"],
    ["a parent elsewhere",   "HTTPRoute", parent("alone", { namespace: "plain" }), "ignores the route"],
    ["no such backend",      "HTTPRoute", { ...parent("quiet"), rules: [{ backendRefs: [{ name: "gone", port: 80 }] }] }, "ResolvedRefs"],
    ["a wildcard alone",     "ServiceEntry", { hosts: ["*.example.com"], resolution: "DYNAMIC_DNS", ports: [{ number: 80, name: "http", protocol: "HTTP" }] }, ""],
  ])("%s (%s)", (_what, kind, spec, told) => {
    const { mistakes: refused, warnings } = judge(of(kind, spec));
    expect(refused).toEqual([]);
    expect(warnings.join("\n")).toContain(told);
  });

  test("is told of other kinds too", () => {
    const warnings = (apiVersion: string, kind: string, spec: object, meta: object = {}) =>
      judge({ apiVersion, kind, metadata: { name: "a", namespace: "plain", ...meta }, spec }).warnings.join();
    const limit = { limits: [{ name: "a", rates: [{ requests: 1, per: "1s" }] }], ...targets("alone") };
    expect(warnings("policy.ambit.dev/v1alpha1", "RateLimitPolicy", limit)).toContain("is not bound to a waypoint");
    expect(warnings("telemetry.istio.io/v1", "Telemetry", { ...targets("alone") })).toContain("is not bound");
    expect(warnings("networking.istio.io/v1alpha3", "EnvoyFilter", { configPatches: [] })).toContain("no sidecars");
    const missing = { labels: { "istio.io/use-waypoint": "nobody" } };
    expect(warnings("networking.istio.io/v1", "WorkloadEntry", { address: "10.0.0.1" }, missing)).toContain(
      'waypoint "plain/nobody" does not exist',
    );
    expect(
      warnings("networking.istio.io/v1", "ServiceEntry", { hosts: ["a.example.com"], resolution: "DNS" }, missing),
    ).toContain('waypoint "plain/nobody" does not exist');
  });

  test("an object replaces its former self, and changes of the world count at once", () => {
    const { world, scene: own } = sceneWith();
    const subset = of("VirtualService", to({ host: "quiet", subset: "v1" }));
    expect(decide(review(subset), own).warnings).toHaveLength(1);
    world.upsert(of("DestinationRule", { host: "quiet", subsets: [{ name: "v1" }] }) as KubeObject);
    expect(decide(review(subset), own).warnings).toEqual([]);
    const late = of("VirtualService", { ...to({ host: "late" }), hosts: ["late"] });
    expect(decide(review(late), own).warnings).toHaveLength(2);
    world.upsert(service("shop/late", { clusterIP: "10.96.0.77" }));
    expect(decide(review(late), own).warnings).toEqual([]);
    world.upsert(late as KubeObject);
    expect(decide(review(of("VirtualService", good)), own).warnings).toEqual([]);
  });

  test("services are not found anew for each of a thousand objects", () => {
    const { world, scene: own } = sceneWith();
    const before = own.mesh();
    world.upsert(of("VirtualService", good) as KubeObject);
    expect(own.mesh()).toBe(before);
    world.upsert(service("shop/more", { clusterIP: "10.96.0.78" }));
    expect(own.mesh()).not.toBe(before);
  });
});

test("anything at all gets an answer", () => {
  const kinds = Object.keys(versions) as MistakenKind[];
  const anything = fc.anything();
  fc.assert(
    fc.property(fc.constantFrom(...kinds), anything, anything, anything, (kind, spec, metadata, old) => {
      const object = { apiVersion: versions[kind], kind, metadata, spec };
      const oldObject = typeof old === "object" ? (old as ReviewRequest["object"]) : undefined;
      const { mistakes: refused } = judge(object, { operation: "UPDATE", oldObject: oldObject ?? undefined });
      return Array.isArray(refused);
    }),
  );
});

test("a name that is chosen later is no mistake", () => {
  const { mistakes: refused } = judge(of("VirtualService", good, { name: undefined, generateName: "canary-" }));
  expect(refused).toEqual([]);
});
