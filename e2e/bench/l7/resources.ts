/** What the proxies of the bench are told, in Envoy's types: one route, or what a busy service has. */
import type { JsonObject } from "@bufbuild/protobuf";
import { edsCluster, endpoints, httpFilter, listener, router, routeTo, typed } from "#waypoint/testing/resources.ts";

export const settings = ["one route", "everything on", "1000 routes"] as const;
export type Setting = (typeof settings)[number];

export interface Backend {
  readonly setting: Setting;
  /** Where the origin listens. */
  readonly originPort: number;
  /** What it speaks there. */
  readonly protocol: "HTTP/1.1" | "HTTP/2";
}

/** Envoy's default bounds are for a service, not for what one core can do: they are not what is measured. */
const roomy = {
  circuit_breakers: {
    thresholds: [
      { max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 },
      { priority: "HIGH", max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 },
    ],
  },
};

const http2Upstream = {
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

export const clusterOf = ({ protocol }: Backend): JsonObject =>
  edsCluster("origin", { ...roomy, ...(protocol === "HTTP/2" ? http2Upstream : {}) });

export const endpointsOf = ({ originPort }: Backend): JsonObject => endpoints("origin", originPort);

export const listenerOf = (backend: Backend, port: number): JsonObject => {
  const chain = { name: "inbound-vip|80|http|origin", filters: [connectionManager(backend.setting)] };
  return listener("bench", [chain], { address: { socket_address: { address: "127.0.0.1", port_value: port } } });
};

function connectionManager(setting: Setting): JsonObject {
  switch (setting) {
    case "one route":
      return httpFilter([routeTo("origin")]);
    case "everything on":
      return httpFilter([...byHeader(9), last()], {
        access_log: [accessLog],
        http_filters: [rbac, rateLimit, metrics, router],
      });
    case "1000 routes":
      return httpFilter([...byPath(999), last()]);
  }
}

/** As the mesh sets them for every route. */
const resilience = {
  timeout: "15s",
  retry_policy: {
    retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    retriable_status_codes: [503],
    num_retries: 2,
    retry_host_predicate: [
      {
        name: "envoy.retry_host_predicates.previous_hosts",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        },
      },
    ],
    host_selection_retry_max_attempts: "5",
  },
};

const last = (): JsonObject => ({ match: { prefix: "/" }, route: { cluster: "origin", ...resilience } });

/** Looked at one after the other: a request without the header passes all of them. */
const byHeader = (count: number): readonly JsonObject[] =>
  Array.from({ length: count }, (_, index) => ({
    match: { prefix: "/", headers: [{ name: "x-canary", string_match: { exact: `v${index}` } }] },
    route: { cluster: "origin", ...resilience },
  }));

const byPath = (count: number): readonly JsonObject[] =>
  Array.from({ length: count }, (_, index) => ({
    match: { path_separated_prefix: `/api/v1/resources-${index}` },
    route: { cluster: "origin", timeout: "0s" },
  }));

/** Five policies, of which the last one allows. */
const rbac = typed("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", {
  rules: {
    action: "ALLOW",
    policies: Object.fromEntries([
      ...["a", "b", "c", "d"].map((name) => [
        `ns[bench]-policy[${name}]-rule[0]`,
        {
          permissions: [
            {
              and_rules: {
                rules: [
                  { header: { name: ":method", string_match: { exact: "DELETE" } } },
                  { url_path: { path: { prefix: `/admin/${name}` } } },
                ],
              },
            },
          ],
          principals: [{ direct_remote_ip: { address_prefix: "10.1.0.0", prefix_len: 16 } }],
        },
      ]),
      [
        "ns[bench]-policy[e]-rule[0]",
        {
          permissions: [{ url_path: { path: { prefix: "/" } } }],
          principals: [{ direct_remote_ip: { address_prefix: "127.0.0.0", prefix_len: 8 } }],
        },
      ],
    ]),
  },
});

const always = { default_value: { numerator: 100, denominator: "HUNDRED" } };

/** More than will come. */
const rateLimit = typed(
  "envoy.filters.http.local_ratelimit",
  "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
  {
    stat_prefix: "bench",
    token_bucket: { max_tokens: 1_000_000_000, tokens_per_fill: 1_000_000_000, fill_interval: "1s" },
    filter_enabled: { runtime_key: "bench.enabled", ...always },
    filter_enforced: { runtime_key: "bench.enforced", ...always },
  },
);

/** Istio's; an Envoy that was not built with it may leave it out. */
const metrics: JsonObject = {
  name: "istio.stats",
  is_optional: true,
  typed_config: {
    "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
    type_url: "type.googleapis.com/stats.PluginConfig",
    value: {},
  },
};

const accessLog: JsonObject = {
  name: "envoy.access_loggers.file",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
    path: "/dev/stdout",
    log_format: {
      text_format_source: {
        inline_string:
          '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
          '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
          '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
          '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ' +
          "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
      },
    },
  },
};
