/** What is changed on the way: headers, paths, hosts, and answers that come from no backend. */
import type { JsonObject } from "@bufbuild/protobuf";
import { grpc, http1, http2, utf8, type Case } from "./case.ts";

const cluster = "backend";
const set = (key: string, value: string, append_action = "OVERWRITE_IF_EXISTS_OR_ADD"): JsonObject => ({
  header: { key, value },
  append_action,
});
const path = (at: string, route: JsonObject, more: JsonObject = {}): JsonObject => ({
  match: { prefix: at },
  route: { cluster, timeout: "0s", ...route },
  ...more,
});
/** To a cluster with a weight, which has a word on the host too. */
const weighted = (at: string, route: JsonObject): JsonObject => ({
  match: { prefix: at },
  route: {
    weighted_clusters: { clusters: [{ name: cluster, weight: 1, host_rewrite_literal: "cluster.example" }] },
    timeout: "0s",
    ...route,
  },
});
const redirect = (at: string, action: JsonObject): JsonObject => ({ match: { prefix: at }, redirect: action });
const regex = (pattern: string, substitution: string): JsonObject => ({ pattern: { regex: pattern }, substitution });

/** A format for each header. */
const formats: Readonly<Record<string, string>> = {
  "x-req": "[%REQ(x-in)%]",
  "x-req-alt": "%REQ(x-missing?x-in)%",
  "x-req-missing": "%REQ(x-missing)%",
  "x-req-short": "%REQ(x-in):3%",
  "x-method": "%REQ(:METHOD)%",
  "x-path": "%REQ(:PATH)% %PATH(NQ:ORIG)%",
  "x-path-any": "%PATH%",
  "x-parameter": "%QUERY_PARAM(b)%",
  "x-beyond-ascii": "naïve 漢",
  "x-authority": "%REQ(:AUTHORITY)%",
  "x-protocol": "%PROTOCOL%",
  "x-remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
  "x-direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
  "x-local": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
  "x-cluster": "%UPSTREAM_CLUSTER%",
  "x-route": "%ROUTE_NAME%",
  "x-percent": "100%% %%REQ%%",
  "x-tls": "%DOWNSTREAM_PEER_URI_SAN%",
  "x-name": "%REQUESTED_SERVER_NAME%",
  "x-hostname-free": "plain text",
  "x-meta": "%DYNAMIC_METADATA(nothing:here)%",
};
const responseFormats: Readonly<Record<string, string>> = {
  "x-code": "%RESPONSE_CODE%",
  "x-details": "%RESPONSE_CODE_DETAILS%",
  "x-flags": "%RESPONSE_FLAGS%",
  "x-resp": "%RESP(x-backend)%",
  "x-resp-missing": "%RESP(x-missing)%",
  "x-host-free": "%UPSTREAM_CLUSTER%",
  "x-echo": "%REQ(x-in)%",
  "x-beyond-ascii": "naïve 漢",
};

export const editRoutes: readonly JsonObject[] = [
  path(
    "/formats",
    {},
    {
      name: "the-route",
      request_headers_to_add: Object.entries(formats).map(([key, value]) => set(key, value)),
      response_headers_to_add: Object.entries(responseFormats).map(([key, value]) => set(key, value)),
    },
  ),
  path(
    "/appends",
    {},
    {
      request_headers_to_add: [
        set("x-in", "appended", "APPEND_IF_EXISTS_OR_ADD"),
        set("x-new", "added", "ADD_IF_ABSENT"),
        set("x-kept", "not this", "ADD_IF_ABSENT"),
        set("x-over", "over", "OVERWRITE_IF_EXISTS"),
        set("x-over-none", "over", "OVERWRITE_IF_EXISTS"),
      ],
      request_headers_to_remove: ["x-gone", "user-agent"],
      response_headers_to_add: [set("x-backend", "two", "APPEND_IF_EXISTS_OR_ADD"), set("server", "mine")],
      response_headers_to_remove: ["content-type"],
    },
  ),
  path("/order", {}, { request_headers_to_add: [set("x-of-host", "route", "APPEND_IF_EXISTS_OR_ADD")] }),
  path("/rewritten/", { prefix_rewrite: "/new/" }),
  path("/bare", { prefix_rewrite: "/" }),
  path("/regex", { regex_rewrite: regex("^/regex/([^/]+)/(.*)$", "/\\2/of/\\1") }),
  {
    match: {
      path_match_policy: {
        name: "t",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
          path_template: "/template/{a}/{b=**}",
        },
      },
    },
    route: {
      cluster,
      path_rewrite_policy: {
        name: "r",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
          path_template_rewrite: "/{b}/then/{a}",
        },
      },
    },
  },
  path("/host", { host_rewrite_literal: "other.example", append_x_forwarded_host: true }),
  path("/from-header", { host_rewrite_header: "x-in" }),
  weighted("/weights/own", {}),
  weighted("/weights/both", { host_rewrite_literal: "route.example" }),
  weighted("/weights/header", { host_rewrite_header: "x-in" }),
  path("/from-path", { host_rewrite_path_regex: regex("^/from-path/(.+)$", "\\1.example") }),
  redirect("/r/path", { path_redirect: "/there?a=b" }),
  redirect("/r/prefix", { prefix_rewrite: "/moved" }),
  redirect("/r/host", { host_redirect: "new.example", response_code: "FOUND" }),
  redirect("/r/https", { https_redirect: true, response_code: "PERMANENT_REDIRECT" }),
  redirect("/r/scheme-port", { scheme_redirect: "https", port_redirect: 8443, response_code: "SEE_OTHER" }),
  redirect("/r/strip", { path_redirect: "/bare", strip_query: true, response_code: "TEMPORARY_REDIRECT" }),
  redirect("/r/regex-bare", { regex_rewrite: regex("^/r/regex-bare/", "to/") }),
  redirect("/r/regex", { regex_rewrite: regex("^/r/regex/(.*)$", "/to/\\1") }),
  {
    match: { path: "/d/text" },
    direct_response: { status: 418, body: { inline_string: "short" } },
    response_headers_to_add: [set("x-d", "%RESPONSE_CODE%"), set("content-type", "application/x-mine")],
  },
  { match: { path: "/d/empty" }, direct_response: { status: 204 } },
  { match: { path: "/d/bytes" }, direct_response: { status: 200, body: { inline_bytes: "/wB/gA==" } } },
  { match: { path: "/d/503" }, direct_response: { status: 503, body: { inline_string: "closed" } } },
  { match: { path: "/d/format" }, direct_response: { status: 200, body: { inline_string: "100% %REQ(x-in)%" } } },
  path("/", {}),
];

const host = "edits.example";
const inHeader = { headers: [["X-In", "some value"]] as const };

export const editCases: readonly Case[] = [
  http1("formats of headers", host, "/formats/a?b=c", 200, inHeader),
  http1("formats without anything to show", host, "/formats", 200),
  http1("formats of an answer that is an error", host, "/formats", 500, { headers: [["x-answer", "500"]] }),
  http2("formats over HTTP/2", host, "/formats/a?b=c", 200, { "x-in": "some value" }),
  http1("formats of a value with odd characters", host, "/formats", 200, { headers: [["X-In", 'a"b\\c%41 é']] }),
  http1("formats of a value beyond ASCII", host, "/formats/a?%62=c%20d", 200, { headers: [["X-In", utf8("José 漢")]] }),
  http1("formats of a path that was another", host, "/formats/a?b", 200, {
    headers: [["x-envoy-original-path", "/was?b=1"]],
  }),
  http1("appended, added, overwritten, removed", host, "/appends", 200, {
    headers: [
      ["X-In", "first"],
      ["X-Kept", "kept"],
      ["X-Over", "old"],
      ["X-Gone", "1"],
      ["User-Agent", "me"],
    ],
  }),
  http1("nothing there to append to", host, "/appends", 200),
  http1("host's after route's", host, "/order", 200),
  http1("a prefix rewritten", host, "/rewritten/x?y=z", 200),
  http1("a prefix taken away", host, "/bare", 200),
  http1("a prefix taken away from a longer path", host, "/bare/x", 200),
  http1("a prefix taken away from a query", host, "/bare?x", 200),
  http1("rewritten by regex", host, "/regex/a/b/c?d=/regex", 200),
  http1("regex without a match", host, "/regex", 200),
  http1("rewritten by template", host, "/template/one/two/three?q", 200),
  http1("the host rewritten", host, "/host", 200),
  http1("the host from a header", host, "/from-header", 200, { headers: [["x-in", "in.example"]] }),
  http1("the host from no header", host, "/from-header", 200),
  http1("the host of a weighted cluster", host, "/weights/own", 200),
  http1("the host of a weighted cluster and of the route", host, "/weights/both", 200),
  http1("the host of a weighted cluster and from a header", host, "/weights/header", 200, {
    headers: [["x-in", "in.example"]],
  }),
  http1("the host of a weighted cluster and from no header", host, "/weights/header", 200),
  http1("the host from the path", host, "/from-path/abc?d", 200),
  http1("redirect to a path", host, "/r/path?x=1", 301),
  http1("redirect keeps the rest of the path", host, "/r/prefix/x?y=1", 301),
  http1("redirect to a host", host, "/r/host/x?y", 302),
  http1("redirect to a host from a port", `${host}:8080`, "/r/host/x?y", 302),
  http1("redirect to https", host, "/r/https/x", 308),
  http1("redirect to https from port 80", `${host}:80`, "/r/https/x", 308),
  http1("redirect to https from another port", `${host}:8080`, "/r/https/x", 308),
  http1("redirect to scheme and port", host, "/r/scheme-port", 303),
  http1("redirect without the query", host, "/r/strip?x", 307),
  http1("redirect by regex", host, "/r/regex/a?b", 301),
  http1("redirect by regex to a path without a slash", host, "/r/regex-bare/a?b", 301),
  http1("redirect of a POST", host, "/r/path", 301, { method: "POST", body: "x" }),
  http1("an answer of its own", host, "/d/text", 418),
  http1("an answer of its own to HEAD", host, "/d/text", 418, { method: "HEAD" }),
  http1("an answer of its own to a body", host, "/d/text", 418, { method: "POST", body: "12345" }),
  http1("an empty answer", host, "/d/empty", 204),
  http1("an answer of bytes", host, "/d/bytes", 200),
  http1("an answer 503", host, "/d/503", 503),
  http1("an answer is no format", host, "/d/format", 200, inHeader),
  http2("an answer of its own over HTTP/2", host, "/d/text", 418),
  grpc("an answer of its own to gRPC", host, "/d/503"),
  grpc("a redirect to gRPC", host, "/r/path"),
];
