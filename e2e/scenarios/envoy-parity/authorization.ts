/** Every condition of RBAC that can be met without TLS, allowed and refused. */
import type { JsonObject } from "@bufbuild/protobuf";
import { http1, type Case, type Spoken } from "./case.ts";

const type = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
export const authorizationHost = "authz";

interface Condition {
  readonly name: string;
  readonly permission?: JsonObject;
  readonly principal?: JsonObject;
  readonly action?: string;
  /** After the condition's own path. */
  readonly allowed: readonly (Spoken & { readonly at?: string })[];
  readonly refused: readonly (Spoken & { readonly at?: string })[];
}

const any = { any: true };
const headers = (...all: readonly (readonly [string, string])[]): Spoken => ({ headers: all });
const method = (name: string): JsonObject => ({ header: { name: ":method", string_match: { exact: name } } });
const loopback = { address_prefix: "127.0.0.0", prefix_len: 8 };
const elsewhere = { address_prefix: "10.0.0.0", prefix_len: 8 };

const conditions: readonly Condition[] = [
  { name: "any", permission: any, allowed: [{}], refused: [] },
  { name: "deny", action: "DENY", permission: method("DELETE"), allowed: [{}], refused: [{ method: "DELETE" }] },
  { name: "log", action: "LOG", permission: method("DELETE"), allowed: [{}, { method: "DELETE" }], refused: [] },
  { name: "method", permission: method("PUT"), allowed: [{ method: "PUT" }], refused: [{}] },
  {
    name: "header",
    permission: { header: { name: "x-a", string_match: { prefix: "v" } } },
    allowed: [headers(["X-A", "v1"])],
    refused: [{}, headers(["x-a", "w"])],
  },
  {
    name: "header-twice",
    permission: { header: { name: "x-a", string_match: { exact: "v" } } },
    allowed: [headers(["x-a", "v"]), headers(["x-a", "v"], ["x-a", "w"])],
    refused: [headers(["x-a", "v,w"])],
  },
  {
    name: "path",
    permission: { url_path: { path: { suffix: "/in" } } },
    allowed: [{ at: "/in" }, { at: "/in?x" }],
    refused: [{ at: "/out" }, { at: "/IN" }],
  },
  {
    name: "template",
    permission: {
      uri_template: {
        name: "t",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
          path_template: "/template/{a=*}/x",
        },
      },
    },
    allowed: [{ at: "/1/x" }],
    refused: [{ at: "/1/2/x" }],
  },
  {
    name: "and",
    permission: { and_rules: { rules: [method("PUT"), { url_path: { path: { suffix: "x" } } }] } },
    allowed: [{ method: "PUT", at: "/x" }],
    refused: [{ method: "PUT" }, { at: "/x" }],
  },
  {
    name: "or",
    permission: { or_rules: { rules: [method("PUT"), method("POST")] } },
    allowed: [{ method: "PUT" }],
    refused: [{}],
  },
  { name: "not", permission: { not_rule: method("GET") }, allowed: [{ method: "PUT" }], refused: [{}] },
  { name: "ip", permission: { destination_ip: loopback }, allowed: [{}], refused: [] },
  { name: "other-ip", permission: { destination_ip: elsewhere }, allowed: [], refused: [{}] },
  {
    name: "port-range",
    permission: { destination_port_range: { start: 1024, end: 65_535 } },
    allowed: [{}],
    refused: [],
  },
  { name: "no-name", permission: { requested_server_name: { exact: "x" } }, allowed: [], refused: [{}] },
  { name: "empty-name", permission: { requested_server_name: { exact: "" } }, allowed: [{}], refused: [] },
  {
    name: "metadata",
    permission: { metadata: { filter: "none", path: [{ key: "x" }], value: { present_match: true } } },
    allowed: [],
    refused: [{}],
  },
  {
    name: "metadata-absent",
    permission: { metadata: { filter: "none", path: [{ key: "x" }], value: { present_match: true }, invert: true } },
    allowed: [{}],
    refused: [],
  },
  {
    name: "direct-ip",
    principal: { direct_remote_ip: loopback },
    allowed: [{}, headers(["x-forwarded-for", "10.1.1.1"])],
    refused: [],
  },
  {
    name: "remote-ip",
    principal: { remote_ip: elsewhere },
    allowed: [headers(["x-forwarded-for", "10.1.1.1"])],
    refused: [{}, headers(["x-forwarded-for", "9.9.9.9"]), headers(["x-forwarded-for", "10.1.1.1, 9.9.9.9"])],
  },
  {
    name: "source-header",
    principal: { header: { name: "x-who", string_match: { contains: "me" } } },
    allowed: [headers(["x-who", "it is me"])],
    refused: [{}],
  },
  {
    name: "source-path",
    principal: { url_path: { path: { contains: "open" } } },
    allowed: [{ at: "/open" }],
    refused: [{ at: "?open" }],
  },
  {
    name: "ids",
    principal: {
      or_ids: { ids: [{ direct_remote_ip: elsewhere }, { header: { name: "x-who", present_match: true } }] },
    },
    allowed: [headers(["x-who", ""])],
    refused: [{}],
  },
  {
    name: "all-ids",
    principal: {
      and_ids: {
        ids: [{ direct_remote_ip: loopback }, { not_id: { header: { name: "x-who", present_match: true } } }],
      },
    },
    allowed: [{}],
    refused: [headers(["x-who", "a"])],
  },
  { name: "tls-only", principal: { authenticated: {} }, allowed: [], refused: [{}] },
  {
    name: "peer",
    principal: { filter_state: { key: "io.istio.peer_principal", string_match: { prefix: "spiffe://" } } },
    allowed: [],
    refused: [{}],
  },
];

const pathOf = (name: string): string => `/${name}`;

export const authorizationRoutes: readonly JsonObject[] = conditions.map(
  ({ name, permission = any, principal = any, action = "ALLOW" }) => ({
    match: { path_separated_prefix: pathOf(name) },
    route: { cluster: "backend", timeout: "0s" },
    typed_per_filter_config: {
      "envoy.filters.http.rbac": {
        "@type": type,
        rbac: { rules: { action, policies: { one: { permissions: [permission], principals: [principal] } } } },
      },
    },
  }),
);

export const authorizationCases: readonly Case[] = [
  http1("a method in lower case", "authz.example", "/method", 400, { method: "put" }),
  ...conditions.flatMap(({ name, allowed, refused }) => [
    ...allowed.map(({ at = "", ...spoken }, index) =>
      http1(`${name} allows (${index + 1})`, "authz.example", pathOf(name) + at, 200, spoken),
    ),
    ...refused.map(({ at = "", ...spoken }, index) =>
      http1(`${name} refuses (${index + 1})`, "authz.example", pathOf(name) + at, 403, spoken),
    ),
  ]),
];
