/** An external authorizer that is asked by HTTP: what it is told, and what becomes of what it answers. */
import type { JsonObject } from "@bufbuild/protobuf";
import { router, typed } from "#waypoint/testing/resources.ts";
import { grpc, http1, http2, type Case, type Spoken } from "./case.ts";

const host = "plain.example";
const prefixes = (...all: readonly string[]): JsonObject => ({
  patterns: all.map((prefix) => ({ prefix, ignore_case: true })),
});

const authorizer = (cluster: string, more: JsonObject = {}): JsonObject => ({
  http_filters: [
    typed("envoy.filters.http.ext_authz", "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", {
      transport_api_version: "V3",
      allowed_headers: prefixes("x-answer", "x-hang", "cookie", "x-told"),
      http_service: {
        server_uri: { uri: "http://authorizer.example", cluster, timeout: "0.3s" },
        path_prefix: "/check",
        authorization_request: { headers_to_add: [{ key: "x-added", value: "by configuration" }] },
        authorization_response: {
          allowed_upstream_headers: prefixes("x-up"),
          allowed_client_headers: prefixes("x-client"),
          allowed_client_headers_on_success: prefixes("x-ok"),
        },
      },
      ...more,
    }),
    router,
  ],
});

/** Listeners by name. */
export const authorizerListeners: Readonly<Record<string, JsonObject>> = {
  authorizer: authorizer("backend"),
  "authorizer-missing": authorizer("empty", { status_on_error: { code: "ServiceUnavailable" } }),
  "authorizer-open": authorizer("refused", { failure_mode_allow: true, failure_mode_allow_header_add: true }),
  "authorizer-body": authorizer("backend", {
    with_request_body: { max_request_bytes: 5, allow_partial_message: true },
  }),
  "authorizer-whole-body": authorizer("backend", { with_request_body: { max_request_bytes: 5 } }),
};

const ask = (name: string, status: number, spoken: Spoken = {}): Case =>
  http1(`authorizer: ${name}`, host, "/a/b?c=d", status, { listener: "authorizer", ...spoken });
const headers = (...all: readonly (readonly [string, string])[]) => ({ headers: all });
const answered = (status: number, more: Readonly<Record<string, unknown>> = {}) =>
  headers(["x-answer-check", String(status)], ["x-answer-with-check", JSON.stringify(more)]);
const elsewhere = (listener: string, { request, ...rest }: Case): Case => ({ ...rest, request, listener });

export const authorizerCases: readonly Case[] = [
  ask("what it is told", 200, {
    ...headers(
      ["X-Told", "one"],
      ["X-Told", "two"],
      ["Cookie", "a=b"],
      ["Authorization", "Basic abc"],
      ["X-Other", "untold"],
      ["User-Agent", "me"],
      ["x-forwarded-for", "1.2.3.4"],
    ),
  }),
  ask("of a body it is told nothing", 200, { method: "POST", body: "hello" }),
  ask("what it adds for the upstream", 200, answered(200, { "x-up": "set", "x-up-two": ["a", "b"], "x-client": "no" })),
  ask("what it sets anew for the upstream", 200, {
    headers: [...answered(200, { "x-up": "set" }).headers, ["x-up", "forged"]],
  }),
  ask("what it adds for the client", 200, answered(200, { "x-ok": "yes", "x-client": "no" })),
  ask("it says no", 403, answered(403, { "x-client": "why", "x-up": "no", "x-ok": "no", "set-cookie": "a=b" })),
  ask("it says who to be", 401, answered(401, { "www-authenticate": 'Bearer realm="x"', location: "/login" })),
  ask("it leads elsewhere", 302, answered(302, { location: "https://login.example/" })),
  ask("it says nothing but no", 404, answered(404)),
  ask("it says 201", 201, answered(201)),
  ask("it says 204", 204, answered(204)),
  ask("it fails", 403, answered(500)),
  ask("it fails with 503", 403, answered(503)),
  ask("it does not answer", 403, headers(["x-hang-check", "1"])),
  ask("HEAD", 403, { method: "HEAD", ...answered(403) }),
  ask("OPTIONS", 200, { method: "OPTIONS" }),
  { ...http2("authorizer: over HTTP/2", host, "/a/b", 200, { "x-told": "one" }), listener: "authorizer" },
  elsewhere(
    "authorizer",
    grpc("authorizer: no to a call", host, "/a.B/C", { "x-answer-check": "403", "x-answer-with-check": "{}" }),
  ),
  ask("there is none", 503, { listener: "authorizer-missing" }),
  ask("there is none, and calls pass", 200, { listener: "authorizer-open" }),
  ask("the body", 200, { listener: "authorizer-body", method: "POST", body: "abc" }),
  ask("part of the body", 200, { listener: "authorizer-body", method: "POST", body: "hello world" }),
  ask("no body to tell", 200, { listener: "authorizer-body" }),
  ask("a body that is whole", 200, { listener: "authorizer-whole-body", method: "POST", body: "abc" }),
  ask("a body that is too large", 413, { listener: "authorizer-whole-body", method: "POST", body: "hello world" }),
];
