import { expect, test } from "@jest/globals";
import { lines, problemsOf } from "./testing/told.ts";

type Kind = "HTTPRoute" | "GRPCRoute";

const told = (kind: Kind, rule: string): readonly string[] =>
  lines(problemsOf("gateway.networking.k8s.io/v1", kind, `{rules: [${rule}]}`));

// prettier-ignore
test.each<[Kind, string, unknown]>([ // kind, rule, the whole message
  ["HTTPRoute", "{matches: [{path: {type: RegularExpression, value: '('}}]}", "spec.rules[0].matches[0].path.value: \"(\" is not RE2: missing closing ): `(`: RE2 has no look-around and no back-references"],
  ["HTTPRoute", "{matches: [{headers: [{type: RegularExpression, name: x, value: '['}]}]}", expect.stringContaining("spec.rules[0].matches[0].headers[0].value: \"[\" is not RE2")],
  ["HTTPRoute", "{matches: [{headers: [{name: 'x y', value: a}]}]}", 'spec.rules[0].matches[0].headers[0].name: "x y" is no name of a header: use letters, digits and dashes'],
  ["HTTPRoute", "{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: Connection, value: a}]}}]}", expect.stringContaining('"Connection" belongs to the connection')],
  ["HTTPRoute", "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: ':path', value: a}]}}]}", expect.stringContaining('":path" cannot be changed so')],
  ["HTTPRoute", "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: a}, {name: x, value: b}]}}]}", 'spec.rules[0].filters[0].requestHeaderModifier.set[1].name: "x" repeats that of entry 0: give each entry its own'],
  ["HTTPRoute", "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}]}", 'spec.rules[0].filters[0].requestMirror.fraction: excludes "percent", which is written too: keep one of them'],
  ["HTTPRoute", "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 101}}}]}", "spec.rules[0].filters[0].requestMirror.fraction: 101 of 100 is more than everything: write a numerator up to the denominator"],
  ["HTTPRoute", "{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a.b']}}]}", 'spec.rules[0].filters[0].cors.allowOrigins[0]: "*" stands beside others: write it alone'],
  ["HTTPRoute", "{filters: [{type: CORS, cors: {allowOrigins: [a.example]}}]}", 'spec.rules[0].filters[0].cors.allowOrigins[0]: "a.example" is no origin: write "https://a.example", "https://*.a.example:8443" or "*"'],
  ["HTTPRoute", "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}], matches: [{path: {type: Exact, value: /b}}]}", "spec.rules[0].filters[0].urlRewrite.path: ReplacePrefixMatch requires exactly one PathPrefix match in the rule: write one, or use ReplaceFullPath"],
  ["HTTPRoute", "{sessionPersistence: {cookie: {lifetimeType: Permanent}, absoluteTimeout: 1h}}", "spec.rules[0].sessionPersistence: is not supported by waypoints yet: use consistentHash of a DestinationRule"],
  ["GRPCRoute", "{matches: [{method: {service: 'a/b'}}]}", 'spec.rules[0].matches[0].method.service: "a/b" is no service of gRPC: write it as "shop.Cart", or type: RegularExpression'],
  ["GRPCRoute", "{matches: [{method: {method: 'a.b'}}]}", 'spec.rules[0].matches[0].method.method: "a.b" is no method of gRPC: write it as "AddItem", or type: RegularExpression'],
  ["GRPCRoute", "{matches: [{method: {type: RegularExpression, method: '('}}]}", expect.stringContaining("is not RE2")],
])("%s: %s", (kind, rule, message) => {
  expect(told(kind, rule)).toEqual([message]);
});

test("a permanent session has an end", () => {
  expect(told("HTTPRoute", "{sessionPersistence: {cookie: {lifetimeType: Permanent}}}")).toContain(
    "spec.rules[0].sessionPersistence: a permanent cookie has no end: write absoluteTimeout",
  );
});

// prettier-ignore
test.each<[Kind, string]>([
  ["HTTPRoute", "{matches: [{path: {type: RegularExpression, value: '/a/[0-9]+'}, method: GET}], backendRefs: [{name: a, port: 1}]}"],
  ["HTTPRoute", "{filters: [{type: CORS, cors: {allowOrigins: ['https://*.a.example:8443', 'http://localhost:3000']}}], backendRefs: [{name: a, port: 1}]}"],
  ["HTTPRoute", "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a.example}], remove: [x]}}], backendRefs: [{name: a, port: 1}]}"],
  ["HTTPRoute", "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}], backendRefs: [{name: a, port: 1}]}"],
  ["GRPCRoute", "{matches: [{method: {service: shop.Cart, method: Add_Item}}, {method: {type: RegularExpression, service: '.*'}}], backendRefs: [{name: a, port: 1}]}"],
])("%s: %s is fine", (kind, rule) => {
  expect(told(kind, rule)).toEqual([]);
});
