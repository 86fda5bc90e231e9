import { describe, expect, test } from "@jest/globals";
import { lines, problemsOf } from "./testing/told.ts";

const service = "targetRefs: [{group: '', kind: Service, name: a}]";
const gateway = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]";
const rates = "rates: [{requests: 1, per: 1m}]";

const told = (spec: string): readonly string[] =>
  lines(problemsOf("policy.ambit.dev/v1alpha1", "RateLimitPolicy", `{${spec}}`));

const limit = (fields: string, others = ""): string =>
  `${service}, ${others} limits: [{name: l, ${rates}${fields === "" ? "" : `, ${fields}`}}]`;
const global = "global: {service: {name: limits, port: 8081}},";

describe("a policy that is valid", () => {
  // prettier-ignore
  test.each([ // why, spec
    ["the least",                 limit("")],
    ["every member of a key",     limit("key: [{header: {name: x}}, {cookie: {name: c}}, {queryParam: {name: q}}, {path: {normalise: Template}}]")],
    ["others of them",            limit("key: [{remoteAddress: {v4PrefixLength: 24}}, {sourcePrincipal: {}}, {requestPrincipal: {}}, {route: {}}]")],
    ["claims with dots",          limit("key: [{jwtClaim: {name: '[https://shop.example/plan][name]'}}, {jwtClaim: {name: realm.role}}]")],
    ["expressions everywhere",    limit(`match: [{when: ['request.path == "/"', 'source.namespace != "ops"']}], key: [{expression: {cel: request.host}}], cost: {request: {expression: 'size(request.path)'}}, overrides: [{when: {when: ['request.auth.claims.vip']}, unlimited: true}]`)],
    ["cost of an answer",         limit("cost: {response: {expression: 'response.size / 1024'}}")],
    ["cost of an answer, global", limit("scope: Global, cost: {response: {header: x-tokens}}", global)],
    ["a month, global",           `${service}, ${global} limits: [{name: l, scope: Global, rates: [{requests: 1, per: 720h}, {requests: 1, per: 8760h}, {requests: 1, per: 168h}]}]`],
    ["early, by the connection",  limit("match: [{when: ['source.ip.startsWith(\"10.\")']}], key: [{expression: {cel: source.namespace}}]", "phase: PreAuth,")],
    ["defaults of a gateway",     `${gateway}, defaults: {strategy: Atomic, limits: [{name: l, ${rates}}]}`],
  ])("%s", (_why, spec) => {
    expect(told(spec)).toEqual([]);
  });
});

describe("what an author is told", () => {
  // prettier-ignore
  test.each([ // why, spec, what is told
    ["no limit",                      service,                                                                   "spec.limits"],
    ["no target",                     `limits: [{name: l, ${rates}}]`,                                           "spec.targetRefs"],
    ["not such a kind",               `targetRefs: [{group: apps, kind: Deployment, name: a}], limits: [{name: l, ${rates}}]`, 'kind "Deployment" of group "apps" is no target'],
    ["a rule of a service",           `targetRefs: [{group: '', kind: Service, name: a, sectionName: r}], limits: [{name: l, ${rates}}]`, "spec.targetRefs[0].sectionName"],
    ["a condition without a truth",   limit("match: [{when: [request.path]}]"),                                  'spec.limits[0].match[0].when[0]: "request.path" cannot be used: it comes to a string, bool is wanted: the expression at position 1'],
    ["a condition that is cut off",   limit("match: [{when: ['request.path ==']}]"),                             "expected a value at position 16, found the end"],
    ["types that do not go together", limit("match: [{when: ['true', 'request.path == 1']}]"),                   "spec.limits[0].match[0].when[1]: \"request.path == 1\" cannot be used: == does not go with string and int at position 1"],
    ["a name that is not known",      limit("key: [{expression: {cel: request.pth}}]"),                          'spec.limits[0].key[0].expression.cel: "request.pth" cannot be used: attribute "request.pth" is not known'],
    ["a map as a key",                limit("key: [{expression: {cel: request.headers}}]"),                      "it comes to a map of string, string is wanted"],
    ["the answer, beforehand",        limit("cost: {request: {expression: response.size}}"),                     'attribute "response" is not known'],
    ["a text as cost",                limit("cost: {response: {expression: request.path}}"),                     "spec.limits[0].cost.response.expression"],
    ["nothing as cost",               limit("cost: {request: {}}"),                                              "spec.limits[0].cost.request: needs either a header or an expression"],
    ["two costs",                     limit("cost: {value: 1, request: {header: x}}"),                           "spec.limits[0].cost"],
    ["a pattern in an exception",     limit("overrides: [{when: {when: ['request.path.matches(\"(\")']}, unlimited: true}]"), "spec.limits[0].overrides[0].when.when[0]"],
    ["a pattern of a header",         limit("match: [{headers: [{name: x, regex: '(?=a)'}]}]"),                  'spec.limits[0].match[0].headers[0].regex: "(?=a)" is not RE2'],
    ["a pattern of a parameter",      limit("match: [{queryParams: [{name: x, regex: '('}]}]"),                  "spec.limits[0].match[0].queryParams[0].regex"],
    ["two members of a key",          limit("key: [{header: {name: a}, method: {}}]"),                           "spec.limits[0].key[0]: names several things: header, method: set exactly one of"],
    ["no member of a key",            limit("key: [{onMissing: Skip}]"),                                         "spec.limits[0].key[0]: names nothing"],
    ["brackets that do not close",    limit("key: [{jwtClaim: {name: '[a'}}]"),                                  "spec.limits[0].key[0].jwtClaim.name"],
    ["a path template",               limit("match: [{paths: ['/a/{**}/{*}']}]"),                                'spec.limits[0].match[0].paths[0]: "/a/{**}/{*}" is not a path template: it has "{*}" behind "{**}"'],
    ["nothing in a match",            limit("match: [{}]"),                                                      "spec.limits[0].match[0]"],
    ["two limits of one name",        `${service}, limits: [{name: l, ${rates}}, {name: l, ${rates}}]`,          "spec.limits[1]"],
    ["two windows of one length",     `${service}, limits: [{name: l, rates: [{requests: 1, per: 1m}, {requests: 2, per: 1m}]}]`, "spec.limits[0].rates[1]"],
    ["a window that is too long",     `${service}, limits: [{name: l, rates: [{requests: 1, per: 8761h}]}]`,     'spec.limits[0].rates[0].per: "8761h" is out of range'],
    ["no whole unit, global",         `${service}, ${global} limits: [{name: l, scope: Global, rates: [{requests: 1, per: 90s}]}]`, 'spec.limits[0].rates[0].per: "90s" is not a whole unit and the limit is Global'],
    ["global without a service",      limit("scope: Global"),                                                    "spec.limits[0].scope: Global needs a rate limit service"],
    ["local fields of a global one",  limit("scope: Global, maxKeys: 5", global),                                "spec.limits[0].maxKeys"],
    ["rates and no limit at once",    limit(`overrides: [{when: {methods: [GET]}, unlimited: true, ${rates}}]`), "needs either rates or unlimited: true"],
    ["early, by a path",              limit("match: [{paths: [/a]}]", "phase: PreAuth,"),                        "spec.limits[0].match[0].paths: is not known in phase PreAuth"],
    ["early, by a header in CEL",     limit("match: [{when: ['request.path == \"/\"']}]", "phase: PreAuth,"),    'attribute "request" is not known; known are source, destination, connection'],
    ["early, by a token",             limit("key: [{requestPrincipal: {}}]", "phase: PreAuth,"),                 "spec.limits[0].key[0].requestPrincipal"],
    ["defaults of a service",         `${service}, defaults: {limits: [{name: l, ${rates}}]}`,                   "spec.defaults: is for Gateways and GatewayClasses only"],
    ["both",                          `${gateway}, defaults: {limits: [{name: l, ${rates}}]}, overrides: {limits: [{name: l, ${rates}}]}`, "spec.overrides: excludes \"defaults\""],
    ["a header of the form",          limit("", "response: {headers: {set: {content-length: '1'}}},"),           "content-length"],
    ["a status that refuses nobody",  limit("", "response: {status: 200},"),                                     "spec.response.status"],
  ])("%s", (_why, spec, expected) => {
    expect(told(spec).join("\n")).toContain(expected);
  });
});
