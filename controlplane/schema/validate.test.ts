import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { parse, parseAllDocuments } from "yaml";
import { configKinds } from "./kinds.ts";
import { formatProblem, hasErrors, type Problem } from "./problem.ts";
import { checkObject } from "./validate.ts";

const told = (severity: Problem["severity"], object: unknown): readonly string[] =>
  checkObject(object)
    .problems.filter((problem) => problem.severity === severity)
    .map(formatProblem);

const versions = {
  AuthorizationPolicy: "security.istio.io/v1",
  PeerAuthentication: "security.istio.io/v1",
  RequestAuthentication: "security.istio.io/v1",
  ServiceEntry: "networking.istio.io/v1",
  WorkloadEntry: "networking.istio.io/v1",
  VirtualService: "networking.istio.io/v1",
  DestinationRule: "networking.istio.io/v1",
  Telemetry: "telemetry.istio.io/v1",
  Gateway: "gateway.networking.k8s.io/v1",
  HTTPRoute: "gateway.networking.k8s.io/v1",
  GRPCRoute: "gateway.networking.k8s.io/v1",
  TCPRoute: "gateway.networking.k8s.io/v1",
} as const;

/** An object of `kind` whose spec is written in YAML. */
const of = (kind: keyof typeof versions, spec: string, metadata: object = {}): unknown => ({
  apiVersion: versions[kind],
  kind,
  metadata: { name: "x", namespace: "shop", ...metadata },
  spec: parse(spec) as unknown,
});

describe("a policy that is valid", () => {
  // prettier-ignore
  test.each([ // why, kind, spec
    ["no spec at all: allow nothing",  "AuthorizationPolicy", "{}"],
    ["ALLOW without rules",            "AuthorizationPolicy", "{action: ALLOW, rules: []}"],
    ["the empty rule",                 "AuthorizationPolicy", "{action: DENY, rules: [{}]}"],
    ["only not-values",                "AuthorizationPolicy", "{action: DENY, rules: [{when: [{key: source.principal, notValues: ['*']}]}]}"],
    ["every node-level attribute",     "AuthorizationPolicy", "{action: DENY, rules: [{from: [{source: {principals: [td/ns/a/sa/b], namespaces: [a*], ipBlocks: [10.0.0.0/8, '::1'], notIpBlocks: [10.1.1.1]}}], to: [{operation: {ports: ['80'], notPorts: ['0']}}]}]}"],
    ["service accounts by themselves", "AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a, ns/b]}}]}]}"],
    ["a target",                       "AuthorizationPolicy", "{targetRefs: [{kind: Service, name: cart, group: ''}], rules: [{to: [{operation: {methods: [GET]}}]}]}"],
    ["a custom authorizer",            "AuthorizationPolicy", "{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/admin/*]}}]}]}"],
    ["a claim",                        "AuthorizationPolicy", "{targetRefs: [{kind: Service, name: c}], rules: [{when: [{key: 'request.auth.claims[a][b.c]', values: [x]}]}]}"],
    ["a path template",                "AuthorizationPolicy", "{targetRefs: [{kind: Service, name: c}], rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}', '/{**}/a/b', '/a/{**}/']}}]}]}"],
    ["mesh-wide mode",                 "PeerAuthentication",  "{mtls: {mode: STRICT}}"],
    ["ports of chosen pods",           "PeerAuthentication",  "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}"],
    ["an external name",               "ServiceEntry",        "{hosts: [api.example.com], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}"],
    ["a wildcard with NONE",           "ServiceEntry",        "{hosts: ['*.example.com'], addresses: [10.0.0.0/8], ports: [{number: 443, name: tls, protocol: tls}]}"],
    ["several hosts over HTTP",        "ServiceEntry",        "{hosts: [a.b, c.d], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}"],
    ["wildcards resolved on demand",   "ServiceEntry",        "{hosts: ['*.example.com'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}"],
    ["a socket",                       "ServiceEntry",        "{hosts: [a.b], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: unix:///run/a.sock}]}"],
    ["a virtual machine",              "WorkloadEntry",       "{address: 10.0.0.1, labels: {app: vm}, serviceAccount: vm, weight: 3}"],
    ["a waypoint",                     "Gateway",             "{gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}"],
    ["a route of a service",           "HTTPRoute",           "{parentRefs: [{group: '', kind: Service, name: cart, port: 80}], rules: [{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: cart, port: 80, weight: 3}]}]}"],
    ["weighted routes",                "VirtualService",      "{hosts: [cart], http: [{route: [{destination: {host: cart, subset: v1}, weight: 90}, {destination: {host: cart, subset: v2}, weight: 10}]}]}"],
    ["subsets",                        "DestinationRule",     "{host: cart, subsets: [{name: v1, labels: {version: v1}}], trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1.5s}}}}"],
    ["a token issuer",                 "RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: 'https://a/keys'}]}"],
    ["switched-off metrics",           "Telemetry",           "{metrics: [{overrides: [{disabled: true}]}]}"],
  ] as const)("%s", (_why, kind, spec) => {
    expect(told("error", of(kind, spec))).toEqual([]);
  });
});

describe("a mistake is told with its field and its remedy", () => {
  // prettier-ignore
  test.each([ // kind, spec, the whole message
    ["AuthorizationPolicy", "{action: DENY}",                                     'spec: action DENY without rules never matches: add the rule "- {}" to match everything'],
    ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}}",              'spec: action CUSTOM without rules never matches: add the rule "- {}" to match everything'],
    ["AuthorizationPolicy", "{action: CUSTOM, rules: [{}]}",                      "spec: action CUSTOM needs a provider: name one of the mesh's extensionProviders in provider.name"],
    ["AuthorizationPolicy", "{provider: {name: a}}",                              "spec.provider: is only valid with action CUSTOM: leave it out, or write action: CUSTOM"],
    ["AuthorizationPolicy", "{action: allow}",                                    'spec.action: "allow" is not one of ALLOW, DENY, AUDIT, CUSTOM: did you mean "ALLOW"?'],
    ["AuthorizationPolicy", "{rule: []}",                                         'spec.rule: unknown field "rule": did you mean "rules"?'],
    ["AuthorizationPolicy", "{rules: {}}",                                        'spec.rules: expected a list, found an object: start each entry with "- "'],
    ["AuthorizationPolicy", "{rules: [{from: []}]}",                              "spec.rules[0].from: must not be empty: write an entry, or leave the field out"],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}",                  'spec.rules[0].from[0].source: is empty: name who may call, or leave "from" out to mean everybody'],
    ["AuthorizationPolicy", "{rules: [{to: [{operation: null}]}]}",               'spec.rules[0].to[0].operation: expected an object, found nothing (null): write an object, or leave the field out'],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {principals: ['']}}]}]}",  "spec.rules[0].from[0].source.principals[0]: must not be empty: write a value, or leave the field out"],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {principals: a}}]}]}",     'spec.rules[0].from[0].source.principals: expected a list, found the text "a": write a list: ["a"]'],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {ipBlocks: [1.2.3]}}]}]}", 'spec.rules[0].from[0].source.ipBlocks[0]: "1.2.3" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]}", 'spec.rules[0].from[0].source.serviceAccounts[0]: "a/b/c" is not a service account: write "account" or "namespace/account"'],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", 'spec.rules[0].from[0].source.serviceAccounts: cannot be combined with "namespaces": a service account names its namespace already'],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {trustDomains: ['a*b*']}}]}]}", 'spec.rules[0].from[0].source.trustDomains[0]: "a*b*" is not a trust domain: it has more than one wildcard: write "td", "td*" or "*td"'],
    ["AuthorizationPolicy", "{rules: [{to: [{operation: {ports: ['65536']}}]}]}", 'spec.rules[0].to[0].operation.ports[0]: "65536" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
    ["AuthorizationPolicy", "{rules: [{to: [{operation: {ports: ['80-90']}}]}]}", 'spec.rules[0].to[0].operation.ports[0]: "80-90" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
    ["AuthorizationPolicy", "{rules: [{to: [{operation: {ports: [80]}}]}]}",      'spec.rules[0].to[0].operation.ports[0]: expected text, found the number 80: put it in quotes: "80"'],
    ["AuthorizationPolicy", "{rules: [{when: [{key: source.ip}]}]}",              "spec.rules[0].when[0]: has neither values nor notValues: write at least one of them, with a value"],
    ["AuthorizationPolicy", "{rules: [{when: [{key: source.ips, values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "source.ips": did you mean "source.ip"?'],
    ["AuthorizationPolicy", "{rules: [{when: [{key: destination.namespace, values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "destination.namespace": a policy applies to its own namespace: use metadata.namespace'],
    ["AuthorizationPolicy", "{selector: {matchLabels: {app: a}}, targetRefs: [{kind: Service, name: a}]}", 'spec.targetRefs: excludes "selector", which is written too: keep one of them'],
    ["AuthorizationPolicy", "{targetRefs: [{kind: Deployment, group: apps, name: a}]}", 'spec.targetRefs[0]: kind "Deployment" of group "apps" is no target: write Service (group ""), ServiceEntry (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)'],
    ["AuthorizationPolicy", "{targetRefs: [{kind: Service, name: a, namespace: b}]}", "spec.targetRefs[0].namespace: references into other namespaces are not supported: leave the namespace out"],
    ["AuthorizationPolicy", "{selector: {matchLabels: {app: 'a*'}}}",             'spec.selector.matchLabels.app: "app: a*" holds "*": labels are compared as they are: write the whole value'],
    ["PeerAuthentication",  "{portLevelMtls: {80: {mode: STRICT}}}",              "spec.portLevelMtls: needs selector.matchLabels: name the pods whose ports these are"],
    ["PeerAuthentication",  "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}", 'spec.portLevelMtls["0"]: "0" is not a port: write a number from 1 to 65535'],
    ["PeerAuthentication",  "{mtls: {mode: strict}}",                             'spec.mtls.mode: "strict" is not one of UNSET, DISABLE, PERMISSIVE, STRICT: did you mean "STRICT"?'],
    ["RequestAuthentication", "{jwtRules: [{}]}",                                 "spec.jwtRules[0]: has neither issuer nor jwksUri: write at least the issuer"],
    ["RequestAuthentication", `{jwtRules: [{issuer: a, jwks: '{"keys": []}', jwksUri: 'https://a'}]}`, 'spec.jwtRules[0].jwksUri: excludes "jwks", which is written too: keep one of them'],
    ["ServiceEntry",        "{}",                                                 "spec.hosts: is missing: write a list"],
    ["ServiceEntry",        "{hosts: ['*']}",                                     'spec.hosts[0]: "*" is every host: name the service, or a suffix such as *.example.com'],
    ["ServiceEntry",        "{hosts: [a_b.com]}",                                 'spec.hosts[0]: "a_b.com" is not a host name: it has the label "a_b": write a DNS name such as api.example.com or "*.example.com"'],
    ["ServiceEntry",        "{hosts: [a.b], endpoints: [{address: 10.0.0.1}]}",   "spec.endpoints: resolution NONE takes no endpoints: leave them out, or use resolution STATIC"],
    ["ServiceEntry",        "{hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}", 'spec.endpoints[0].address: "c.d" is not an IP address: write one, or use resolution DNS'],
    ["ServiceEntry",        "{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 10.0.0.1}]}", "spec.endpoints: excludes workloadSelector, which is written too: keep one of them"],
    ["ServiceEntry",        "{hosts: [a.b], ports: [{number: 0, name: p}]}",      "spec.ports[0].number: 0 is out of range: write at least 1"],
    ["ServiceEntry",        "{hosts: [a.b], ports: [{number: 1, name: p}, {number: 1, name: q}]}", "spec.ports[1].number: 1 repeats that of entry 0: give each entry its own"],
    ["ServiceEntry",        "{hosts: [a.b], resolution: DYNAMIC_DNS}",            'spec.hosts[0]: DYNAMIC_DNS hosts must be wildcards: "a.b" is not: use resolution DNS for a single name'],
    ["ServiceEntry",        "{hosts: [a.b], resolution: DNS, addresses: [10.0.0.0/8]}", 'spec.addresses[0]: "10.0.0.0/8" is a range, which resolution DNS does not take: write single addresses'],
    ["WorkloadEntry",       "{}",                                                 "spec: has neither address nor network: write the address of the workload"],
    ["WorkloadEntry",       "{address: 10.0.0.1, ports: {http: 99999}}",          "spec.ports.http: 99999 is out of range: write at most 65535"],
    ["WorkloadEntry",       "{address: 'unix://x'}",                              'spec.address: "unix://x" is not a socket path: write it as unix:///run/app.sock or unix://@name'],
    ["VirtualService",      "{hosts: [a]}",                                       "spec: has no routes: define at least one of http, tcp or tls"],
    ["VirtualService",      "{hosts: ['*'], http: [{directResponse: {status: 200}}]}", 'spec.hosts[0]: "*" cannot be used for traffic in the mesh: name the service or bind to a gateway'],
    ["VirtualService",      "{hosts: [a], http: [{}]}",                           "spec.http[0]: says nothing to do: set one of route, redirect, directResponse (or delegate)"],
    ["VirtualService",      "{hosts: [a], http: [{route: [{destination: {host: b}}, {destination: {host: c}}]}]}", "spec.http[0].route: total weight is 0 with 2 destinations: give at least one a weight"],
    ["VirtualService",      "{hosts: [a], http: [{retries: {attempts: 1, retryOn: '5XX'}, route: [{destination: {host: b}}]}]}", 'spec.http[0].retries.retryOn: unknown condition "5XX": did you mean "5xx"?'],
    ["VirtualService",      "{hosts: [a], http: [{match: [{uri: {regex: '(?=a)'}}], route: [{destination: {host: b}}]}]}", 'spec.http[0].match[0].uri.regex: "(?=a)" is not RE2: invalid or unsupported Perl syntax: `(?=`: RE2 has no look-around and no back-references'],
    ["VirtualService",      "{hosts: [a], http: [{timeout: 5, route: [{destination: {host: b}}]}]}", 'spec.http[0].timeout: expected text, found the number 5: put it in quotes: "5"'],
    ["VirtualService",      "{hosts: [a], http: [{timeout: 5x, route: [{destination: {host: b}}]}]}", 'spec.http[0].timeout: "5x" is not a duration: write a number with a unit, such as "250ms", "10s" or "1h30m"'],
    ["DestinationRule",     "{host: a, trafficPolicy: {}}",                       "spec.trafficPolicy: is empty: write a setting, or leave it out"],
    ["DestinationRule",     "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}",    "spec.trafficPolicy.tls: mode MUTUAL has no certificate: write clientCertificate and privateKey, or credentialName"],
    ["DestinationRule",     "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize: 8388609 is more than a ring can have: write up to 8388608"],
    ["DestinationRule",     "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 65536 is not a prime below 5000011: write one, such as 65537"],
    ["Telemetry",           "{tracing: [{randomSamplingPercentage: 101}]}",       "spec.tracing[0].randomSamplingPercentage: 101 is out of range: write at most 100"],
    ["Gateway",             "{gatewayClassName: a, listeners: [{name: a, port: 1, protocol: HTTP}, {name: a, port: 2, protocol: HTTP}]}", 'spec.listeners[1].name: "a" repeats that of entry 0: give each entry its own'],
    ["HTTPRoute",           "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}]}", "spec.rules[0].filters: RequestRedirect and URLRewrite cannot be combined: keep one of them"],
    ["HTTPRoute",           "{rules: [{matches: [{path: {value: /a//b}}]}]}",     'spec.rules[0].matches[0].path.value: path "/a//b" contains "//": write the path as requests will carry it'],
    ["HTTPRoute",           "{rules: [{timeouts: {request: 3s, backendRequest: 5s}}]}", "spec.rules[0].timeouts.backendRequest: 5s exceeds request 3s: must not exceed the time of the whole request"],
    ["HTTPRoute",           "{rules: [{timeouts: {request: 1.5s}}]}",             'spec.rules[0].timeouts.request: "1.5s" is not a duration: write whole numbers with units, such as "250ms" or "1m30s"'],
    ["HTTPRoute",           "{rules: [{backendRefs: [{name: a}]}]}",              "spec.rules[0].backendRefs[0]: has no port: a Service is called on a port: write it"],
    ["GRPCRoute",           "{rules: [{matches: [{method: {}}]}]}",               "spec.rules[0].matches[0].method: has neither service nor method: write at least one of them"],
    ["TCPRoute",            "{rules: []}",                                        "spec.rules: must not be empty: write an entry, or leave the field out"],
  ] as const)("%s %s", (kind, spec, message) => {
    expect(told("error", of(kind, spec))).toEqual([message]);
  });

  test("all mistakes are told at once, those of form beside those of meaning", () => {
    const spec = "{action: Deny, rules: [{from: [{source: {}}], when: [{key: 1, values: []}]}], provider: {name: x}}";
    expect(told("error", of("AuthorizationPolicy", spec, { labels: { a: 1 } }))).toHaveLength(6);
  });
});

describe("what is accepted with a warning", () => {
  // prettier-ignore
  test.each([ // kind, spec, part of the message
    ["AuthorizationPolicy", "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}",  "uses paths, which the node proxy does not see: the rule denies nothing there"],
    ["AuthorizationPolicy", "{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['1']}}]}]}", "the rest of the rule denies without them"],
    ["AuthorizationPolicy", "{rules: [{when: [{key: remote.ip, values: [10.0.0.1]}]}]}",    "uses remote.ip, which the node proxy does not see: the rule allows nothing there"],
    ["AuthorizationPolicy", "{rules: [{from: [{source: {principals: [a*b]}}]}]}",           '"a*b" holds "*" in the middle, where it is an ordinary letter'],
    ["AuthorizationPolicy", "{selector: {matchLabels: {}}}",                                "selects every pod of the namespace"],
    ["VirtualService",      "{hosts: [a], http: [{route: [{destination: {host: b}}]}, {match: [{port: 1}], route: [{destination: {host: c}}]}]}", "spec.http[1]: is never reached: http[0] has no match"],
    ["Gateway",             "{gatewayClassName: istio-waypoint, listeners: [{name: a, port: 80, protocol: HTTP}]}", "is not used by a waypoint"],
  ] as const)("%s %s", (kind, spec, message) => {
    const object = of(kind, spec);
    expect(told("error", object)).toEqual([]);
    expect(told("warning", object).join()).toContain(message);
  });
});

// prettier-ignore
test.each([ // kind, spec, dry run, told
  ["AuthorizationPolicy", "{action: DENY, rules: [{}]}",          "true",  []],
  ["AuthorizationPolicy", "{rules: [{}]}",                        "false", []],
  ["AuthorizationPolicy", "{rules: [{}]}",                        "yes",   ['metadata.annotations["istio.io/dry-run"]: "yes" is neither true nor false: write "true" or "false", in quotes']],
  ["AuthorizationPolicy", "{action: AUDIT, rules: [{}]}",         "true",  ['metadata.annotations["istio.io/dry-run"]: action AUDIT has no dry run: leave the annotation out, or write action ALLOW or DENY']],
  ["PeerAuthentication",  "{mtls: {mode: STRICT}}",               "true",  ['metadata.annotations["istio.io/dry-run"]: only an AuthorizationPolicy has a dry run: the object would be in force: leave the annotation out']],
] as const)("%s %s with dry run %s", (kind, spec, dryRun, messages) => {
  const object = of(kind, spec, { annotations: { "istio.io/dry-run": dryRun } });
  expect(told("error", object)).toEqual(messages);
});

describe("objects as such", () => {
  // prettier-ignore
  test.each([ // why, object, told
    ["no object",            "text",                                                                       'expected an object, found "text": write apiVersion, kind, metadata'],
    ["no kind",              { apiVersion: "v1" },                                                         "kind: is missing: write it: kind: Service"],
    ["unknown version",      { apiVersion: "security.istio.io/v2", kind: "PeerAuthentication", metadata: { name: "a" } }, 'apiVersion: PeerAuthentication has no version "v2": write one of security.istio.io/v1, security.istio.io/v1beta1'],
    ["kind of another case", { apiVersion: "v1", kind: "service", metadata: { name: "a" } },               'kind: there is no kind "service": did you mean "Service"?'],
    ["mistyped kind of Kubernetes", { apiVersion: "v1", kind: "Servise", metadata: { name: "a" } },        'kind: there is no kind "Servise": did you mean "Service"?'],
    ["mistyped slice",       { apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlise" },                 'kind: there is no kind "EndpointSlise": did you mean "EndpointSlice"?'],
    ["no group",             { apiVersion: "v1", kind: "PeerAuthentication", metadata: { name: "a" } },    'kind: there is no kind "PeerAuthentication": did you mean security.istio.io/v1?'],
    ["mistyped group",       { apiVersion: "security.istio.oi/v1", kind: "PeerAuthentication" },           'apiVersion: "security.istio.oi" has no kind "PeerAuthentication": did you mean security.istio.io/v1?'],
    ["a bad name",           { apiVersion: "v1", kind: "Namespace", metadata: { name: "A_b" } },           'metadata.name: "A_b" is not a name: use lower-case letters, digits, "-" and "."'],
    ["a field too many",     { apiVersion: "v1", kind: "Namespace", metadata: { name: "a" }, sepc: {} },   'sepc: unknown field "sepc": did you mean "spec"?'],
  ] as const)("%s", (_why, object, message) => {
    expect(told("error", object)).toEqual([message]);
  });

  test("kinds that the mesh does not read mean nothing; those of Istio and of Gateway API are named", () => {
    const ofKind = (apiVersion: string, kind: string) => checkObject({ apiVersion, kind, metadata: { name: "a" } });
    expect(ofKind("apps/v1", "Deployment")).toEqual({ kind: "unread", problems: [] });
    const named = { kind: "unread", problems: [{ severity: "warning" }] };
    expect(ofKind("networking.istio.io/v1", "Sidecar")).toMatchObject(named);
    expect(ofKind("gateway.networking.k8s.io/v1", "ListenerSet")).toMatchObject(named);
    expect(ofKind("gateway.networking.x-k8s.io/v1alpha1", "XMesh")).toMatchObject(named);
  });

  test("anything at all gives an answer, never an exception", () => {
    const anyObject = fc.record({
      apiVersion: fc.constantFrom(...Object.values(versions)),
      kind: fc.constantFrom(...configKinds.map(({ kind }) => kind)),
      metadata: fc.anything(),
      spec: fc.anything(),
    });
    fc.assert(fc.property(fc.oneof(anyObject, fc.anything()), (object) => Array.isArray(checkObject(object).problems)));
  });

  test("a spec of the right fields with anything in them gives an answer", () => {
    const words = [
      "rules",
      "from",
      "source",
      "to",
      "operation",
      "when",
      "key",
      "values",
      "selector",
      "matchLabels",
      "hosts",
    ];
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof({ depthSize: "small" }, fc.string(), fc.integer(), fc.constant(null), tie("list"), tie("map")),
      list: fc.array(tie("tree"), { maxLength: 3 }),
      map: fc.dictionary(fc.constantFrom(...words), tie("tree"), { maxKeys: 4 }),
    }));
    fc.assert(
      fc.property(fc.constantFrom(...configKinds), tree, ({ group, kind, versions: [version] }, spec) => {
        const object = { apiVersion: `${group}/${version ?? ""}`, kind, metadata: { name: "a", namespace: "b" }, spec };
        return checkObject(object).kind === "read";
      }),
    );
  });
});

describe("golden worlds", () => {
  const root = new URL("../translate/testdata/wds/", import.meta.url);
  /** What Istio takes and never applies, we refuse: its author means to deny something. */
  const refusedOnPurpose = new Set(["41-ap-empty AuthorizationPolicy deny-nothing"]);

  test.each(readdirSync(root))("%s is accepted", (name) => {
    const text = readFileSync(new URL(`${name}/input.yaml`, root), "utf8");
    const refused = parseAllDocuments(text)
      .map((document) => document.toJS() as { kind?: string; metadata?: { name?: string } } | null)
      .filter((object) => object !== null && hasErrors(checkObject(object).problems))
      .map((object) => `${name} ${object?.kind ?? ""} ${object?.metadata?.name ?? ""}`);
    expect(refused.filter((each) => !refusedOnPurpose.has(each))).toEqual([]);
  });
});
