import { createRegistry, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { RBACSchema } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import { parseIp } from "#shared/net/ip.ts";
import { aConnection, aContext, anExchange, noBody, packed, type RequestFacts } from "#waypoint/layers/testing.ts";
import { rbacLayer } from "./rbac-layer.ts";
import { rbacNetworkLayer } from "./rbac-network-layer.ts";

const registry = createRegistry(UriTemplateMatchConfigSchema, TypedStructSchema);
const any = [{ any: true }];

function compile(config: JsonValue) {
  const context = aContext();
  const layer = rbacLayer.compile("rbac", packed(RBACSchema, config, { registry }), context);
  return { layer, problems: context.problems };
}

/** Whether a request passes an ALLOW policy with one condition. */
function allows(condition: { permission?: JsonObject; principal?: JsonObject }, facts: RequestFacts, jwt?: JsonObject) {
  const { layer, problems } = compile({
    rules: {
      action: "ALLOW",
      policies: {
        p: {
          permissions: condition.permission === undefined ? any : [condition.permission],
          principals: condition.principal === undefined ? any : [condition.principal],
        },
      },
    },
  });
  expect(problems).toEqual([]);
  const exchange = anExchange(facts);
  if (jwt !== undefined) exchange.metadata.set("envoy.filters.http.jwt_authn", { payload: jwt });
  return layer?.onRequest?.(exchange, noBody) === undefined;
}

const authority = (value: string) => ({
  header: { name: ":authority", stringMatch: { exact: value, ignoreCase: true } },
});
const path = (match: JsonObject) => ({ urlPath: { path: match } });
const template = (pathTemplate: string) => ({
  uriTemplate: {
    name: "uri-template",
    typedConfig: {
      "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
      pathTemplate,
    },
  },
});
const cidr = (addressPrefix: string, prefixLen: number) => ({ addressPrefix, prefixLen });

describe("permissions", () => {
  test.each<[string, JsonObject, RequestFacts, boolean]>([
    ["header of one value", { header: { name: "x-a", stringMatch: { exact: "1" } } }, { headers: ["x-a", "1"] }, true],
    [
      "each value by itself",
      { header: { name: "X-A", stringMatch: { exact: "1" } } },
      { headers: ["x-a", "0", "x-a", "1"] },
      true,
    ],
    [
      "never a joined list",
      { header: { name: "x-a", stringMatch: { exact: "0,1" } } },
      { headers: ["x-a", "0", "x-a", "1"] },
      false,
    ],
    ["missing header", { header: { name: "x-a", stringMatch: { prefix: "1" } } }, {}, false],
    [
      "missing header, inverted",
      { header: { name: "x-a", stringMatch: { prefix: "1" }, invertMatch: true } },
      {},
      false,
    ],
    ["not of a missing header", { notRule: { header: { name: "x-a", stringMatch: { prefix: "1" } } } }, {}, true],
    ["presence", { header: { name: "x-a", presentMatch: true } }, { headers: ["x-a", ""] }, true],
    ["method", { header: { name: ":method", stringMatch: { exact: "GET" } } }, {}, true],
    ["host in any case", authority("Catalog.Shop"), {}, true],
    ["host with a port is another", authority("catalog.shop"), { authority: "catalog.shop:8080" }, false],
    ["host with its port", authority("catalog.shop:8080"), { authority: "CATALOG.shop:8080" }, true],
    ["path without query", path({ exact: "/a" }), { path: "/a?b=/c" }, true],
    ["path without fragment", path({ exact: "/a" }), { path: "/a#?b" }, true],
    ["path is case-sensitive", path({ prefix: "/A" }), { path: "/a" }, false],
    ["suffix of a path", path({ suffix: ".html" }), { path: "/x.html?y=1" }, true],
    ["regular expression over all", path({ safeRegex: { regex: "/a|/b" } }), { path: "/bc" }, false],
    ["template of a segment", template("/shops/*/books"), { path: "/shops/1/books" }, true],
    ["template of a segment, with another slash", template("/shops/*/books"), { path: "/shops/1/2/books" }, false],
    ["template of an empty segment", template("/shops/*/books"), { path: "/shops//books" }, false],
    ["template of the rest", template("/files/**"), { path: "/files/a/b?c" }, true],
    ["template of an empty rest", template("/files/**"), { path: "/files/" }, true],
    ["template without the slash before the rest", template("/files/**"), { path: "/files" }, false],
    ["template with names", template("/a/{x}/b/{y=**}"), { path: "/a/1/b/2/3" }, true],
    ["template of a beginning", template("/**/b/c"), { path: "/x/a/b/c" }, true],
    ["template of another end", template("/**/b/c"), { path: "/x/b/c/d" }, false],
    ["template within a segment", template("/a/**.mpd"), { path: "/a/b/c.mpd" }, true],
    ["destination port", { destinationPort: 8080 }, {}, true],
    ["destination port range ends before its end", { destinationPortRange: { start: 8000, end: 8080 } }, {}, false],
    ["destination address", { destinationIp: cidr("10.96.0.0", 16) }, {}, true],
    [
      "server name, of which there is none",
      { requestedServerName: { exact: "a.example" } },
      { connection: { serverName: undefined } },
      false,
    ],
    ["and", { andRules: { rules: [{ destinationPort: 8080 }, { destinationPort: 80 }] } }, {}, false],
    ["or", { orRules: { rules: [{ destinationPort: 80 }, { destinationPort: 8080 }] } }, {}, true],
  ])("%s", (_what, permission, facts, expected) => {
    expect(allows({ permission }, facts)).toBe(expected);
  });
});

const peer = (match: JsonObject) => ({ filterState: { key: "io.istio.peer_principal", stringMatch: match } });
const claim = (keys: readonly string[], value: JsonObject) => ({
  metadata: {
    filter: "envoy.filters.http.jwt_authn",
    path: ["payload", ...keys].map((key) => ({ key })),
    value,
  },
});

describe("principals", () => {
  const anonymous = { connection: { peerPrincipal: undefined } };
  test.each<[string, JsonObject, RequestFacts, boolean]>([
    ["exact identity", peer({ exact: "spiffe://cluster.local/ns/shop/sa/frontend" }), {}, true],
    ["namespace", peer({ safeRegex: { regex: ".*/ns/shop/.*" } }), {}, true],
    ["another namespace", peer({ safeRegex: { regex: ".*/ns/sho/.*" } }), {}, false],
    ["nobody has no identity", peer({ safeRegex: { regex: ".*" } }), anonymous, false],
    ["not somebody", { notId: peer({ safeRegex: { regex: ".+" } }) }, anonymous, true],
    ["any certificate", { authenticated: {} }, {}, true],
    ["any certificate, without one", { authenticated: {} }, anonymous, false],
    ["name in the certificate", { authenticated: { principalName: { suffix: "/sa/frontend" } } }, {}, true],
    ["direct address", { directRemoteIp: cidr("10.0.0.0", 24) }, {}, true],
    ["direct address of the other family", { directRemoteIp: cidr("::", 0) }, {}, false],
    [
      "direct IPv6 address",
      { directRemoteIp: cidr("fd00::", 8) },
      { connection: { source: { ip: parseIp("fd12::1"), port: 1 } } },
      true,
    ],
    [
      "client address is not what a header says",
      { remoteIp: cidr("1.2.3.4", 32) },
      { headers: ["x-forwarded-for", "1.2.3.4"] },
      false,
    ],
  ])("%s", (_what, principal, facts, expected) => {
    expect(allows({ principal }, facts)).toBe(expected);
  });

  const token = { iss: "i", sub: "s", aud: ["a", "b"], n: { roles: ["x"], deep: "y" }, admin: true, age: 7 };
  test.each<[string, readonly string[], JsonObject, boolean]>([
    ["claim", ["iss"], { stringMatch: { exact: "i" } }, true],
    ["nested claim", ["n", "deep"], { stringMatch: { exact: "y" } }, true],
    ["element of a list", ["n", "roles"], { listMatch: { oneOf: { stringMatch: { exact: "x" } } } }, true],
    ["a list is no text", ["aud"], { stringMatch: { exact: "a" } }, false],
    [
      "text or list",
      ["aud"],
      {
        orMatch: {
          valueMatchers: [{ stringMatch: { exact: "b" } }, { listMatch: { oneOf: { stringMatch: { exact: "b" } } } }],
        },
      },
      true,
    ],
    ["boolean", ["admin"], { boolMatch: true }, true],
    ["number in a range", ["age"], { doubleMatch: { range: { start: 7, end: 8 } } }, true],
    ["absent claim", ["nothing"], { presentMatch: true }, false],
    ["a member that every object has is no claim", ["constructor"], { presentMatch: true }, false],
  ])("%s", (_what, keys, value, expected) => {
    expect(allows({ principal: claim(keys, value) }, {}, token)).toBe(expected);
  });
});

const policies = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, { permissions: any, principals: any }]));
const never = { permissions: [{ notRule: { any: true } }], principals: any };

describe("verdicts", () => {
  test.each<[string, JsonObject, string | undefined]>([
    ["no rules", {}, undefined],
    ["ALLOW without policies", { rules: {} }, "rbac_access_denied_matched_policy[none]"],
    ["ALLOW that matches", { rules: { policies: policies("a") } }, undefined],
    ["ALLOW that never matches", { rules: { policies: { a: never } } }, "rbac_access_denied_matched_policy[none]"],
    [
      "DENY tells the first by name",
      { rules: { action: "DENY", policies: policies("ns[b]-policy[x]-rule[0]", "ns[a]-policy[y z]-rule[1]") } },
      "rbac_access_denied_matched_policy[ns[a]-policy[y_z]-rule[1]]",
    ],
    ["DENY without match", { rules: { action: "DENY", policies: { a: never } } }, undefined],
    ["LOG", { rules: { action: "LOG", policies: policies("a") } }, undefined],
    ["shadow rules only tell", { shadowRules: { action: "DENY", policies: policies("a") } }, undefined],
  ])("%s", (_what, config, details) => {
    const { layer, problems } = compile(config);
    expect(problems).toEqual([]);
    const refusal = details === undefined ? undefined : { status: 403, body: "RBAC: access denied", details };
    expect(layer?.onRequest?.(anExchange(), noBody)).toEqual(refusal);
  });

  test("shadow rules write what they found", () => {
    const exchange = anExchange();
    const shadow = { action: "DENY", policies: policies("p") };
    void compile({ shadowRules: shadow, shadowRulesStatPrefix: "istio_dry_run_deny_" }).layer?.onRequest?.(
      exchange,
      noBody,
    );
    void compile({ rules: { action: "LOG", policies: { a: never } } }).layer?.onRequest?.(exchange, noBody);
    expect(exchange.metadataOf("envoy.filters.http.rbac")).toEqual({
      istio_dry_run_deny_shadow_engine_result: "denied",
      istio_dry_run_deny_shadow_effective_policy_id: "p",
    });
    expect(exchange.metadataOf("envoy.common")).toEqual({ access_log_hint: false });
  });

  const explain = (list?: string[]): JsonObject => ({
    auditCondition: "ON_DENY",
    loggerConfigs: [
      {
        isOptional: true,
        auditLogger: {
          name: "ambit.dev/explain-denials",
          typedConfig: {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            typeUrl: "type.googleapis.com/ambit.dev/explain-denials",
            value: list === undefined ? {} : { policies: list },
          },
        },
      },
    ],
  });
  test.each<[string, string, string[] | undefined, string | undefined]>([
    ["a DENY rule by name", "DENY", undefined, "shop/callers rule 2"],
    ["a DENY rule of a policy that asked", "DENY", ["shop/callers"], "shop/callers rule 2"],
    ["a DENY rule of another policy", "DENY", ["shop/others"], undefined],
    ["that nothing allowed it", "ALLOW", undefined, "no rule of shop/callers"],
  ])("explains %s", (_what, action, list, header) => {
    const name = "ns[shop]-policy[callers]-rule[2]";
    const { layer, problems } = compile({
      rules: {
        action,
        policies: action === "DENY" ? policies(name) : { [name]: never },
        auditLoggingOptions: explain(list),
      },
    });
    expect(problems).toEqual([]);
    const reply = layer?.onRequest?.(anExchange(), noBody);
    expect(reply).toMatchObject({ status: 403 });
    expect((reply as { headers?: { get(name: string): string } }).headers?.get("x-ambit-denied-by")).toBe(header);
  });
});

describe("refused configurations", () => {
  test.each<[string, JsonObject, string]>([
    ["an expression that is not RE2", path({ safeRegex: { regex: "(?=a)" } }), "is not RE2"],
    ["an empty list", { orRules: { rules: [] } }, "must not be empty"],
    ["a bad range", { destinationIp: cidr("10.0.0.0", 40) }, "is not a range"],
    ["a bad template", template("/a/**/b/*"), "last wildcard"],
    ["a matcher extension", { matcher: { name: "x" } }, "not supported"],
  ])("%s", (_what, permission, message) => {
    const { problems } = compile({ rules: { policies: { p: { permissions: [permission], principals: any } } } });
    expect(problems.join()).toContain(message);
    expect(problems.join()).toContain("rules.policies[p].permissions[0]");
  });

  test("a condition in CEL, and another key of filter state", () => {
    const { problems } = compile({
      rules: {
        policies: {
          p: {
            permissions: any,
            principals: [{ filterState: { key: "x", stringMatch: { exact: "y" } } }],
            condition: { identExpr: { name: "a" } },
          },
        },
      },
    });
    expect(problems).toHaveLength(2);
  });
});

describe("connections", () => {
  const decide = (config: JsonValue) => {
    const context = aContext();
    const layer = rbacNetworkLayer.compile("rbac", packed(NetworkRbacSchema, config), context);
    expect(context.problems).toEqual([]);
    return layer?.onConnection({ connection: aConnection(), metadataOf: () => undefined, setMetadata: () => {} });
  };

  test.each<[string, JsonObject, boolean]>([
    ["port", { destinationPort: 8080 }, true],
    ["what only requests have", path({ prefix: "/" }), false],
    ["not what only requests have", { notRule: path({ prefix: "/" }) }, true],
  ])("%s", (_what, permission, allowed) => {
    const rules = { policies: { p: { permissions: [permission], principals: any } } };
    const refusal = decide({ statPrefix: "tcp.", rules });
    expect(refusal).toEqual(allowed ? undefined : { details: "rbac_access_denied_matched_policy[none]" });
  });
});
