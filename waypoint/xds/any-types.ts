/** Every message that may stand in an `Any` of what the control plane sends: to read it, to show it, to look for fields that we do not know. */
import { createRegistry, type Registry } from "@bufbuild/protobuf";
import { file_google_protobuf_wrappers } from "@bufbuild/protobuf/wkt";
import { file_envoy_config_cluster_v3_cluster } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { file_envoy_config_endpoint_v3_endpoint } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { file_envoy_config_listener_v3_listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { file_envoy_config_route_v3_route } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import { file_envoy_config_trace_v3_opentelemetry } from "#shared/proto/gen/envoy/config/trace/v3/opentelemetry_pb.js";
import { file_envoy_config_trace_v3_zipkin } from "#shared/proto/gen/envoy/config/trace/v3/zipkin_pb.js";
import { file_envoy_extensions_access_loggers_file_v3_file } from "#shared/proto/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { file_envoy_extensions_access_loggers_filters_cel_v3_cel } from "#shared/proto/gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js";
import { file_envoy_extensions_access_loggers_grpc_v3_als } from "#shared/proto/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.js";
import { file_envoy_extensions_access_loggers_stream_v3_stream } from "#shared/proto/gen/envoy/extensions/access_loggers/stream/v3/stream_pb.js";
import { file_envoy_extensions_clusters_dynamic_forward_proxy_v3_cluster } from "#shared/proto/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import { file_envoy_extensions_filters_http_cors_v3_cors } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { file_envoy_extensions_filters_http_dynamic_forward_proxy_v3_dynamic_forward_proxy } from "#shared/proto/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_http_ext_authz_v3_ext_authz } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_http_fault_v3_fault } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { file_envoy_extensions_filters_http_grpc_stats_v3_config } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { file_envoy_extensions_filters_http_grpc_web_v3_grpc_web } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { file_envoy_extensions_filters_http_header_mutation_v3_header_mutation } from "#shared/proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { file_envoy_extensions_filters_http_jwt_authn_v3_config } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { file_envoy_extensions_filters_http_local_ratelimit_v3_local_rate_limit } from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { file_envoy_extensions_filters_http_ratelimit_v3_rate_limit } from "#shared/proto/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import { file_envoy_extensions_filters_http_rbac_v3_rbac } from "#shared/proto/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_http_router_v3_router } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import { file_envoy_extensions_filters_http_set_filter_state_v3_set_filter_state } from "#shared/proto/gen/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js";
import { file_envoy_extensions_filters_listener_http_inspector_v3_http_inspector } from "#shared/proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { file_envoy_extensions_filters_listener_original_dst_v3_original_dst } from "#shared/proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { file_envoy_extensions_filters_listener_tls_inspector_v3_tls_inspector } from "#shared/proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { file_envoy_extensions_filters_network_ext_authz_v3_ext_authz } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { file_envoy_extensions_filters_network_http_connection_manager_v3_http_connection_manager } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { file_envoy_extensions_filters_network_mongo_proxy_v3_mongo_proxy } from "#shared/proto/gen/envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy_pb.js";
import { file_envoy_extensions_filters_network_rbac_v3_rbac } from "#shared/proto/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { file_envoy_extensions_filters_network_sni_dynamic_forward_proxy_v3_sni_dynamic_forward_proxy } from "#shared/proto/gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.js";
import { file_envoy_extensions_filters_network_tcp_proxy_v3_tcp_proxy } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import { file_envoy_extensions_load_balancing_policies_least_request_v3_least_request } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { file_envoy_extensions_load_balancing_policies_maglev_v3_maglev } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { file_envoy_extensions_load_balancing_policies_pick_first_v3_pick_first } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/pick_first/v3/pick_first_pb.js";
import { file_envoy_extensions_load_balancing_policies_random_v3_random } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import { file_envoy_extensions_load_balancing_policies_ring_hash_v3_ring_hash } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { file_envoy_extensions_load_balancing_policies_round_robin_v3_round_robin } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { file_envoy_extensions_load_balancing_policies_wrr_locality_v3_wrr_locality } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js";
import { file_envoy_extensions_filters_network_set_filter_state_v3_set_filter_state } from "#shared/proto/gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.js";
import { file_envoy_extensions_matching_common_inputs_network_v3_network_inputs } from "#shared/proto/gen/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.js";
import { file_envoy_extensions_path_match_uri_template_v3_uri_template_match } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { file_envoy_extensions_path_rewrite_uri_template_v3_uri_template_rewrite } from "#shared/proto/gen/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import { file_envoy_extensions_request_id_uuid_v3_uuid } from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import { file_envoy_extensions_retry_host_previous_hosts_v3_previous_hosts } from "#shared/proto/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js";
import { file_envoy_extensions_retry_priority_previous_priorities_v3_previous_priorities_config } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { file_envoy_extensions_tracers_opentelemetry_resource_detectors_v3_environment_resource_detector } from "#shared/proto/gen/envoy/extensions/tracers/opentelemetry/resource_detectors/v3/environment_resource_detector_pb.js";
import { file_envoy_extensions_transport_sockets_internal_upstream_v3_internal_upstream } from "#shared/proto/gen/envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream_pb.js";
import { file_envoy_extensions_transport_sockets_proxy_protocol_v3_upstream_proxy_protocol } from "#shared/proto/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js";
import { file_envoy_extensions_transport_sockets_raw_buffer_v3_raw_buffer } from "#shared/proto/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js";
import { file_envoy_extensions_transport_sockets_tls_v3_tls } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { file_envoy_extensions_upstreams_http_v3_http_protocol_options } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { file_xds_type_matcher_v3_ip } from "#shared/proto/gen/xds/type/matcher/v3/ip_pb.js";
import { file_udpa_type_v1_typed_struct } from "#shared/proto/gen/udpa/type/v1/typed_struct_pb.js";
import { file_xds_type_v3_typed_struct } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";

export const anyTypes: Registry = createRegistry(
  file_envoy_config_cluster_v3_cluster,
  file_envoy_config_endpoint_v3_endpoint,
  file_envoy_config_listener_v3_listener,
  file_envoy_config_route_v3_route,
  file_envoy_config_trace_v3_opentelemetry,
  file_envoy_config_trace_v3_zipkin,
  file_envoy_extensions_access_loggers_file_v3_file,
  file_envoy_extensions_access_loggers_filters_cel_v3_cel,
  file_envoy_extensions_access_loggers_grpc_v3_als,
  file_envoy_extensions_access_loggers_stream_v3_stream,
  file_envoy_extensions_clusters_dynamic_forward_proxy_v3_cluster,
  file_envoy_extensions_filters_http_cors_v3_cors,
  file_envoy_extensions_filters_http_dynamic_forward_proxy_v3_dynamic_forward_proxy,
  file_envoy_extensions_filters_http_ext_authz_v3_ext_authz,
  file_envoy_extensions_filters_http_fault_v3_fault,
  file_envoy_extensions_filters_http_grpc_stats_v3_config,
  file_envoy_extensions_filters_http_grpc_web_v3_grpc_web,
  file_envoy_extensions_filters_http_header_mutation_v3_header_mutation,
  file_envoy_extensions_filters_http_jwt_authn_v3_config,
  file_envoy_extensions_filters_http_local_ratelimit_v3_local_rate_limit,
  file_envoy_extensions_filters_http_ratelimit_v3_rate_limit,
  file_envoy_extensions_filters_http_rbac_v3_rbac,
  file_envoy_extensions_filters_http_router_v3_router,
  file_envoy_extensions_filters_http_set_filter_state_v3_set_filter_state,
  file_envoy_extensions_filters_listener_http_inspector_v3_http_inspector,
  file_envoy_extensions_filters_listener_original_dst_v3_original_dst,
  file_envoy_extensions_filters_listener_tls_inspector_v3_tls_inspector,
  file_envoy_extensions_filters_network_ext_authz_v3_ext_authz,
  file_envoy_extensions_filters_network_http_connection_manager_v3_http_connection_manager,
  file_envoy_extensions_filters_network_mongo_proxy_v3_mongo_proxy,
  file_envoy_extensions_filters_network_rbac_v3_rbac,
  file_envoy_extensions_filters_network_set_filter_state_v3_set_filter_state,
  file_envoy_extensions_filters_network_sni_dynamic_forward_proxy_v3_sni_dynamic_forward_proxy,
  file_envoy_extensions_filters_network_tcp_proxy_v3_tcp_proxy,
  file_envoy_extensions_load_balancing_policies_least_request_v3_least_request,
  file_envoy_extensions_load_balancing_policies_maglev_v3_maglev,
  file_envoy_extensions_load_balancing_policies_pick_first_v3_pick_first,
  file_envoy_extensions_load_balancing_policies_random_v3_random,
  file_envoy_extensions_load_balancing_policies_ring_hash_v3_ring_hash,
  file_envoy_extensions_load_balancing_policies_round_robin_v3_round_robin,
  file_envoy_extensions_load_balancing_policies_wrr_locality_v3_wrr_locality,
  file_envoy_extensions_matching_common_inputs_network_v3_network_inputs,
  file_envoy_extensions_path_match_uri_template_v3_uri_template_match,
  file_envoy_extensions_path_rewrite_uri_template_v3_uri_template_rewrite,
  file_envoy_extensions_request_id_uuid_v3_uuid,
  file_envoy_extensions_retry_host_previous_hosts_v3_previous_hosts,
  file_envoy_extensions_retry_priority_previous_priorities_v3_previous_priorities_config,
  file_envoy_extensions_tracers_opentelemetry_resource_detectors_v3_environment_resource_detector,
  file_envoy_extensions_transport_sockets_internal_upstream_v3_internal_upstream,
  file_envoy_extensions_transport_sockets_proxy_protocol_v3_upstream_proxy_protocol,
  file_envoy_extensions_transport_sockets_raw_buffer_v3_raw_buffer,
  file_envoy_extensions_transport_sockets_tls_v3_tls,
  file_envoy_extensions_upstreams_http_v3_http_protocol_options,
  file_google_protobuf_wrappers,
  file_udpa_type_v1_typed_struct,
  file_xds_type_matcher_v3_ip,
  file_xds_type_v3_typed_struct,
);
