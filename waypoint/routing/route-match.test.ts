import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import { anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import { aTable, routeOf } from "./testing.ts";

const yes = { name: "yes", direct_response: { status: 200 } };

/** match → requests that it takes → requests that it does not. */
const table: readonly (readonly [string, JsonObject, readonly RequestFacts[], readonly RequestFacts[]])[] = [
  [
    "plain prefix",
    { prefix: "/foo" },
    [{ path: "/foo" }, { path: "/foobar" }, { path: "/foo/x?y" }],
    [{ path: "/fo" }, { path: "/Foo" }, { path: "*" }],
  ],
  ["prefix / takes all but the asterisk", { prefix: "/" }, [{ path: "/" }, { path: "/?a" }], [{ path: "*" }]],
  ["empty prefix", { prefix: "" }, [{ path: "/" }, { path: "*" }], []],
  [
    "separated prefix",
    { path_separated_prefix: "/foo" },
    [{ path: "/foo" }, { path: "/foo/" }, { path: "/foo/x" }, { path: "/foo?a=/b" }],
    [{ path: "/foobar" }, { path: "/fo" }],
  ],
  ["exact path", { path: "/foo" }, [{ path: "/foo" }, { path: "/foo?a=b" }, { path: "/foo#x" }], [{ path: "/foo/" }]],
  ["exact path, any case", { path: "/Foo", case_sensitive: false }, [{ path: "/fOO" }], [{ path: "/fo" }]],
  ["prefix, any case", { prefix: "/V2/", case_sensitive: false }, [{ path: "/v2/X" }], [{ path: "/v2" }]],
  [
    "regex is a full match, and case stays",
    { safe_regex: { regex: "/v[0-9]+/.*" }, case_sensitive: false },
    [{ path: "/v12/x" }, { path: "/v1/?q" }],
    [{ path: "/V1/x" }, { path: "/a/v1/x" }, { path: "/v1" }],
  ],
  ["regex sees no query", { safe_regex: { regex: "/a" } }, [{ path: "/a?b=c" }], [{ path: "/ab" }]],
  [
    "header exact, per value",
    { prefix: "/", headers: [{ name: "X-Canary", string_match: { exact: "1" } }] },
    [{ headers: ["x-canary", "1"] }, { headers: ["x-canary", "0", "x-canary", "1"] }],
    [{}, { headers: ["x-canary", "0,1"] }, { headers: ["x-canary", "11"] }],
  ],
  [
    "header present",
    { prefix: "/", headers: [{ name: "a", present_match: true }] },
    [{ headers: ["a", ""] }, { headers: ["a", "x"] }],
    [{}],
  ],
  [
    "header absent",
    { prefix: "/", headers: [{ name: "a", present_match: true, invert_match: true }] },
    [{}],
    [{ headers: ["a", ""] }],
  ],
  [
    "without a value: a missing header does not match",
    { prefix: "/", headers: [{ name: "a", string_match: { exact: "x" }, invert_match: true }] },
    [{ headers: ["a", "y"] }],
    [{}, { headers: ["a", "x"] }, { headers: ["a", "y", "a", "x"] }],
  ],
  [
    "without a value, missing is empty",
    {
      prefix: "/",
      headers: [{ name: "a", string_match: { exact: "x" }, invert_match: true, treat_missing_header_as_empty: true }],
    },
    [{}, { headers: ["a", "y"] }],
    [{ headers: ["a", "x"] }],
  ],
  [
    "header forms",
    {
      prefix: "/",
      headers: [
        { name: "a", string_match: { prefix: "AB", ignore_case: true } },
        { name: "b", string_match: { suffix: "z" } },
        { name: "c", string_match: { contains: "mid" } },
        { name: "d", string_match: { safe_regex: { regex: "[0-9]{3}" } } },
        { name: "e", range_match: { start: "10", end: "20" } },
      ],
    },
    [{ headers: ["a", "abc", "b", "xyz", "c", "amidb", "d", "123", "e", "10"] }],
    [
      { headers: ["a", "abc", "b", "xyz", "c", "amidb", "d", "1234", "e", "10"] },
      { headers: ["a", "abc", "b", "xyz", "c", "amidb", "d", "123", "e", "20"] },
      { headers: ["a", "abc", "b", "xyz", "c", "amidb", "d", "123", "e", "x"] },
      { headers: ["b", "xyz", "c", "amidb", "d", "123", "e", "10"] },
    ],
  ],
  [
    "pseudo-headers",
    {
      prefix: "/",
      headers: [
        { name: ":method", string_match: { exact: "POST" } },
        { name: ":authority", string_match: { prefix: "shop" } },
        { name: ":scheme", string_match: { exact: "http" } },
        { name: ":path", string_match: { suffix: "?q=1" } },
      ],
    },
    [{ method: "POST", authority: "shop:80", path: "/x?q=1" }],
    [
      { method: "GET", authority: "shop:80", path: "/x?q=1" },
      { method: "POST", authority: "x", path: "/x?q=1" },
    ],
  ],
  [
    "query parameters: the first of a name, not decoded",
    {
      prefix: "/",
      query_parameters: [
        { name: "a", string_match: { exact: "1" } },
        { name: "b", present_match: true },
      ],
    },
    [{ path: "/?a=1&b" }, { path: "/?b=&a=1&a=2" }],
    [{ path: "/?a=2&a=1&b" }, { path: "/?a=1" }, { path: "/?aa=1&b" }, { path: "/" }, { path: "/#?a=1&b" }],
  ],
  [
    "gRPC",
    { prefix: "/", grpc: {} },
    [{ headers: ["content-type", "application/grpc"] }, { headers: ["content-type", "application/grpc+proto"] }],
    [{}, { headers: ["content-type", "application/grpc-web"] }],
  ],
  [
    "the caller's identity",
    {
      prefix: "/",
      filter_state: [{ key: "io.istio.peer_principal", string_match: { prefix: "spiffe://cluster.local/ns/web/sa/" } }],
    },
    [{ connection: { peerPrincipal: "spiffe://cluster.local/ns/web/sa/frontend" } }],
    [{}, { connection: { peerPrincipal: undefined } }],
  ],
  ["CONNECT", { connect_matcher: {} }, [{ method: "CONNECT", path: "" }], [{ method: "GET" }]],
  [
    "path template",
    {
      path_match_policy: {
        name: "t",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
          path_template: "/api/{version}/users/{id=*}/**",
        },
      },
    },
    [{ path: "/api/v1/users/7/x/y" }],
    [{ path: "/api/v1/users/7" }, { path: "/api/v1/x/users/7/x" }],
  ],
];

describe("matching of one route", () => {
  test.each(table)("%s", (_name, match, taken, refused) => {
    const compiled = aTable([{ ...yes, match }]);
    expect(compiled.problems).toEqual([]);
    for (const facts of taken) expect([facts, routeOf(compiled, facts)]).toEqual([facts, "yes"]);
    for (const facts of refused) expect([facts, routeOf(compiled, facts)]).toEqual([facts, undefined]);
  });

  test("claims that a layer left in the metadata, also in lists", () => {
    const path = [{ key: "payload" }, { key: "groups" }];
    const filter = "envoy.filters.http.jwt_authn";
    const value = { list_match: { one_of: { string_match: { exact: "admin" } } } };
    const { table: routes } = aTable([{ ...yes, match: { prefix: "/", dynamic_metadata: [{ filter, path, value }] } }]);
    const exchange = anExchange();
    expect(routes.match(exchange)).toBeUndefined();
    exchange.metadata.set(filter, { payload: { groups: ["user", "admin"] } });
    expect(routes.match(exchange)?.name).toBe("yes");
  });

  test("fractions: chance is drawn once for a request, and apart for each route", () => {
    const half = { default_value: { numerator: 500_000, denominator: "MILLION" } };
    const match = { prefix: "/", runtime_fraction: half };
    const counts: Record<string, number> = {};
    let state = 1;
    const random = () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647;
    const routes = [
      { ...yes, name: "first", match },
      { ...yes, name: "second", match },
      { ...yes, name: "rest", match: { prefix: "/" } },
    ];
    const compiled = aTable(routes, { random });
    for (let i = 0; i < 4000; i++) {
      const exchange = anExchange();
      const name = compiled.table.match(exchange)?.name ?? "";
      expect(compiled.table.match(exchange)?.name).toBe(name);
      counts[name] = (counts[name] ?? 0) + 1;
    }
    expect(counts["first"]).toBeGreaterThan(1850);
    expect(counts["first"]).toBeLessThan(2150);
    expect(counts["second"]).toBeGreaterThan(850);
    expect(counts["second"]).toBeLessThan(1150);
  });
});

describe("virtual hosts", () => {
  const host = (name: string, ...domains: string[]) => ({
    name,
    domains,
    routes: [{ ...yes, name, match: { prefix: "/" } }],
  });
  const hosts = [
    host("exact", "Shop.example", "shop.example:8080"),
    host("suffix", "*.example"),
    host("long suffix", "*.eu.example", "*-eu.example"),
    host("prefix", "shop.*"),
    host("any", "*"),
  ];

  test.each([
    ["shop.example", "exact"],
    ["SHOP.EXAMPLE", "exact"],
    ["shop.example:8080", "exact"],
    ["shop.example:9090", "prefix"],
    ["a.example", "suffix"],
    ["a.b.eu.example", "long suffix"],
    ["a-eu.example", "long suffix"],
    [".example", "any"],
    ["shop.other", "prefix"],
    ["shop.", "any"],
    ["other", "any"],
    ["", "any"],
  ])("%s goes to %s", (authority, name) => {
    expect(routeOf(aTable({ virtual_hosts: hosts }), { authority })).toBe(name);
  });

  test("the port can be left out of account, and no host is a 404", () => {
    const config = { ignore_port_in_host_matching: true, virtual_hosts: [host("v6", "[::1]"), host("a", "a")] };
    const compiled = aTable(config);
    expect(["[::1]:80", "[::1]", "a:1", "b"].map((authority) => routeOf(compiled, { authority }))).toEqual([
      "v6",
      "v6",
      "a",
      undefined,
    ]);
  });
});
