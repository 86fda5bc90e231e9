/**
 * The mistakes that people make, each in an object of namespace `shop`, where a waypoint stands before the services
 * `reviews`, `ratings` and `quiet`, whose pods have the labels `app: web` and `tier: web`.
 */

export const versions = {
  VirtualService: "networking.istio.io/v1",
  DestinationRule: "networking.istio.io/v1",
  ServiceEntry: "networking.istio.io/v1",
  AuthorizationPolicy: "security.istio.io/v1",
  RequestAuthentication: "security.istio.io/v1",
  PeerAuthentication: "security.istio.io/v1",
  HTTPRoute: "gateway.networking.k8s.io/v1",
  BackendTLSPolicy: "gateway.networking.k8s.io/v1",
  XBackendTrafficPolicy: "gateway.networking.x-k8s.io/v1alpha1",
} as const;
export type MistakenKind = keyof typeof versions;

/**
 * Who tells it while the object is written: the API server by the schema of its kind, the webhook by a refusal, or the
 * webhook by a warning, for what takes force all the same.
 */
export type Layer = "schema" | "refused" | "warned";

export interface Mistake {
  /** In the catalogue of messages; "-" for those beyond it. */
  readonly code: string;
  readonly layer: Layer;
  readonly what: string;
  readonly kind: MistakenKind;
  readonly spec: object;
  /** Parts of what is said. */
  readonly told: readonly string[];
}

const to = { route: [{ destination: { host: "quiet" } }] };
const vs = (http: object | undefined, more: object = {}) => ({
  hosts: ["quiet"],
  ...(http === undefined ? {} : { http: [http] }),
  ...more,
});
const dr = (trafficPolicy: object) => ({ host: "quiet", trafficPolicy });
const balancer = (loadBalancer: object) => dr({ loadBalancer });
const target = [{ group: "", kind: "Service", name: "quiet" }];
export const ap = (rule: object, more: object = {}) => ({ targetRefs: target, rules: [rule], ...more });
const jwt = (rule: object) => ({ targetRefs: target, jwtRules: [rule] });
const hr = (rule: object) => ({
  parentRefs: [{ group: "", kind: "Service", name: "quiet" }],
  rules: [{ backendRefs: [{ name: "quiet", port: 80 }], ...rule }],
});
const toQuiet = [{ group: "", kind: "Service", name: "quiet" }];
const btls = (validation: object, targetRefs: readonly object[] = toQuiet) => ({
  targetRefs,
  validation: { hostname: "quiet.example", ...validation },
});
const xbt = (more: object) => ({ targetRefs: toQuiet, ...more });
const system = { wellKnownCACertificates: "System" };
const caFrom = (kind: string, name: string) => ({ caCertificateRefs: [{ group: "", kind, name }] });
const http = (number: number) => [{ number, name: "http", protocol: "HTTP" }];
export const keys = '{"keys":[]}';

const mistake = (
  code: string,
  layer: Layer,
  what: string,
  kind: MistakenKind,
  spec: object,
  ...told: readonly string[]
): Mistake => ({ code, layer, what, kind, spec, told });

// prettier-ignore
export const mistakes: readonly Mistake[] = [
  mistake("VS001",  "refused",  "no routes",                        "VirtualService",         vs(undefined), "spec", "http, tcp or tls"),
  mistake("VS002",  "refused",  "every host in the mesh",           "VirtualService",         vs(to, { hosts: ["*"] }), 'spec.hosts[0]: "*"', "name the service"),
  mistake("VS003",  "refused",  "hosts that cover each other",      "VirtualService",         vs(to, { hosts: ["*.a.com", "b.a.com"] }), "spec.hosts[1]", "cover the same names"),
  mistake("VS010",  "refused",  "nothing to do",                    "VirtualService",         vs({ match: [{ uri: { prefix: "/" } }] }), "spec.http[0]", "set one of route, redirect, directResponse"),
  mistake("VS011",  "refused",  "two things to do",                 "VirtualService",         vs({ ...to, redirect: { uri: "/a" } }), "spec.http[0]: route and redirect are exclusive"),
  mistake("VS012",  "refused",  "a fault in a redirect",            "VirtualService",         vs({ redirect: { uri: "/" }, fault: { abort: { httpStatus: 500, percentage: { value: 1 } } } }), "spec.http[0].fault: has no effect with redirect"),
  mistake("VS013",  "refused",  "mirror and mirrors",               "VirtualService",         vs({ ...to, mirror: { host: "a" }, mirrors: [{ destination: { host: "a" } }] }), "spec.http[0].mirror", "use mirrors only"),
  mistake("VS020",  "refused",  "an empty prefix",                  "VirtualService",         vs({ ...to, match: [{ method: { prefix: "" } }] }), "spec.http[0].match[0].method.prefix: must not be empty"),
  mistake("VS021",  "refused",  "an expression that is not RE2",    "VirtualService",         vs({ ...to, match: [{ uri: { regex: "(?=a)" } }] }), "spec.http[0].match[0].uri.regex", "is not RE2"),
  mistake("VS022",  "schema",   "an expression too long",           "VirtualService",         vs({ ...to, match: [{ uri: { regex: "a".repeat(1_100) } }] }), "spec.http[0].match[0].uri.regex", "1024"),
  mistake("VS030",  "refused",  "weights of zero",                  "VirtualService",         vs({ route: ["a", "b"].map((host) => ({ destination: { host }, weight: 0 })) }), "spec.http[0].route: total weight is 0 with 2 destinations"),
  mistake("VS040",  "refused",  "retries that are none",            "VirtualService",         vs({ ...to, retries: { attempts: 0, retryOn: "5xx" } }), "spec.http[0].retries: attempts 0 disables retries: remove retryOn"),
  mistake("VS041",  "refused",  "a condition in capitals",          "VirtualService",         vs({ ...to, retries: { attempts: 1, retryOn: "5XX" } }), 'unknown condition "5XX": did you mean "5xx"?'),
  mistake("VS041",  "refused",  "a space between conditions",       "VirtualService",         vs({ ...to, retries: { attempts: 1, retryOn: "5xx, reset" } }), "write no spaces"),
  mistake("VS050",  "warned",   "a fault for nobody",               "VirtualService",         vs({ ...to, fault: { delay: { fixedDelay: "1s" } } }), "spec.http[0].fault.delay: has no percentage: nothing will happen"),
  mistake("VS060",  "warned",   "a route that is never reached",    "VirtualService",         vs(to, { http: [to, { match: [{ uri: { prefix: "/a" } }], ...to }] }), "spec.http[1]: is never reached: http[0] has no match"),
  mistake("VS070",  "warned",   "what waypoints do not look at",    "VirtualService",         vs({ ...to, match: [{ sourceLabels: { a: "b" } }] }), "spec.http[0].match[0].sourceLabels: is not supported at waypoints"),
  mistake("VS031",  "warned",   "an unknown subset",                "VirtualService",         vs({ route: [{ destination: { host: "quiet", subset: "v3" } }] }), 'subset: "v3" is not defined by any DestinationRule'),
  mistake("-",      "refused",  "a length set by hand",             "VirtualService",         vs({ ...to, headers: { request: { set: { "Content-Length": "5" } } } }), "headers.request.set.Content-Length", "belongs to the connection"),
  mistake("-",      "refused",  "a coding added by hand",           "VirtualService",         vs({ ...to, headers: { response: { add: { "transfer-encoding": "chunked" } } } }), "headers.response.add.transfer-encoding", "belongs to the connection"),
  mistake("-",      "refused",  "the host of an answer",            "VirtualService",         vs({ ...to, headers: { response: { set: { host: "a" } } } }), "headers.response.set.host", "cannot be changed so"),
  mistake("-",      "refused",  "the path as a header",             "VirtualService",         vs({ ...to, headers: { request: { set: { ":path": "/" } } } }), ":path", "cannot be changed so"),
  mistake("-",      "refused",  "a line break in a header",         "VirtualService",         vs({ ...to, headers: { request: { set: { x: "a\r\nb: c" } } } }), "headers.request.set.x", "control character"),
  mistake("-",      "refused",  "a substitution that is none",      "VirtualService",         vs({ ...to, headers: { request: { set: { x: "%NOTHING%" } } } }), "%NOTHING%", "stands for nothing"),
  mistake("DR001",  "refused",  "an empty policy",                  "DestinationRule",        dr({}), "spec.trafficPolicy: is empty"),
  mistake("DR010",  "refused",  "one subset twice",                 "DestinationRule",        { host: "quiet", subsets: [{ name: "v1" }, { name: "v1" }] }, 'spec.subsets[1].name: "v1" repeats that of entry 0'),
  mistake("DR020",  "refused",  "a table that is not prime",        "DestinationRule",        balancer({ consistentHash: { httpHeaderName: "x", maglev: { tableSize: 65_536 } } }), "maglev.tableSize: 65536 is not a prime", "65537"),
  mistake("DR030",  "refused",  "shares that are not all",          "DestinationRule",        balancer({ localityLbSetting: { distribute: [{ from: "a/*", to: { "a/*": 90 } }] } }), "localityLbSetting.distribute[0].to: sums to 90: must be 100"),
  mistake("DR031",  "warned",   "failover without reason",          "DestinationRule",        balancer({ localityLbSetting: { failover: [{ from: "a", to: "b" }] } }), "failover without outlierDetection"),
  mistake("DR040",  "refused",  "TLS without a certificate",        "DestinationRule",        dr({ tls: { mode: "MUTUAL" } }), "spec.trafficPolicy.tls: mode MUTUAL has no certificate", "credentialName"),
  mistake("DR050",  "warned",   "TLS that the mesh does anyway",    "DestinationRule",        dr({ tls: { mode: "ISTIO_MUTUAL" } }), "spec.trafficPolicy.tls: mode ISTIO_MUTUAL has no effect"),
  mistake("DR060",  "warned",   "settings lost for a port",         "DestinationRule",        dr({ outlierDetection: { interval: "1s" }, portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: "RANDOM" } }] }), "portLevelSettings[0]: replaces outlierDetection of the whole policy for port 80"),
  mistake("SE001",  "refused",  "one name to be looked up",         "ServiceEntry",           { hosts: ["api.example.com"], resolution: "DYNAMIC_DNS", ports: http(80) }, 'DYNAMIC_DNS hosts must be wildcards: "api.example.com" is not'),
  mistake("SE010",  "refused",  "endpoints that are not asked for", "ServiceEntry",           { hosts: ["api.example.com"], resolution: "NONE", ports: http(80), endpoints: [{ address: "1.2.3.4" }] }, "resolution NONE takes no endpoints"),
  mistake("AP001",  "schema",   "a denial of nothing",              "AuthorizationPolicy",    { targetRefs: target, action: "DENY" }, "without rules never matches"),
  mistake("AP010",  "schema",   "an empty source",                  "AuthorizationPolicy",    ap({ from: [{ source: { namespaces: ["a"] } }, { source: {} }] }), "spec.rules[0].from[1].source"),
  mistake("AP020",  "refused",  "an unknown condition",             "AuthorizationPolicy",    ap({ when: [{ key: "request.header[x]", values: ["a"] }] }), 'unknown condition key "request.header[x]": did you mean "request.headers[x]"?'),
  mistake("AP021",  "refused",  "a condition without values",       "AuthorizationPolicy",    ap({ when: [{ key: "source.ip" }] }), "spec.rules[0].when[0]", "values"),
  mistake("AP030",  "schema",   "a provider for nobody",            "AuthorizationPolicy",    ap({}, { provider: { name: "x" } }), "provider", "is only valid with action CUSTOM"),
  mistake("-",      "warned",   "a provider that there is not",     "AuthorizationPolicy",    ap({}, { action: "CUSTOM", provider: { name: "nobody" } }), 'no extension provider "nobody"'),
  mistake("AP040",  "refused",  "a trust domain with two stars",    "AuthorizationPolicy",    ap({ from: [{ source: { trustDomains: ["a*b*"] } }] }), "trustDomains[0]", "more than one wildcard"),
  mistake("-",      "refused",  "a template that goes on",          "AuthorizationPolicy",    ap({ to: [{ operation: { paths: ["/a/{**}/{*}"] } }] }), "paths[0]", "is not a path template"),
  mistake("-",      "refused",  "identities for an authorizer",     "AuthorizationPolicy",    ap({ from: [{ source: { requestPrincipals: ["a/b"] } }] }, { action: "CUSTOM", provider: { name: "x" } }), "requestPrincipals: is not known yet"),
  mistake("AP050",  "warned",   "requests at the node proxy",       "AuthorizationPolicy",    { selector: { matchLabels: { app: "nobody" } }, rules: [{ to: [{ operation: { paths: ["/a"] } }] }] }, "paths", "waypoint"),
  mistake("AP051",  "warned",   "labels behind a waypoint",         "AuthorizationPolicy",    { selector: { matchLabels: { tier: "web" } }, action: "DENY", rules: [{ from: [{ source: { principals: ["nobody"] } }] }] }, "spec.selector", "ignores policies with a selector", "targetRefs"),
  mistake("GW001",  "refused",  "a target that is none",            "AuthorizationPolicy",    { targetRefs: [{ group: "apps", kind: "Deployment", name: "a" }], rules: [{}] }, 'spec.targetRefs[0]: kind "Deployment"'),
  mistake("GW002",  "refused",  "a target elsewhere",               "AuthorizationPolicy",    { targetRefs: [{ ...target[0], namespace: "other" }], rules: [{}] }, "spec.targetRefs[0].namespace"),
  mistake("-",      "warned",   "a target that there is not",       "AuthorizationPolicy",    { targetRefs: [{ ...target[0], name: "nobody" }], rules: [{}] }, "nobody", "TargetNotFound"),
  mistake("RA001",  "refused",  "nobody's tokens",                  "RequestAuthentication",  jwt({ jwks: keys }), "spec.jwtRules[0]: has neither issuer nor jwksUri"),
  mistake("RA002",  "refused",  "keys twice",                       "RequestAuthentication",  jwt({ issuer: "a", jwks: keys, jwksUri: "https://a/b" }), "spec.jwtRules[0].jwksUri", "keep one of them"),
  mistake("-",      "refused",  "keys that are none",               "RequestAuthentication",  jwt({ issuer: "a", jwks: "x" }), "spec.jwtRules[0].jwks: is not a JSON Web Key Set"),
  mistake("-",      "refused",  "a claim as a length",              "RequestAuthentication",  jwt({ issuer: "a", jwks: keys, outputClaimToHeaders: [{ header: "Content-Length", claim: "a" }] }), "outputClaimToHeaders[0].header", "belongs to the connection"),
  mistake("PA001",  "schema",   "ports of nobody",                  "PeerAuthentication",     { portLevelMtls: { 80: { mode: "STRICT" } } }, "portLevelMtls", "selector.matchLabels"),
  mistake("GA001",  "schema",   "a redirect that is rewritten",     "HTTPRoute",              { ...hr({}), rules: [{ filters: [{ type: "RequestRedirect", requestRedirect: { port: 1 } }, { type: "URLRewrite", urlRewrite: { hostname: "a.b" } }] }] }, "RequestRedirect and URLRewrite cannot be combined"),
  mistake("GA002",  "schema",   "a prefix that is not matched",     "HTTPRoute",              hr({ matches: [{ path: { type: "Exact", value: "/a" } }], filters: [{ type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/a" } } }] }), "ReplacePrefixMatch requires exactly one PathPrefix match"),
  mistake("GA003",  "schema",   "a part longer than the whole",     "HTTPRoute",              hr({ timeouts: { request: "3s", backendRequest: "5s" } }), "backendRequest", "request"),
  mistake("GA004",  "schema",   "a path with two slashes",          "HTTPRoute",              hr({ matches: [{ path: { type: "PathPrefix", value: "/a//b" } }] }), "matches[0].path"),
  mistake("-",      "refused",  "a coding set by a filter",         "HTTPRoute",              hr({ filters: [{ type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "Transfer-Encoding", value: "chunked" }] } }] }), "requestHeaderModifier.set[0].name", "belongs to the connection"),
  mistake("-",      "schema",   "authorities twice",                "BackendTLSPolicy",       btls({ ...system, ...caFrom("ConfigMap", "ca") }), "spec.validation", "caCertificateRefs"),
  mistake("-",      "schema",   "nobody's authorities",             "BackendTLSPolicy",       btls({}), "spec.validation", "caCertificateRefs"),
  mistake("-",      "schema",   "one target twice",                 "BackendTLSPolicy",       btls(system, [...toQuiet, { ...toQuiet[0], sectionName: "http" }]), "spec.targetRefs", "apart by sectionName"),
  mistake("-",      "schema",   "a name of another type",           "BackendTLSPolicy",       btls({ ...system, subjectAltNames: [{ type: "URI", hostname: "a.example" }] }), "spec.validation.subjectAltNames[0]", "URI"),
  mistake("-",      "refused",  "an address to ask for",            "BackendTLSPolicy",       btls({ ...system, hostname: "10.0.0.7" }), 'spec.validation.hostname: "10.0.0.7" is an address'),
  mistake("-",      "warned",   "a target that there is not",       "BackendTLSPolicy",       btls(system, [{ ...toQuiet[0], name: "nobody" }]), 'Service "shop/nobody" was not found', "TargetNotFound"),
  mistake("-",      "warned",   "a port that there is not",         "BackendTLSPolicy",       btls(system, [{ ...toQuiet[0], sectionName: "nothing" }]), 'Service "shop/quiet" has no port named "nothing"', "TargetNotFound"),
  mistake("-",      "warned",   "a target of another kind",         "BackendTLSPolicy",       btls(system, [{ group: "apps", kind: "Deployment", name: "quiet" }]), 'spec.targetRefs[0]: kind "Deployment" of group "apps" is no target'),
  mistake("-",      "warned",   "a ConfigMap that there is not",    "BackendTLSPolicy",       btls(caFrom("ConfigMap", "nobody")), 'ConfigMap "shop/nobody" was not found', "Nothing is sent", "NoValidCACertificate"),
  mistake("-",      "warned",   "authorities in a Secret",          "BackendTLSPolicy",       btls(caFrom("Secret", "ca")), 'spec.validation.caCertificateRefs[0]: kind "Secret" is not read', "write a ConfigMap"),
  mistake("-",      "warned",   "an option of somebody else",       "BackendTLSPolicy",       { ...btls(system), options: { "example.com/versions": "1.3" } }, "spec.options", "example.com/versions", "has no effect"),
  mistake("-",      "schema",   "a budget of half a second",        "XBackendTrafficPolicy",  xbt({ retryConstraint: { budget: { interval: "500ms" } } }), "spec.retryConstraint.budget.interval", "from 1s to 1h"),
  mistake("-",      "schema",   "more than all requests",           "XBackendTrafficPolicy",  xbt({ retryConstraint: { budget: { percent: 101 } } }), "spec.retryConstraint.budget.percent", "100"),
  mistake("-",      "warned",   "sessions",                         "XBackendTrafficPolicy",  xbt({ sessionPersistence: { sessionName: "a" } }), "spec.sessionPersistence: is not supported", "consistentHash"),
];
