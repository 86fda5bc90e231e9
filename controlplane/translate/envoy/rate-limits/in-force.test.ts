import { describe, expect, test } from "@jest/globals";
import { object, serve, service, type Served } from "#controlplane/translate/small-world.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { contextOf } from "../golden-cases.ts";
import { policiesInForce } from "./in-force.ts";

const gatewayApi = "gateway.networking.k8s.io";
const rates = [{ requests: 1, per: "1m" }];

const target = (kind: string, name: string, sectionName?: string) => ({
  group: kind === "Service" ? "" : gatewayApi,
  kind,
  name,
  ...(sectionName === undefined ? {} : { sectionName }),
});

let seconds = 0;
/** Younger than every one made before. */
function policy(
  name: string,
  ref: ReturnType<typeof target>,
  spec: Readonly<Record<string, unknown>>,
  namespace = "shop",
): KubeObject {
  const creationTimestamp = new Date(Date.UTC(2026, 0, 1) + seconds++ * 1000).toISOString();
  return object(
    "policy.ambit.dev/v1alpha1",
    "RateLimitPolicy",
    `${namespace}/${name}`,
    { spec: { targetRefs: [ref], ...spec } },
    { creationTimestamp },
  );
}
const limits = (...names: readonly string[]) => ({ limits: names.map((name) => ({ name, rates })) });

const world = (...policies: readonly KubeObject[]): readonly KubeObject[] => [
  object("v1", "Namespace", "shop", {}, { labels: { "istio.io/use-waypoint": "waypoint" } }),
  object(`${gatewayApi}/v1`, "Gateway", "shop/waypoint", {
    spec: { gatewayClassName: "istio-waypoint", listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }] },
    status: { addresses: [{ type: "IPAddress", value: "10.96.0.100" }] },
  }),
  service("shop/a", { selector: { app: "a" } }),
  service("shop/b", { clusterIP: "10.96.0.2", selector: { app: "b" } }),
  object(
    "v1",
    "Service",
    "shop/alone",
    { spec: { clusterIP: "10.96.0.3", ports: [{ port: 80 }] } },
    { labels: { "istio.io/use-waypoint": "none" } },
  ),
  object(`${gatewayApi}/v1`, "HTTPRoute", "shop/r", {
    spec: {
      parentRefs: [{ group: "", kind: "Service", name: "a" }],
      rules: [{ name: "one", backendRefs: [{ name: "a", port: 80 }] }],
    },
  }),
  ...policies,
];

/** `policy: limits (except …)` for service `a`; routes in brackets. */
function inForce(...policies: readonly KubeObject[]): readonly string[] {
  const context = contextOf(world(...policies));
  const service = context.served.find(({ meta }) => meta.name === "a");
  return policiesInForce(context, service).map(({ policy: { meta }, routes, limits }) => {
    const short = (route: string): string => route.slice(route.lastIndexOf("/") + 1);
    const where = routes.length === 0 ? "" : `[${routes.map(short).join()}]`;
    const names = limits.map(({ limit, exceptRoutes }) =>
      exceptRoutes.length === 0 ? limit.name : `${limit.name} except ${exceptRoutes.map(short).join()}`,
    );
    return `${meta.name}${where}: ${names.join(", ")}`;
  });
}

const [gateway, ofA, ofB] = [target("Gateway", "waypoint"), target("Service", "a"), target("Service", "b")];
const gatewayClass = target("GatewayClass", "istio-waypoint");
const [route, rule] = [target("HTTPRoute", "r"), target("HTTPRoute", "r", "one")];

const bothOf = (name: string): KubeObject =>
  object("policy.ambit.dev/v1alpha1", "RateLimitPolicy", `shop/${name}`, {
    spec: { targetRefs: [rule, route], ...limits("x") },
  });

// prettier-ignore
test.each<[string, readonly KubeObject[], readonly string[]]>([ // why, policies, what counts on service a
  ["every level that is attached counts",         [policy("g", gateway, limits("x")), policy("s", ofA, limits("y")), policy("r", route, limits("z"))], ["g: x", "s: y", "r[r]: z"]],
  ["not that of another service",                 [policy("s", ofB, limits("x"))],                                                       []],
  ["a class, from the root namespace only",       [policy("c", gatewayClass, limits("x"), "istio-system"), policy("d", gatewayClass, limits("y"))], ["c: x"]],
  ["a narrower limit of the name replaces",       [policy("g", gateway, limits("x", "y")), policy("s", ofA, limits("x"))],               ["g: y", "s: x"]],
  ["but for its own routes only",                 [policy("s", ofA, limits("x", "y")), policy("r", route, limits("x"))],                 ["s: x except r, y", "r[r]: x"]],
  ["one rule of a route",                         [policy("s", ofA, limits("x")), policy("r", rule, limits("x"))],                       ["s: x except r#shop.r.one", "r[r#shop.r.one]: x"]],
  ["a route and a rule of it in one policy count once", [bothOf("r")],                                                                 ["r[r]: x"]],
  ["overrides win by name",                       [policy("g", gateway, { overrides: limits("x") }), policy("s", ofA, limits("x", "y"))], ["g: x", "s: y"]],
  ["atomic overrides win altogether",             [policy("g", gateway, { overrides: { ...limits("x"), strategy: "Atomic" } }), policy("s", ofA, limits("y"))], ["g: x"]],
  ["defaults lose by name",                       [policy("g", gateway, { defaults: limits("x", "y") }), policy("s", ofA, limits("x"))],  ["g: y", "s: x"]],
  ["atomic defaults lose altogether",             [policy("g", gateway, { defaults: { ...limits("x"), strategy: "Atomic" } }), policy("s", ofA, limits("y"))], ["s: y"]],
  ["defaults alone hold",                         [policy("g", gateway, { defaults: limits("x") })],                                     ["g: x"]],
  ["of two with one target and limit, the older", [policy("old", ofA, limits("x")), policy("new", ofA, limits("x", "y"))],               ["old: x"]],
  ["two with one target and different limits",    [policy("old", ofA, limits("x")), policy("new", ofA, limits("y"))],                    ["old: x", "new: y"]],
])("%s", (_why, policies, expected) => {
  expect(inForce(...policies)).toEqual(expected);
});

describe("what its status says", () => {
  const conditions = (served: Served, name: string): readonly string[] =>
    served.conditions("RateLimitPolicy", `shop/${name}`).filter((each) => !each.startsWith("Programmed"));

  // prettier-ignore
  test.each<[string, KubeObject, string]>([ // why, policy, condition
    ["a service behind a waypoint",    policy("p", ofA, limits("x")),                                    "Accepted=True/Accepted"],
    ["a route of such a service",      policy("p", route, limits("x")),                                  "Accepted=True/Accepted"],
    ["a rule of it",                   policy("p", rule, limits("x")),                                   "Accepted=True/Accepted"],
    ["no such rule",                   policy("p", target("HTTPRoute", "r", "two"), limits("x")),        "Accepted=False/TargetNotFound"],
    ["no such route",                  policy("p", target("GRPCRoute", "r"), limits("x")),               "Accepted=False/TargetNotFound"],
    ["a service without a waypoint",   policy("p", target("Service", "alone"), limits("x")),             "Accepted=False/UnsupportedValue"],
    ["no such service",                policy("p", target("Service", "c"), limits("x")),                 "Accepted=False/TargetNotFound"],
    ["a class from another namespace", policy("p", gatewayClass, limits("x")),                           "Accepted=False/Invalid"],
  ])("%s", (_why, each, expected) => {
    expect(conditions(serve(world(each)), "p")).toEqual([expected]);
  });

  test("in whose configuration it is", () => {
    const programmed = (...ref: Parameters<typeof target>): string =>
      serve(world(policy("p", target(...ref), limits("x"))))
        .conditions("RateLimitPolicy", "shop/p")
        .filter((each) => each.startsWith("Programmed"))
        .join();
    expect(programmed("Service", "a")).toBe("Programmed=True/Programmed");
    expect(programmed("Service", "alone")).toBe("Programmed=False/UnsupportedValue");
    expect(programmed("HTTPRoute", "r", "one")).toBe("Programmed=True/Programmed");
  });

  test("the younger of two that say the same", () => {
    const served = serve(world(policy("old", ofA, limits("x")), policy("new", ofA, limits("x"))));
    expect(conditions(served, "new")).toEqual(["Accepted=False/Conflicted"]);
    expect(conditions(served, "old")).toEqual(["Accepted=True/Accepted"]);
  });

  test("a service that cannot be asked", () => {
    const global = { service: { name: "limits", port: 8081 } };
    const body = { global, limits: [{ name: "x", scope: "Global", rates }] };
    expect(conditions(serve(world(policy("p", ofA, body))), "p")).toContain("ResolvedRefs=False/ServiceNotFound");
  });
});
