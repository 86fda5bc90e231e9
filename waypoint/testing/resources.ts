/** Envoy's resources for tests: say what matters, the rest is ordinary. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

const any = (type: string, fields: JsonObject = {}): JsonObject => ({
  "@type": `type.googleapis.com/${type}`,
  ...fields,
});

export const typed = (name: string, type: string, fields: JsonObject = {}): JsonObject => ({
  name,
  typed_config: any(type, fields),
});

export const router = typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router");

/** A connection manager with these routes; `more` adds or replaces fields. */
export const httpFilter = (routes: readonly JsonValue[], more: JsonObject = {}): JsonObject =>
  typed(
    "envoy.filters.network.http_connection_manager",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    {
      stat_prefix: "test",
      server_name: "istio-envoy",
      stream_idle_timeout: "0s",
      normalize_path: true,
      upgrade_configs: [{ upgrade_type: "websocket" }],
      http_filters: [router],
      route_config: { name: "test", virtual_hosts: [{ name: "test", domains: ["*"], routes: [...routes] }] },
      ...more,
    },
  );

/** Everything goes to one cluster. */
export const routeTo = (cluster: string, more: JsonObject = {}): JsonObject => ({
  match: { prefix: "/" },
  route: { cluster, timeout: "0s" },
  ...more,
});

export const tcpFilter = (cluster: string, more: JsonObject = {}): JsonObject =>
  typed("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", {
    stat_prefix: "test",
    cluster,
    ...more,
  });

export const inspectors = {
  http: typed(
    "envoy.filters.listener.http_inspector",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
  ),
  tls: typed("envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
  originalDestination: typed(
    "envoy.filters.listener.original_dst",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
  ),
} as const;

/** Bound to a port that the system chooses. */
export const listener = (name: string, chains: readonly JsonObject[], more: JsonObject = {}): JsonObject => ({
  name,
  address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
  traffic_direction: "INBOUND",
  filter_chains: [...chains],
  ...more,
});

export const edsCluster = (name: string, more: JsonObject = {}): JsonObject => ({
  name,
  type: "EDS",
  connect_timeout: "5s",
  eds_cluster_config: { eds_config: { ads: {}, resource_api_version: "V3" }, service_name: name },
  ...more,
});

export const endpoints = (cluster: string, ...ports: readonly number[]): JsonObject => ({
  cluster_name: cluster,
  endpoints: [
    {
      lb_endpoints: ports.map((port) => ({
        endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } },
      })),
    },
  ],
});
