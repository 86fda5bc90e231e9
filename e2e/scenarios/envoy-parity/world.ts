/** What both proxies are told: one host for each subject, in Envoy's own words. */
import type { JsonObject } from "@bufbuild/protobuf";
import { backendClusters, type Resources } from "#e2e/support/side-by-side.ts";
import { edsCluster, httpFilter, listener, router, typed } from "#waypoint/testing/resources.ts";
import { answerRoutes } from "./answers.ts";
import { authorizationHost, authorizationRoutes } from "./authorization.ts";
import { authorizerListeners } from "./authorizers.ts";
import { editRoutes } from "./edit-routes.ts";
import { matchRoutes } from "./match-routes.ts";
import { jwtFilter, policyHosts } from "./policies.ts";
import { resilienceRoutes } from "./resilience-routes.ts";

const host = (name: string, routes: readonly JsonObject[], more: JsonObject = {}): JsonObject => ({
  name,
  domains: [`${name}.example`, `${name}.example:*`],
  include_request_attempt_count: true,
  routes: [...routes],
  ...more,
});

const toBackend = { route: { cluster: backendClusters.http1, timeout: "0s" } };

const filters = [
  typed("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
  typed("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
  typed("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
  jwtFilter,
  typed("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC"),
  typed("envoy.filters.http.local_ratelimit", "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", {
    stat_prefix: "limits",
  }),
  router,
];

const hosts = [
  host("plain", [{ match: { prefix: "/" }, ...toBackend }], {
    domains: ["plain.example", "*.suffix.example", "prefix.*", "plain.example:8080"],
  }),
  host("match", matchRoutes),
  host("edits", editRoutes, {
    request_headers_to_add: [{ header: { key: "x-of-host", value: "host" } }],
    response_headers_to_add: [{ header: { key: "x-of-host", value: "host" } }],
  }),
  host("resilience", resilienceRoutes),
  host("answers", answerRoutes),
  host(authorizationHost, authorizationRoutes),
  ...policyHosts.map(({ name, routes, more }) => host(name, routes, more)),
];

/** Everything that arrives, without regard to what it says. */
const all = { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, ...toBackend }] };

interface Entrance {
  readonly name: string;
  readonly more: JsonObject;
}

const paths = (name: string, more: JsonObject): Entrance => ({
  name,
  more: { route_config: { name, virtual_hosts: [all] }, ...more },
});

const chain = (more: JsonObject, logFile: string): JsonObject => ({
  name: "all",
  // Whoever sent what cannot be read is not waited for.
  filters: [httpFilter([], { access_log: [accessLog(logFile)], delayed_close_timeout: "0.05s", ...more })],
});

const http2Options = {
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

/** What both say of a request in the same words. */
const logged = [
  "%RESPONSE_CODE%",
  "%RESPONSE_CODE_DETAILS%",
  "%RESPONSE_FLAGS%",
  "%BYTES_RECEIVED%/%BYTES_SENT%",
  "%PROTOCOL%",
  "%ROUTE_NAME%",
  "%UPSTREAM_CLUSTER%",
  "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
  "%CONNECTION_TERMINATION_DETAILS%",
  "%GRPC_STATUS%",
  "%REQ(:METHOD)%",
  "%REQ(:AUTHORITY)%%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
];

const accessLog = (path: string): JsonObject =>
  typed("envoy.access_loggers.file", "envoy.extensions.access_loggers.file.v3.FileAccessLog", {
    path,
    log_format: { text_format_source: { inline_string: `${logged.join(" ")}\n` } },
  });

const entrances: readonly Entrance[] = [
  {
    name: "main",
    more: {
      http_filters: filters,
      route_config: { name: "main", virtual_hosts: hosts, validate_clusters: false },
    },
  },
  paths("as-written", { normalize_path: false }),
  paths("merging", { merge_slashes: true }),
  paths("escapes-rejected", { path_with_escaped_slashes_action: "REJECT_REQUEST" }),
  paths("escapes-redirected", { path_with_escaped_slashes_action: "UNESCAPE_AND_REDIRECT" }),
  paths("escapes-undone", { path_with_escaped_slashes_action: "UNESCAPE_AND_FORWARD", merge_slashes: true }),
  paths("old", { http_protocol_options: { accept_http_10: true, default_host_for_http_10: "plain.example" } }),
  paths("edge", {
    use_remote_address: true,
    append_x_forwarded_port: true,
    via: "parity",
    always_set_request_id_in_response: true,
  }),
  paths("stripping", { strip_any_host_port: true, strip_trailing_host_dot: true }),
  paths("passing-server", { server_header_transformation: "PASS_THROUGH" }),
  ...Object.entries(authorizerListeners).map(([name, more]) => paths(name, more)),
  paths("small-heads", { max_request_headers_kb: 8, common_http_protocol_options: { max_headers_count: 20 } }),
];

export const resources = (logFile: string): Resources => ({
  clusters: [
    edsCluster(backendClusters.http1),
    edsCluster(backendClusters.http2, http2Options),
    edsCluster(backendClusters.scripted),
    edsCluster(backendClusters.nobody),
    edsCluster(backendClusters.refused),
  ],
  listeners: entrances.map(({ name, more }) => ({ ...listener(name, [chain(more, logFile)]), name })),
});
