/** The rules in the CRDs of routes, as an API server applies them: what users are told when they call kubectl. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse, parseAllDocuments } from "yaml";
import { child, isObject, type JsonObject, type Schema } from "./schema.ts";
import { applyDefaults } from "./validate-value.ts";
import { validateRules } from "./validation-rules.ts";

interface Definition {
  readonly spec: {
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

const root = join(import.meta.dirname, "../../..");
const crds = join(root, "manifests/crds");
const schemas = new Map(
  readdirSync(crds)
    .filter((name) => name.startsWith("gateway.") && name.endsWith("routes.yaml"))
    .map((name) => {
      const { spec } = parse(readFileSync(join(crds, name), "utf8")) as Definition;
      return [spec.names.kind, spec.versions[0]?.schema.openAPIV3Schema as Schema];
    }),
);

function told(route: JsonObject): readonly string[] {
  const schema = schemas.get(route["kind"] as string) as Schema;
  applyDefaults(route, schema);
  return validateRules(route, undefined, schema).map(
    ({ field, message }) => `${field}: ${message.replace(/^Invalid value: "(object|array)": /u, "")}`,
  );
}

const rule = (text: string, kind = "HTTPRoute"): readonly string[] =>
  told({ kind, spec: { rules: [parse(text) as unknown] } });

// prettier-ignore
test.each<[rule: string, message: string, kind?: string]>([
  ["{backendRefs: [{name: a}]}",                                               "spec.rules[0].backendRefs[0]: a Service is called on a port: port must be set"],
  ["{timeouts: {request: 3s, backendRequest: 5s}}",                            "spec.rules[0].timeouts: backendRequest 5s must not exceed request 3s, the time of the whole"],
  ["{matches: [{path: {value: a}}]}",                                          'spec.rules[0].matches[0].path: path "a" does not begin with a slash: write "/a"'],
  ["{matches: [{path: {value: /a//b}}]}",                                      'spec.rules[0].matches[0].path: path "/a//b" contains "//": write the path as requests carry it'],
  ["{matches: [{path: {value: /a/..}}]}",                                      'spec.rules[0].matches[0].path: path "/a/.." contains "/..": write the path as requests carry it'],
  ["{matches: [{path: {value: '/a b'}}]}",                                     'spec.rules[0].matches[0].path: path "/a b" has letters that no path has: escape them, such as %20 for a space'],
  ["{filters: [{type: URLRewrite}]}",                                          "spec.rules[0].filters[0]: urlRewrite and type URLRewrite belong together"],
  ["{filters: [{type: CORS, cors: {}, requestMirror: {backendRef: {name: a, port: 1}}}]}", "spec.rules[0].filters[0]: requestMirror and type RequestMirror belong together"],
  ["{filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]}",              "spec.rules[0].filters: no type but RequestMirror and ExtensionRef can be used twice"],
  ["{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a.b']}}]}",    "spec.rules[0].filters[0].cors.allowOrigins: * must stand alone"],
  ["{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}", "spec.rules[0].filters: RequestRedirect and URLRewrite cannot be combined: keep one of them"],
  ["{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]}", "spec.rules[0]: a rule that redirects has no backendRefs"],
  ["{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}", "spec.rules[0].filters[0].urlRewrite.path: replaceFullPath and type ReplaceFullPath belong together"],
  ["{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}]}", "spec.rules[0]: ReplacePrefixMatch requires exactly one PathPrefix match in the rule: write one, or use ReplaceFullPath"],
  ["{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a}}}]}", "spec.rules[0].filters[0].requestMirror.backendRef: a Service is called on a port: port must be set"],
  ["{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}]}", "spec.rules[0].filters[0].requestMirror: only one of percent and fraction can be set"],
  ["{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 101}}}]}", "spec.rules[0].filters[0].requestMirror.fraction: numerator must not exceed denominator"],
  ["{matches: [{method: {}}]}",                                                "spec.rules[0].matches[0].method: service or method must be set", "GRPCRoute"],
  ["{matches: [{method: {service: a/b}}]}",                                    "spec.rules[0].matches[0].method: service must be the full name of a gRPC service, such as shop.Cart", "GRPCRoute"],
  ["{backendRefs: [{name: a}]}",                                               "spec.rules[0].backendRefs[0]: a Service is called on a port: port must be set", "TCPRoute"],
])("%s: %s", (text, message, ...[kind]) => {
  expect(rule(text, kind)).toEqual([message]);
});

// prettier-ignore
test.each<[spec: string, messages: readonly string[]]>([
  ["{parentRefs: [{name: a, port: 1}, {name: a, port: 2}, {name: a, kind: Service}, {name: a, namespace: b}]}", []],
  ["{parentRefs: [{name: a, port: 1}, {name: a}]}",                            ["spec.parentRefs: references to one parent must be told apart by sectionName or port, in each of them"]],
  ["{parentRefs: [{name: a, port: 1}, {name: a, port: 1}]}",                   ["spec.parentRefs: references to one parent must be told apart by sectionName or port, in each of them"]],
  ["{rules: [{name: a}, {name: b}, {}, {}]}",                                  []],
  ["{rules: [{name: a}, {name: a}]}",                                          ["spec.rules: names of rules must be unique"]],
])("HTTPRoute %s: %j", (spec, messages) => {
  expect(told({ kind: "HTTPRoute", spec: parse(spec) as unknown })).toEqual(messages);
});

test("a route has at most 128 matches", () => {
  const matches = Array.from({ length: 43 }, () => ({}));
  expect(told({ kind: "HTTPRoute", spec: { rules: [{ matches }, { matches }, { matches }] } })).toEqual([
    "spec.rules: a route has at most 128 matches: split it",
  ]);
});

const folders = ["controlplane/translate/testdata/envoy/routes", "manifests/samples/bookshop/routing"];
test.each(folders.flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(folder, name))))(
  "%s is taken",
  (file) => {
    if (!file.endsWith(".yaml")) return;
    for (const document of parseAllDocuments(readFileSync(join(root, file), "utf8"))) {
      const object: unknown = document.toJS();
      if (!isObject(object) || !schemas.has(String(object["kind"]))) continue;
      expect([child(object, "metadata")["name"], ...told(object)]).toEqual([child(object, "metadata")["name"]]);
    }
  },
);
