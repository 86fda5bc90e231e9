import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import { Headers } from "#waypoint/http/headers.ts";
import { anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import { aTable, pass, replyOf } from "./testing.ts";

const match = { prefix: "/" };
const route = { cluster: "c" };
const set = (key: string, value: string) => ({ header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" });
const add = (key: string, value: string) => ({ header: { key, value } });

describe("path rewrites", () => {
  test.each<[string, JsonObject, JsonObject, string, string]>([
    ["prefix", { prefix: "/a" }, { prefix_rewrite: "/b" }, "/a/x?q=/a", "/b/x?q=/a"],
    ["prefix / doubles the slash, as written", { prefix: "/a" }, { prefix_rewrite: "/" }, "/a/x", "//x"],
    ["any case", { prefix: "/A", case_sensitive: false }, { prefix_rewrite: "/b" }, "/a/x", "/b/x"],
    ["separated", { path_separated_prefix: "/a" }, { prefix_rewrite: "/b" }, "/a?q", "/b?q"],
    ["exact: all of it", { path: "/a/b" }, { prefix_rewrite: "/c" }, "/a/b?q", "/c?q"],
    ["regex match: all of it", { safe_regex: { regex: "/.*" } }, { prefix_rewrite: "/c" }, "/a/b?q", "/c?q"],
    [
      "regex: every match, groups, not the query",
      { prefix: "/" },
      { regex_rewrite: { pattern: { regex: "/v(\\d)" }, substitution: "/\\1\\\\\\0" } },
      "/v1/v2?/v3",
      "/1\\/v1/2\\/v2?/v3",
    ],
    [
      "regex: no empty match behind the last one",
      { prefix: "/" },
      { regex_rewrite: { pattern: { regex: ".*" }, substitution: "/x" } },
      "/foo",
      "/x",
    ],
    [
      "template",
      {
        path_match_policy: {
          name: "m",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            path_template: "/{country}/{lang=**}",
          },
        },
      },
      {
        path_rewrite_policy: {
          name: "r",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
            path_template_rewrite: "/{lang}/{country}",
          },
        },
      },
      "/us/en/x?q",
      "/en/x/us?q",
    ],
  ])("%s", (_name, matched, rewrite, path, wanted) => {
    const compiled = aTable([{ match: matched, route: { ...route, ...rewrite } }]);
    expect(compiled.problems).toEqual([]);
    const { request } = pass(compiled, { path });
    expect(request.path).toBe(wanted);
    expect(request.headers.get("x-envoy-original-path")).toBe(path);
  });
});

describe("host rewrites", () => {
  test.each<[string, JsonObject, RequestFacts, string, string | undefined]>([
    ["literal", { host_rewrite_literal: "b" }, {}, "b", undefined],
    ["header", { host_rewrite_header: "x-host" }, { headers: ["x-host", "h"] }, "h", undefined],
    ["a header that is missing", { host_rewrite_header: "x-host" }, {}, "catalog.shop", undefined],
    [
      "path",
      { host_rewrite_path_regex: { pattern: { regex: "^/(\\w+)/.*$" }, substitution: "\\1.example" } },
      { path: "/eu/x?y" },
      "eu.example",
      undefined,
    ],
    ["forwarded host", { host_rewrite_literal: "b", append_x_forwarded_host: true }, {}, "b", "catalog.shop"],
    [
      "forwarded host of two proxies",
      { host_rewrite_literal: "b", append_x_forwarded_host: true },
      { headers: ["x-forwarded-host", "first"] },
      "b",
      "first,catalog.shop",
    ],
  ])("%s", (_name, action, facts, authority, forwarded) => {
    const { request } = pass(aTable([{ match, route: { ...route, ...action } }]), facts);
    expect(request.authority).toBe(authority);
    expect(request.headers.get("x-forwarded-host")).toBe(forwarded);
  });
});

describe("header operations", () => {
  const config = (innerWins: boolean): JsonObject => ({
    most_specific_header_mutations_wins: innerWins,
    request_headers_to_add: [set("who", "config")],
    response_headers_to_add: [add("seen", "config")],
    virtual_hosts: [
      {
        name: "v",
        domains: ["*"],
        request_headers_to_add: [set("who", "host")],
        response_headers_to_add: [add("seen", "host")],
        routes: [
          {
            match,
            request_headers_to_add: [set("who", "route"), set("from", "%REQ(:PATH)% %REQ(:AUTHORITY)%")],
            request_headers_to_remove: ["gone"],
            response_headers_to_add: [add("seen", "route")],
            route: {
              host_rewrite_literal: "h",
              prefix_rewrite: "/new",
              weighted_clusters: {
                clusters: [
                  {
                    name: "c",
                    weight: 1,
                    request_headers_to_add: [set("who", "cluster")],
                    response_headers_to_add: [add("seen", "cluster")],
                  },
                ],
              },
            },
          },
        ],
      },
    ],
  });

  test("the outermost is applied last and wins", () => {
    const { request, answer } = pass(aTable(config(false)), { path: "/old", headers: ["gone", "x"] });
    expect(request.headers.all("who")).toEqual(["config"]);
    expect(request.headers.get("from")).toBe("/old catalog.shop");
    expect(request.headers.has("gone")).toBe(false);
    expect(answer.headers.all("seen")).toEqual(["cluster", "route", "host", "config"]);
  });

  test("or the innermost", () => {
    const { request, answer } = pass(aTable(config(true)), { path: "/old" });
    expect(request.headers.all("who")).toEqual(["cluster"]);
    expect(answer.headers.all("seen")).toEqual(["config", "host", "route", "cluster"]);
  });

  test.each<[string, string, readonly string[], readonly string[]]>([
    ["APPEND_IF_EXISTS_OR_ADD", "n", ["a", "1"], ["1", "n"]],
    ["APPEND_IF_EXISTS_OR_ADD", "n", [], ["n"]],
    ["ADD_IF_ABSENT", "n", ["a", "1"], ["1"]],
    ["ADD_IF_ABSENT", "n", [], ["n"]],
    ["OVERWRITE_IF_EXISTS_OR_ADD", "n", ["a", "1", "a", "2"], ["n"]],
    ["OVERWRITE_IF_EXISTS", "n", ["a", "1"], ["n"]],
    ["OVERWRITE_IF_EXISTS", "n", [], []],
    ["OVERWRITE_IF_EXISTS_OR_ADD", "%REQ(missing)%", ["a", "1"], ["1"]],
  ])("%s %s on %j", (append_action, value, headers, wanted) => {
    const option = { header: { key: "A", value }, append_action };
    const { request } = pass(aTable([{ match, request_headers_to_add: [option], route }]), { headers });
    expect(request.headers.all("a")).toEqual(wanted);
  });

  test("an empty value goes out where it is wanted", () => {
    const option = { header: { key: "a", value: "%REQ(missing)%" }, keep_empty_value: true };
    const { request } = pass(aTable([{ match, request_headers_to_add: [option], route }]), {});
    expect(request.headers.all("a")).toEqual([""]);
  });

  test("commands", () => {
    const text = [
      "%REQ(x?:method):2%",
      "%PROTOCOL%",
      "%DOWNSTREAM_REMOTE_ADDRESS%",
      "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
      "%DOWNSTREAM_LOCAL_PORT%",
      "%DOWNSTREAM_PEER_URI_SAN%",
      "%ROUTE_NAME%",
      "%START_TIME(%Y-%m-%d)%",
      "100%%",
    ].join("|");
    const { request } = pass(aTable([{ name: "r", match, request_headers_to_add: [set("a", text)], route }]), {});
    expect(request.headers.get("a")).toBe(
      "GE|HTTP/1.1|10.0.0.7:40000|10.0.0.7|8080|spiffe://cluster.local/ns/shop/sa/frontend|r|2027-01-15|100%",
    );
  });

  test("answers see the request and themselves", () => {
    const compiled = aTable([
      { match, response_headers_to_add: [set("a", "%RESP(b)% %REQ(:path)% %RESPONSE_CODE%")], route },
    ]);
    expect(pass(compiled, { path: "/p" }, new Headers(["b", "x"])).answer.headers.get("a")).toBe("x /p 200");
  });
});

describe("redirects", () => {
  const request = { path: "/a/b?q=1", authority: "shop:8080" };
  test.each<[string, JsonObject, RequestFacts, string, number?]>([
    ["path, keeping the query", { path_redirect: "/n" }, request, "http://shop:8080/n?q=1"],
    ["path with a query of its own", { path_redirect: "/n?z=1", strip_query: true }, request, "http://shop:8080/n?z=1"],
    ["path without query", { path_redirect: "/n", strip_query: true }, request, "http://shop:8080/n"],
    ["host", { host_redirect: "o", response_code: "FOUND" }, request, "http://o/a/b?q=1", 302],
    ["port", { port_redirect: 90, response_code: "SEE_OTHER" }, request, "http://shop:90/a/b?q=1", 303],
    [
      "scheme",
      { scheme_redirect: "https", response_code: "TEMPORARY_REDIRECT" },
      request,
      "https://shop:8080/a/b?q=1",
      307,
    ],
    [
      "https drops :80",
      { https_redirect: true, response_code: "PERMANENT_REDIRECT" },
      { authority: "shop:80" },
      "https://shop/",
      308,
    ],
    ["IPv6", { port_redirect: 90 }, { authority: "[::1]:80" }, "http://[::1]:90/"],
    ["prefix", { prefix_rewrite: "/n" }, request, "http://shop:8080/n/b?q=1"],
    ["regex", { regex_rewrite: { pattern: { regex: "b" }, substitution: "c" } }, request, "http://shop:8080/a/c?q=1"],
    ["strip only", { host_redirect: "o", strip_query: true }, request, "http://o/a/b"],
  ])("%s", (_name, redirect, facts, location, status = 301) => {
    const compiled = aTable([
      { match: { prefix: "/a" }, redirect },
      { match, redirect },
    ]);
    expect(compiled.problems).toEqual([]);
    const reply = replyOf(compiled, facts);
    expect([reply?.status, reply?.headers?.get("location")]).toEqual([status, location]);
  });
});

describe("direct responses", () => {
  test("status, text and bytes", () => {
    const noText = Buffer.from([0xff, 0x00, 0x80]);
    for (const [body, bytes] of [
      [{ inline_string: "hé" }, Buffer.from("hé")],
      [{ inline_bytes: noText.toString("base64") }, noText],
    ] as const) {
      const reply = replyOf(aTable([{ match, direct_response: { status: 418, body } }]), {});
      expect(reply).toEqual({ status: 418, body: bytes, details: "direct_response" });
    }
  });

  test("a body has a limit", () => {
    const body = { inline_string: "x".repeat(1024 * 1024 + 1) };
    expect(aTable([{ match, direct_response: { status: 200, body } }]).problems).toEqual([
      "virtual_hosts[0].routes[0].direct_response.body: has 1048577 bytes, limit 1048576",
    ]);
  });
});

describe("weighted clusters", () => {
  const weighted = (...weights: readonly number[]) => ({
    match,
    route: { weighted_clusters: { clusters: weights.map((weight, index) => ({ name: `c${index}`, weight })) } },
  });
  const clusterAt = (draw: number, ...weights: readonly number[]) => {
    const exchange = anExchange();
    const { table } = aTable([weighted(...weights)], { random: () => draw });
    const action = table.match(exchange)?.action;
    return action?.kind === "forward" ? action.pickCluster(exchange) : undefined;
  };

  test.each<[number, readonly number[], string]>([
    [0, [90, 10], "c0"],
    [0.899, [90, 10], "c0"],
    [0.9, [90, 10], "c1"],
    [0.999_999, [90, 10], "c1"],
    [0, [0, 100], "c1"],
    [0.999_999, [100, 0], "c0"],
    [0.5, [3, 1, 1], "c0"],
    [0.7, [3, 1, 1], "c1"],
  ])("draw %d of %j is %s", (draw, weights, wanted) => {
    expect(clusterAt(draw, ...weights)).toBe(wanted);
  });

  test("a header can be the draw", () => {
    const routes = [
      {
        match,
        route: {
          weighted_clusters: {
            header_name: "x-draw",
            clusters: [
              { name: "a", weight: 1 },
              { name: "b", weight: 1 },
            ],
          },
        },
      },
    ];
    const { table } = aTable(routes);
    const names = ["0", "1", "3"].map((draw) => {
      const exchange = anExchange({ headers: ["x-draw", draw] });
      const action = table.match(exchange)?.action;
      return action?.kind === "forward" && action.pickCluster(exchange);
    });
    expect(names).toEqual(["a", "b", "b"]);
  });
});

describe("what is wrong is told, with its place", () => {
  const at = "virtual_hosts[0].routes[0]";
  test.each<[JsonObject, string]>([
    [
      { match, route: { weighted_clusters: { clusters: [{ name: "a", weight: 0 }] } } },
      `${at}.route.weighted_clusters.clusters: the sum of weights must be above zero`,
    ],
    [{ match }, `${at}: set one of route, redirect or direct_response`],
    [{ match, route: {} }, `${at}.route: set one of cluster, cluster_header or weighted_clusters`],
    [{ match, route: { ...route, hedge_policy: {} } }, `${at}.route.hedge_policy: is not supported`],
    [
      { match, route: { ...route, internal_redirect_policy: {} } },
      `${at}.route.internal_redirect_policy: is not supported: redirects are the client's to follow`,
    ],
    [
      { match, route: { ...route, retry_policy: { retry_on: "5xx,5XX" } } },
      `${at}.route.retry_policy.retry_on: "5XX" is unknown`,
    ],
    [
      { match, route: { ...route, retry_policy: { retry_back_off: { base_interval: "1s", max_interval: "0.5s" } } } },
      `${at}.route.retry_policy.retry_back_off.max_interval: 500 ms is below the base interval of 1000 ms`,
    ],
    [
      { match, route, request_headers_to_add: [add("a", "%NOPE%")] },
      `${at}.request_headers_to_add[0].header.value: command "%NOPE%" is not known`,
    ],
    [
      { match, route, request_headers_to_add: [add(":path", "x")] },
      `${at}.request_headers_to_add[0].header.key: ":path" may not be changed here; use a host or path rewrite`,
    ],
    [
      { match, route, response_headers_to_add: [add("transfer-encoding", "x")] },
      `${at}.response_headers_to_add[0].header.key: "transfer-encoding" belongs to the connection and may not be set`,
    ],
    [
      { match: {}, route },
      `${at}.match: set one of prefix, path, safe_regex, path_separated_prefix, path_match_policy or connect_matcher`,
    ],
    [
      { match: { safe_regex: { regex: "(?=a)" } }, route },
      `${at}.match.safe_regex: "(?=a)" is not RE2: error parsing regexp: invalid or unsupported Perl syntax: \`(?=\``,
    ],
    [
      { match: { path_separated_prefix: "/a/" }, route },
      `${at}.match.path_separated_prefix: "/a/" must begin with / and not end with it, without query or fragment`,
    ],
    [
      { match, route: { ...route, regex_rewrite: { pattern: { regex: "a" }, substitution: "\\1" } } },
      `${at}.route.regex_rewrite.substitution: "\\1" names group 1, the pattern has 0`,
    ],
    [
      { match, route: { ...route, prefix_rewrite: "/a", regex_rewrite: { pattern: { regex: "a" } } } },
      `${at}.route: only one of prefix_rewrite, regex_rewrite and path_rewrite_policy may be set`,
    ],
    [{ match, direct_response: { status: 99 } }, `${at}.direct_response.status: 99 is not between 200 and 599`],
    [
      {
        match,
        route,
        typed_per_filter_config: {
          x: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        },
      },
      `${at}.typed_per_filter_config["x"]: "envoy.extensions.filters.http.router.v3.Router" is not supported for a route`,
    ],
    [
      {
        match,
        route,
        typed_per_filter_config: {
          "envoy.filters.http.fault": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            abort: { http_status: 700 },
          },
        },
      },
      `${at}.typed_per_filter_config["envoy.filters.http.fault"].abort.http_status: 700 is not between 200 and 599`,
    ],
    [
      { match, route: { ...route, hash_policy: [{}] } },
      `${at}.route.hash_policy[0]: set one of header, cookie, connection_properties, query_parameter or filter_state`,
    ],
    [
      { match, route: { ...route, request_mirror_policies: [{}] } },
      `${at}.route.request_mirror_policies[0]: set one of cluster and cluster_header`,
    ],
  ])("%j", (config, wanted) => {
    expect(aTable([config]).problems).toContain(wanted);
  });

  test("several mistakes are all told", () => {
    const { problems } = aTable({
      virtual_hosts: [
        { name: "a", domains: ["x"], require_tls: "ALL" },
        { name: "a", domains: ["x", "*.y*"] },
      ],
    });
    expect(problems).toEqual([
      "virtual_hosts[0].require_tls: is not supported",
      'virtual_hosts[1].name: "a" is taken by another virtual host',
      'virtual_hosts[1].domains[0]: "x" is taken by another virtual host',
      'virtual_hosts[1].domains[1]: "*.y*" may have one "*", at its beginning or end',
    ]);
  });
});
