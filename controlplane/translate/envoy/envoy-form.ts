/** What a waypoint is served as plain JSON, sorted by name. */
import { createRegistry, toJson, type DescMessage, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { ClusterSchema } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { file_envoy_config_trace_v3_opentelemetry as openTelemetry } from "#shared/proto/gen/envoy/config/trace/v3/opentelemetry_pb.js";
import { file_envoy_config_trace_v3_zipkin as zipkin } from "#shared/proto/gen/envoy/config/trace/v3/zipkin_pb.js";
import { file_envoy_extensions_access_loggers_file_v3_file as fileLog } from "#shared/proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { file_envoy_extensions_access_loggers_filters_cel_v3_cel as cel } from "#shared/proto/gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js";
import { file_envoy_extensions_access_loggers_grpc_v3_als as grpcLog } from "#shared/proto/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.js";
import { file_envoy_extensions_access_loggers_stream_v3_stream as streamLog } from "#shared/proto/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { file_envoy_extensions_clusters_dynamic_forward_proxy_v3_cluster as forwardCluster } from "#shared/proto/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import { file_envoy_extensions_filters_http_cors_v3_cors as cors } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { file_envoy_extensions_filters_http_dynamic_forward_proxy_v3_dynamic_forward_proxy as forward } from "#shared/proto/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_http_ext_authz_v3_ext_authz as extAuthz } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_http_fault_v3_fault as fault } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { file_envoy_extensions_filters_http_grpc_stats_v3_config as grpcStats } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_web_v3_grpc_web as grpcWeb } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { file_envoy_extensions_filters_http_header_mutation_v3_header_mutation as headers } from "#shared/proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { file_envoy_extensions_filters_http_jwt_authn_v3_config as jwt } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { file_envoy_extensions_filters_http_local_ratelimit_v3_local_rate_limit as localLimit } from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { file_envoy_extensions_filters_http_ratelimit_v3_rate_limit as rateLimit } from "#shared/proto/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import { file_envoy_extensions_filters_http_rbac_v3_rbac as httpRbac } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_http_router_v3_router as router } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { file_envoy_extensions_filters_http_set_filter_state_v3_set_filter_state as filterState } from "#shared/proto/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js";
import { file_envoy_extensions_filters_listener_http_inspector_v3_http_inspector as httpInspector } from "#shared/proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { file_envoy_extensions_filters_listener_original_dst_v3_original_dst as originalDst } from "#shared/proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { file_envoy_extensions_filters_listener_tls_inspector_v3_tls_inspector as tlsInspector } from "#shared/proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { file_envoy_extensions_filters_network_ext_authz_v3_ext_authz as networkExtAuthz } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_network_http_connection_manager_v3_http_connection_manager as hcm } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { file_envoy_extensions_filters_network_rbac_v3_rbac as networkRbac } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_network_sni_dynamic_forward_proxy_v3_sni_dynamic_forward_proxy as sniForward } from "#shared/proto/gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_network_tcp_proxy_v3_tcp_proxy as tcpProxy } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { file_envoy_extensions_http_header_formatters_preserve_case_v3_preserve_case as preserveCase } from "#shared/proto/gen/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.js";
import { file_envoy_extensions_path_match_uri_template_v3_uri_template_match as templateMatch } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { file_envoy_extensions_path_rewrite_uri_template_v3_uri_template_rewrite as templateRewrite } from "#shared/proto/gen/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import { file_envoy_extensions_request_id_uuid_v3_uuid as requestId } from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import { file_envoy_extensions_retry_host_previous_hosts_v3_previous_hosts as previousHosts } from "#shared/proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { file_envoy_extensions_retry_priority_previous_priorities_v3_previous_priorities_config as previousPriorities } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { file_envoy_extensions_tracers_opentelemetry_resource_detectors_v3_environment_resource_detector as environmentDetector } from "#shared/proto/gen/envoy/extensions/tracers/opentelemetry/resource_detectors/v3/environment_resource_detector_pb.js";
import { file_envoy_extensions_transport_sockets_internal_upstream_v3_internal_upstream as internalUpstream } from "#shared/proto/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { file_envoy_extensions_transport_sockets_proxy_protocol_v3_upstream_proxy_protocol as proxyProtocol } from "#shared/proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { file_envoy_extensions_transport_sockets_raw_buffer_v3_raw_buffer as rawBuffer } from "#shared/proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import { file_envoy_extensions_transport_sockets_tls_v3_tls as tls } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { file_envoy_extensions_upstreams_http_v3_http_protocol_options as upstreamHttp } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { file_udpa_type_v1_typed_struct as udpaStruct } from "#shared/proto/gen/udpa/type/v1/typed_struct_pb.js";
import { file_xds_type_v3_typed_struct as xdsStruct } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { EnvoyResources } from "./resources.ts";

/** Every type that a `typed_config` of ours may hold. */
const registry = createRegistry(
  openTelemetry,
  zipkin,
  fileLog,
  cel,
  grpcLog,
  streamLog,
  forwardCluster,
  cors,
  forward,
  extAuthz,
  fault,
  grpcStats,
  grpcWeb,
  headers,
  jwt,
  localLimit,
  rateLimit,
  httpRbac,
  router,
  filterState,
  httpInspector,
  originalDst,
  tlsInspector,
  networkExtAuthz,
  hcm,
  networkRbac,
  sniForward,
  tcpProxy,
  preserveCase,
  templateMatch,
  templateRewrite,
  requestId,
  previousHosts,
  previousPriorities,
  environmentDetector,
  internalUpstream,
  proxyProtocol,
  rawBuffer,
  tls,
  upstreamHttp,
  udpaStruct,
  xdsStruct,
);

export interface EnvoyForm {
  readonly listeners: readonly JsonValue[];
  readonly clusters: readonly JsonValue[];
  readonly endpoints: readonly JsonValue[];
}

/** Bytes of keys are left out: this is for eyes. */
export function envoyForm({ listeners, clusters, endpoints }: EnvoyResources): EnvoyForm {
  const list = <D extends DescMessage>(
    schema: D,
    items: readonly MessageShape<D>[],
    nameOf: (item: MessageShape<D>) => string,
  ): readonly JsonValue[] =>
    [...items]
      .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
      .map((item) => withoutKeys(toJson(schema, item, { registry })));
  return {
    listeners: list(ListenerSchema, listeners, ({ name }) => name),
    clusters: list(ClusterSchema, clusters, ({ name }) => name),
    endpoints: list(ClusterLoadAssignmentSchema, endpoints, ({ clusterName }) => clusterName),
  };
}

function withoutKeys(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withoutKeys);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => {
      const isKey = name === "privateKey" && typeof each === "object" && each !== null && "inlineBytes" in each;
      return [name, isKey ? { inlineBytes: "" } : withoutKeys(each)];
    }),
  );
}
