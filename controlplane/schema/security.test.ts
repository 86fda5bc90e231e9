import { describe, expect, test } from "@jest/globals";
import type { Problem } from "./problem.ts";
import { lines, problemsOf } from "./testing/told.ts";

const versions = {
  AuthorizationPolicy: "security.istio.io/v1",
  PeerAuthentication: "security.istio.io/v1",
  RequestAuthentication: "security.istio.io/v1",
  Telemetry: "telemetry.istio.io/v1",
};

const told = (severity: Problem["severity"], kind: keyof typeof versions, spec: string): readonly string[] =>
  lines(problemsOf(versions[kind], kind, spec), severity);

// prettier-ignore
test.each<[keyof typeof versions, string, string | string[]]>([ // kind, spec, everything that is wrong with it
  ["AuthorizationPolicy", "{action: DENY}", 'spec: action DENY without rules never matches: add the rule "- {}" to match everything'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}}", 'spec: action CUSTOM without rules never matches: add the rule "- {}" to match everything'],
  ["AuthorizationPolicy", "{action: CUSTOM, rules: [{}]}", "spec: action CUSTOM needs a provider: name one of the mesh's extensionProviders in provider.name"],
  ["AuthorizationPolicy", "{action: ALLOW, provider: {name: a}, rules: [{}]}", "spec.provider: is only valid with action CUSTOM: leave it out, or write action: CUSTOM"],
  ["AuthorizationPolicy", "{rules: [{from: []}]}", "spec.rules[0].from: must not be empty: write an entry, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{from: [{}]}]}", 'spec.rules[0].from[0].source: is empty: name who may call, or leave "from" out to mean everybody'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}", 'spec.rules[0].from[0].source: is empty: name who may call, or leave "from" out to mean everybody'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: null}]}]}", "spec.rules[0].from[0].source: expected an object, found nothing (null): write an object, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{to: []}]}", "spec.rules[0].to: must not be empty: write an entry, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {}}]}]}", 'spec.rules[0].to[0].operation: is empty: name what may be called, or leave "to" out to mean everything'],
  ["AuthorizationPolicy", '{rules: [{when: [{key: "request.headers[x]"}]}]}', "spec.rules[0].when[0]: has neither values nor notValues: write at least one of them, with a value"],
  ["AuthorizationPolicy", '{rules: [{when: [{key: "request.header[x]", values: [a]}]}]}', 'spec.rules[0].when[0].key: unknown condition key "request.header[x]": did you mean "request.headers[x]"?'],
  ["AuthorizationPolicy", '{rules: [{when: [{key: "request.headers[x]", values: [""]}]}]}', "spec.rules[0].when[0].values[0]: must not be empty: write a value, or leave the field out"],
  ["AuthorizationPolicy", '{rules: [{when: [{key: "destination.labels[a]", values: [a]}]}]}', 'spec.rules[0].when[0].key: unknown condition key "destination.labels[a]": use selector.matchLabels'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: destination.namespace, values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "destination.namespace": a policy applies to its own namespace: use metadata.namespace'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: destination.user, values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "destination.user": use a selector'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: source.ip, values: [a]}]}]}", 'spec.rules[0].when[0].values[0]: "a" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
  ["AuthorizationPolicy", '{rules: [{when: [{key: destination.port, values: ["70000"]}]}]}', 'spec.rules[0].when[0].values[0]: "70000" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {serviceAccounts: ["*"]}}]}]}', 'spec.rules[0].from[0].source.serviceAccounts[0]: "*" holds "*": service accounts are compared as they are: write each one'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {serviceAccounts: ["a/b/c"]}}]}]}', 'spec.rules[0].from[0].source.serviceAccounts[0]: "a/b/c" is not a service account: write "account" or "namespace/account"'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {serviceAccounts: ["a"], principals: ["b"]}}]}]}', 'spec.rules[0].from[0].source.serviceAccounts: cannot be combined with "principals": a service account names its namespace already'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {serviceAccounts: ["a"], notNamespaces: ["b"]}}]}]}', 'spec.rules[0].from[0].source.serviceAccounts: cannot be combined with "notNamespaces": a service account names its namespace already'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {ipBlocks: ["1.2.3"]}}]}]}', 'spec.rules[0].from[0].source.ipBlocks[0]: "1.2.3" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {trustDomains: ["a*b*"]}}]}]}', 'spec.rules[0].from[0].source.trustDomains[0]: "a*b*" is not a trust domain: it has more than one wildcard: write "td", "td*" or "*td"'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {trustDomains: ["a*b"]}}]}]}', 'spec.rules[0].from[0].source.trustDomains[0]: "a*b" is not a trust domain: it has "*" in the middle: write "td", "td*" or "*td"'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {trustDomains: ["a/b"]}}]}]}', 'spec.rules[0].from[0].source.trustDomains[0]: "a/b" is not a trust domain: it holds a slash: write "td", "td*" or "*td"'],
  ["AuthorizationPolicy", '{rules: [{from: [{source: {principals: [""]}}]}]}', "spec.rules[0].from[0].source.principals[0]: must not be empty: write a value, or leave the field out"],
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {ports: ["a"]}}]}]}', 'spec.rules[0].to[0].operation.ports[0]: "a" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {ports: ["65536"]}}]}]}', 'spec.rules[0].to[0].operation.ports[0]: "65536" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {paths: ["/{**}/{*}"]}}]}]}', 'spec.rules[0].to[0].operation.paths[0]: "/{**}/{*}" is not a path template: it has "{*}" behind "{**}": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {paths: ["/a{*}"]}}]}]}', 'spec.rules[0].to[0].operation.paths[0]: "/a{*}" is not a path template: it has the segment "a{*}": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {paths: ["/a/{x}"]}}]}]}', 'spec.rules[0].to[0].operation.paths[0]: "/a/{x}" is not a path template: it has the segment "{x}": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {principals: [a]}}]}]}", "spec.rules[0].from[0].source.principals: is not known yet when an external authorizer is asked: leave it out, or use another action"],
  ["AuthorizationPolicy", '{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: "request.auth.claims[a]", values: [a]}]}]}', 'spec.rules[0].when[0].key: "request.auth.claims[a]" is not known yet when an external authorizer is asked: leave the condition out'],
  ["AuthorizationPolicy", "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}], rules: [{}]}", 'spec.targetRefs: excludes "selector", which is written too: keep one of them'],
  ["AuthorizationPolicy", "{targetRef: {kind: Service, name: a}, targetRefs: [{kind: Service, name: a}], rules: [{}]}", 'spec.targetRefs: excludes "targetRef", which is written too: keep one of them'],
  ["AuthorizationPolicy", "{targetRefs: [{kind: Deployment, group: apps, name: a}], rules: [{}]}", 'spec.targetRefs[0]: kind "Deployment" of group "apps" is no target: write Service (group ""), ServiceEntry (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)'],
  ["AuthorizationPolicy", "{targetRefs: [{kind: Service, name: a, namespace: b}], rules: [{}]}", "spec.targetRefs[0].namespace: references into other namespaces are not supported: leave the namespace out"],
  ["PeerAuthentication", '{portLevelMtls: {"80": {mode: STRICT}}}', "spec.portLevelMtls: needs selector.matchLabels: name the pods whose ports these are"],
  ["PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}", "spec.portLevelMtls: must not be empty: write a port, or leave the field out"],
  ["PeerAuthentication", '{selector: {matchLabels: {a: b}}, portLevelMtls: {"0": {mode: STRICT}}}', 'spec.portLevelMtls["0"]: "0" is not a port: write a number from 1 to 65535'],
  ["PeerAuthentication", "{mtls: {mode: NO}}", 'spec.mtls.mode: "NO" is not one of UNSET, DISABLE, PERMISSIVE, STRICT: write one of UNSET, DISABLE, PERMISSIVE, STRICT'],
  ["RequestAuthentication", "{jwtRules: [{}]}", "spec.jwtRules[0]: has neither issuer nor jwksUri: write at least the issuer"],
  ["RequestAuthentication", '{jwtRules: [{issuer: ""}]}', "spec.jwtRules[0]: has neither issuer nor jwksUri: write at least the issuer"],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, jwks: "{}", jwksUri: "https://a"}]}', ['spec.jwtRules[0].jwksUri: excludes "jwks", which is written too: keep one of them', 'spec.jwtRules[0].jwks: is not a JSON Web Key Set: write JSON of the form {"keys": [...]}']],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, jwks: "nope"}]}', 'spec.jwtRules[0].jwks: is not a JSON Web Key Set: write JSON of the form {"keys": [...]}'],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, jwksUri: "ftp://a"}]}', 'spec.jwtRules[0].jwksUri: "ftp://a" is not a web address: write it as https://issuer.example.com/keys'],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, audiences: [""]}]}', "spec.jwtRules[0].audiences[0]: must not be empty: write a value, or leave the field out"],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, fromHeaders: [{name: ""}]}]}', "spec.jwtRules[0].fromHeaders[0].name: must not be empty: write a value, or leave the field out"],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, fromParams: [""]}]}', "spec.jwtRules[0].fromParams[0]: must not be empty: write a value, or leave the field out"],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, fromCookies: [""]}]}', "spec.jwtRules[0].fromCookies[0]: must not be empty: write a value, or leave the field out"],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, outputClaimToHeaders: [{header: "a b", claim: c}]}]}', ['spec.jwtRules[0].outputClaimToHeaders[0].header: "a b" is not a header name: use letters, digits, "-" and "_"', 'spec.jwtRules[0].outputClaimToHeaders[0].header: "a b" is no name of a header: use letters, digits and dashes']],
  ["RequestAuthentication", "{jwtRules: [{issuer: a, outputClaimToHeaders: [{header: a}]}]}", "spec.jwtRules[0].outputClaimToHeaders[0].claim: is missing: write text"],
  ["RequestAuthentication", "{jwtRules: [{issuer: a, timeout: 0s}]}", 'spec.jwtRules[0].timeout: "0s" is too fine: must be at least 1ms with millisecond precision'],
  ["RequestAuthentication", '{jwtRules: [{issuer: a, spaceDelimitedClaims: [""]}]}', "spec.jwtRules[0].spaceDelimitedClaims[0]: must not be empty: write a value, or leave the field out"],
  ["Telemetry", "{tracing: [{randomSamplingPercentage: 101}]}", "spec.tracing[0].randomSamplingPercentage: 101 is out of range: write at most 100"],
  ["Telemetry", '{tracing: [{providers: [{name: ""}]}]}', "spec.tracing[0].providers[0].name: must not be empty: write a value, or leave the field out"],
  ["Telemetry", "{tracing: [{customTags: {a: {}}}]}", "spec.tracing[0].customTags.a: has no value: write one of literal, environment, header, formatter"],
  ["Telemetry", "{tracing: [{customTags: {a: {literal: {value: x}, header: {name: y}}}}]}", 'spec.tracing[0].customTags.a.header: excludes "literal", which is written too: keep one of them'],
  ["Telemetry", "{tracing: [{customTags: {a: {literal: {}}}}]}", "spec.tracing[0].customTags.a.literal.value: is missing: write text"],
  ["Telemetry", "{metrics: [{reportingInterval: 0s}]}", 'spec.metrics[0].reportingInterval: "0s" is too fine: must be at least 1ms with millisecond precision'],
  ["Telemetry", "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: a}}]}]}", 'spec.metrics[0].overrides[0].match.customMetric: excludes "metric", which is written too: keep one of them'],
  ["Telemetry", '{metrics: [{overrides: [{match: {customMetric: ""}}]}]}', "spec.metrics[0].overrides[0].match.customMetric: must not be empty: write a value, or leave the field out"],
  ["Telemetry", "{metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]}", "spec.metrics[0].overrides[0].tagOverrides.a: needs a value: write an expression, or operation: REMOVE"],
  ["Telemetry", "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]}", "spec.metrics[0].overrides[0].tagOverrides.a.value: has no meaning with operation REMOVE: leave it out"],
  ["Telemetry", '{accessLogging: [{filter: {expression: "response.code >"}}]}', 'spec.accessLogging[0].filter.expression: cannot be used: expected a value at position 16, found the end: write an expression such as response.code >= 400 or request.headers["x-user"]'],
  ["AuthorizationPolicy", "{selector: {matchLabels: {'': a}}}", 'spec.selector.matchLabels[""]: "" is not a label key: write it as "app" or "example.com/app"'],
  ["AuthorizationPolicy", "{targetRefs: [{kind: Service, group: '', name: ''}]}", "spec.targetRefs[0].name: must not be empty: write a value, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'request.auth.claims', values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "request.auth.claims": did you mean "request.auth.claims[name]"?'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'request.headers', values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "request.headers": did you mean "request.headers[name]"?'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'request.headers[]', values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "request.headers[]": did you mean "request.headers[name]"?'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'destination.port', values: [x]}]}]}", 'spec.rules[0].when[0].values[0]: "x" is not a port: write a number from 0 to 65535 in quotes, such as "8080"'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'remote.ip', notValues: [x]}]}]}", 'spec.rules[0].when[0].notValues[0]: "x" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'source.serviceAccount', values: [a/b/c]}]}]}", 'spec.rules[0].when[0].values[0]: "a/b/c" is not a service account: write "account" or "namespace/account"'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a], notPrincipals: [b]}}]}]}", 'spec.rules[0].from[0].source.serviceAccounts: cannot be combined with "notPrincipals": a service account names its namespace already'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {notServiceAccounts: [a], principals: [b]}}]}]}", 'spec.rules[0].from[0].source.notServiceAccounts: cannot be combined with "principals": a service account names its namespace already'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {notTrustDomains: ['a/b']}}]}]}", 'spec.rules[0].from[0].source.notTrustDomains[0]: "a/b" is not a trust domain: it holds a slash: write "td", "td*" or "*td"'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {notNamespaces: [a]}}]}]}", "spec.rules[0].from[0].source.notNamespaces: is not known yet when an external authorizer is asked: leave it out, or use another action"],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {trustDomains: [a]}}]}]}", "spec.rules[0].from[0].source.trustDomains: is not known yet when an external authorizer is asked: leave it out, or use another action"],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {requestPrincipals: [a]}}]}]}", "spec.rules[0].from[0].source.requestPrincipals: is not known yet when an external authorizer is asked: leave it out, or use another action"],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: source.principal, values: [a]}]}]}", 'spec.rules[0].when[0].key: "source.principal" is not known yet when an external authorizer is asked: leave the condition out'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: source.trustDomain, values: [a]}]}]}", 'spec.rules[0].when[0].key: "source.trustDomain" is not known yet when an external authorizer is asked: leave the condition out'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: source.serviceAccount, values: [a]}]}]}", 'spec.rules[0].when[0].key: "source.serviceAccount" is not known yet when an external authorizer is asked: leave the condition out'],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: source.namespace, values: [a]}]}]}", 'spec.rules[0].when[0].key: "source.namespace" is not known yet when an external authorizer is asked: leave the condition out'],
  ["AuthorizationPolicy", "{rules: [null]}", "spec.rules[0]: expected an object, found nothing (null): write an object, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/a/{**}/{**}']}}]}]}", 'spec.rules[0].to[0].operation.paths[0]: "/a/{**}/{**}" is not a path template: it has "{**}" behind "{**}": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/a/{*}/*']}}]}]}", 'spec.rules[0].to[0].operation.paths[0]: "/a/{*}/*" is not a path template: it has the segment "*": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['{*}']}}]}]}", 'spec.rules[0].to[0].operation.paths[0]: "{*}" is not a path template: it does not begin with a slash: write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/{*']}}]}]}", 'spec.rules[0].to[0].operation.paths[0]: "/{*" is not a path template: it has the segment "{*": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['/{*}}']}}]}]}", 'spec.rules[0].to[0].operation.paths[0]: "/{*}}" is not a path template: it has the segment "{*}}": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {notPaths: ['/a b/{*}']}}]}]}", 'spec.rules[0].to[0].operation.notPaths[0]: "/a b/{*}" is not a path template: it has the segment "a b": write it as "/shops/{*}/books" or "/files/{**}"'],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {remoteIpBlocks: ['x']}}]}]}", 'spec.rules[0].from[0].source.remoteIpBlocks[0]: "x" is not an IP address or range: write it as 10.0.0.7, 10.0.0.0/8 or fd00::/8'],
  ["AuthorizationPolicy", "{rules: [{to: [{operation: {hosts: ['']}}]}]}", "spec.rules[0].to[0].operation.hosts[0]: must not be empty: write a value, or leave the field out"],
  ["AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a]}}]}]}", "spec.rules[0].from[0].source.serviceAccounts: has 17 entries, allowed are at most 16: write fewer"],
  ["RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: 'file:///x'}]}", 'spec.jwtRules[0].jwksUri: "file:///x" is not a web address: write it as https://issuer.example.com/keys'],
  ["RequestAuthentication", "{jwtRules: [{issuer: a, fromHeaders: [{prefix: x}]}]}", "spec.jwtRules[0].fromHeaders[0].name: is missing: write text"],
  ["RequestAuthentication", "{jwtRules: [{issuer: a, timeout: 5}]}", 'spec.jwtRules[0].timeout: expected text, found the number 5: put it in quotes: "5"'],
  ["Telemetry", "{tracing: [{providers: [{}]}]}", "spec.tracing[0].providers[0].name: is missing: write text"],
  ["Telemetry", "{accessLogging: [{filter: {expression: 'nope.x == 1'}}]}", 'spec.accessLogging[0].filter.expression: cannot be used: attribute "nope" is not known; known are source, destination, connection, downstream_peer, node, request, xds, metadata, filter_state, response, upstream, upstream_peer: at position 1: write an expression such as response.code >= 400 or request.headers["x-user"]'],
  ["Telemetry", "{metrics: [{overrides: [{match: {metric: NOPE}}]}]}", 'spec.metrics[0].overrides[0].match.metric: "NOPE" is not one of ALL_METRICS, REQUEST_COUNT, REQUEST_DURATION, REQUEST_SIZE, RESPONSE_SIZE, TCP_OPENED_CONNECTIONS, TCP_CLOSED_CONNECTIONS, TCP_SENT_BYTES, TCP_RECEIVED_BYTES, GRPC_REQUEST_MESSAGES, GRPC_RESPONSE_MESSAGES: write one of ALL_METRICS, REQUEST_COUNT, REQUEST_DURATION, REQUEST_SIZE, RESPONSE_SIZE, TCP_OPENED_CONNECTIONS, TCP_CLOSED_CONNECTIONS, TCP_SENT_BYTES, TCP_RECEIVED_BYTES, GRPC_REQUEST_MESSAGES, GRPC_RESPONSE_MESSAGES'],
  ["PeerAuthentication", '{mtls: {mode: PERMISSIVE}, selector: {matchLabels: {a: b}}, portLevelMtls: {"65536": {mode: STRICT}}}', 'spec.portLevelMtls["65536"]: "65536" is not a port: write a number from 1 to 65535'],
  ["PeerAuthentication", "{targetRefs: [{kind: Service, name: a}]}", 'spec.targetRefs: unknown field "targetRefs": fields here are selector, mtls, portLevelMtls'],
  ["AuthorizationPolicy", "{rules: [{when: [{key: 'request.auth.claims[]', values: [a]}]}]}", 'spec.rules[0].when[0].key: unknown condition key "request.auth.claims[]": did you mean "request.auth.claims[name]"?'],
])("%s %s", (kind, spec, messages) => {
  expect(told("error", kind, spec)).toEqual([messages].flat());
});

describe("accepted with a warning", () => {
  // prettier-ignore
  test.each<[keyof typeof versions, string, string | string[]]>([
    ["AuthorizationPolicy", '{rules: [{to: [{operation: {paths: ["/a*b"]}}]}]}', ['spec.rules[0].to[0].operation.paths[0]: "/a*b" holds "*" in the middle, where it is an ordinary letter: write "*" first or last', "spec.rules[0]: uses paths, which the node proxy does not see: the rule allows nothing there: attach the policy to a waypoint with targetRefs"]],
    ["AuthorizationPolicy", "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}", "spec.rules[0]: uses methods, which the node proxy does not see: the rule denies nothing there: attach the policy to a waypoint with targetRefs"],
    ["AuthorizationPolicy", "{selector: {matchLabels: {}}, rules: [{}]}", "spec.selector: selects every pod of the namespace: leave the selector out to say so, or name labels"],
    ["PeerAuthentication", "{selector: {matchLabels: {}}, mtls: {mode: STRICT}}", "spec.selector: selects every pod of the namespace: leave the selector out to say so, or name labels"],
    ["Telemetry", "{tracing: [{}, {}]}", "spec.tracing: has more than one entry: only the first is used: write one"],
    ["Telemetry", "{tracing: [{providers: [{name: a}, {name: b}]}]}", "spec.tracing[0].providers: names more than one provider: only the first is used: write one"],
    ["RequestAuthentication", `{jwtRules: [{issuer: a, jwks: '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"}]}'}]}`, "spec.jwtRules[0].jwks: holds a private key: write public keys only, and replace that key pair"],
  ])("%s %s", (kind, spec, messages) => {
    expect(told("error", kind, spec)).toEqual([]);
    expect(told("warning", kind, spec)).toEqual([messages].flat());
  });
});

// prettier-ignore
test.each<[keyof typeof versions, string]>([
  ["AuthorizationPolicy", '{rules: [{to: [{operation: {ports: ["0"]}}]}]}'],
  ["AuthorizationPolicy", "{targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}], rules: [{}]}"],
  ["AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, targetRefs: [{kind: Service, name: a}], rules: [{from: [{source: {ipBlocks: [1.2.3.4]}}], when: [{key: remote.ip, values: [1.2.3.4]}]}]}"],
  ["RequestAuthentication", `{jwtRules: [{issuer: a, jwks: '{"keys":[{"kty":"oct","k":"AA"}]}'}]}`],
])("%s %s is fine", (kind, spec) => {
  expect([...told("error", kind, spec), ...told("warning", kind, spec)]).toEqual([]);
});
