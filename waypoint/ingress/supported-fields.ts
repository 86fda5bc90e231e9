/**
 * Which fields of Envoy's messages mean something here. A field that is set and stands in no list refuses the resource;
 * `withoutEffect` says why it is safe not to act on one. SUPPORTED.md tells users the same; a test compares.
 */
import { isFieldSet, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import {
  FilterChainMatchSchema,
  FilterChainSchema,
} from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import {
  Http1ProtocolOptionsSchema,
  Http2ProtocolOptionsSchema,
  HttpProtocolOptionsSchema,
  KeepaliveSettingsSchema,
} from "#shared/proto/gen/envoy/config/core/v3/protocol_pb.js";
import { RouterSchema } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManager_SetCurrentClientCertDetailsSchema,
  HttpConnectionManager_UpgradeConfigSchema,
  HttpConnectionManagerSchema,
  HttpFilterSchema,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TcpProxySchema } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export interface FieldTable {
  readonly schema: DescMessage;
  /** Names as in `.proto` files. */
  readonly supported: readonly string[];
  /** Name → why nothing has to be done. */
  readonly withoutEffect: Readonly<Record<string, string>>;
}

const statistics = "our metrics have Istio's names";
const ownLogs = "the access log of the chain reports";

export const fieldTables = {
  listener: {
    schema: ListenerSchema,
    supported: [
      "name",
      "address",
      "additional_addresses",
      "filter_chains",
      "filter_chain_matcher",
      "default_filter_chain",
      "access_log",
      "use_original_dst",
      "per_connection_buffer_limit_bytes",
      "listener_filters",
      "listener_filters_timeout",
      "continue_on_listener_filters_timeout",
      "bind_to_port",
      "tcp_backlog_size",
      "internal_listener",
    ],
    withoutEffect: {
      stat_prefix: statistics,
      metadata: "for people",
      traffic_direction: "for people",
      drain_type: "every change drains the chains that it takes away",
      enable_reuse_port: "one thread accepts",
      reuse_port: "one thread accepts",
      connection_balance_config: "one thread accepts",
      max_connections_to_accept_per_socket_event: "the event loop shares out",
      ignore_global_conn_limit: "there is none",
      bypass_overload_manager: "there is none",
    },
  },
  filterChain: {
    schema: FilterChainSchema,
    supported: ["filter_chain_match", "filters", "name", "metadata"],
    withoutEffect: {},
  },
  filterChainMatch: {
    schema: FilterChainMatchSchema,
    supported: [
      "destination_port",
      "prefix_ranges",
      "direct_source_prefix_ranges",
      "source_type",
      "source_prefix_ranges",
      "source_ports",
      "server_names",
      "transport_protocol",
      "application_protocols",
    ],
    withoutEffect: {},
  },
  connectionManager: {
    schema: HttpConnectionManagerSchema,
    supported: [
      "codec_type",
      "route_config",
      "http_filters",
      "common_http_protocol_options",
      "http_protocol_options",
      "http2_protocol_options",
      "server_name",
      "server_header_transformation",
      "scheme_header_transformation",
      "max_request_headers_kb",
      "stream_idle_timeout",
      "request_timeout",
      "request_headers_timeout",
      "drain_timeout",
      "delayed_close_timeout",
      "use_remote_address",
      "skip_xff_append",
      "via",
      "generate_request_id",
      "preserve_external_request_id",
      "always_set_request_id_in_response",
      "forward_client_cert_details",
      "set_current_client_cert_details",
      "upgrade_configs",
      "normalize_path",
      "merge_slashes",
      "path_with_escaped_slashes_action",
      "request_id_extension",
      "strip_matching_host_port",
      "strip_any_host_port",
      "strip_trailing_host_dot",
      "append_x_forwarded_port",
      "access_log",
      "tracing",
    ],
    withoutEffect: {
      stat_prefix: statistics,
      proxy_100_continue: "interim answers are always passed on",
      represent_ipv4_remote_address_as_ipv4_mapped_ipv6: "addresses are always written in their own family",
      stream_error_on_invalid_http_message: "HTTP/1 errors end the connection, HTTP/2 errors the stream",
      access_log_options: ownLogs,
      access_log_flush_interval: ownLogs,
      flush_access_log_on_new_request: ownLogs,
      append_local_overload: "there is no overload manager",
    },
  },
  clientCertificateDetails: {
    schema: HttpConnectionManager_SetCurrentClientCertDetailsSchema,
    supported: ["subject", "uri"],
    withoutEffect: { dns: "certificates of the mesh name no DNS names" },
  },
  upgradeConfig: {
    schema: HttpConnectionManager_UpgradeConfigSchema,
    supported: ["upgrade_type", "enabled"],
    withoutEffect: {},
  },
  httpFilter: {
    schema: HttpFilterSchema,
    supported: ["name", "typed_config", "is_optional", "disabled"],
    withoutEffect: {},
  },
  commonHttp: {
    schema: HttpProtocolOptionsSchema,
    supported: [
      "idle_timeout",
      "max_connection_duration",
      "max_headers_count",
      "max_stream_duration",
      "max_requests_per_connection",
    ],
    withoutEffect: {},
  },
  http1: {
    schema: Http1ProtocolOptionsSchema,
    supported: ["accept_http_10", "default_host_for_http_10", "header_key_format"],
    withoutEffect: {
      allow_absolute_url: "absolute targets are always understood, as RFC 9112 §3.2.2 demands",
      enable_trailers: "trailers are always passed on",
      override_stream_error_on_invalid_http_message: "HTTP/1 errors end the connection",
      use_balsa_parser: "the parser is our own",
      allow_custom_methods: "any token is a method",
    },
  },
  http2: {
    schema: Http2ProtocolOptionsSchema,
    supported: [
      "max_concurrent_streams",
      "initial_stream_window_size",
      "initial_connection_window_size",
      "connection_keepalive",
      "allow_connect",
    ],
    withoutEffect: {
      hpack_table_size: "tables have the size of the protocol's default at most",
      max_outbound_frames: "bounds of our own hold",
      max_outbound_control_frames: "bounds of our own hold",
      max_consecutive_inbound_frames_with_empty_payload: "bounds of our own hold",
      max_inbound_priority_frames_per_stream: "bounds of our own hold",
      max_inbound_window_update_frames_per_data_frame_sent: "bounds of our own hold",
      stream_error_on_invalid_http_messaging: "errors of a message end its stream",
      override_stream_error_on_invalid_http_message: "errors of a message end its stream",
      use_oghttp2_codec: "the codec is our own",
    },
  },
  keepAlive: {
    schema: KeepaliveSettingsSchema,
    supported: ["interval", "timeout"],
    withoutEffect: {
      interval_jitter: "pings follow silence, not a common beat",
      connection_idle_interval: "a connection is pinged whenever nothing was heard for the interval",
    },
  },
  router: {
    schema: RouterSchema,
    supported: ["suppress_envoy_headers"],
    withoutEffect: {
      dynamic_stats: statistics,
      start_child_span: "the listener's tracing decides",
      suppress_grpc_request_failure_code_stats: statistics,
    },
  },
  tcpProxy: {
    schema: TcpProxySchema,
    supported: [
      "cluster",
      "weighted_clusters",
      "metadata_match",
      "idle_timeout",
      "max_connect_attempts",
      "hash_policy",
      "max_downstream_connection_duration",
      "access_log",
    ],
    withoutEffect: {
      stat_prefix: statistics,
      access_log_options: ownLogs,
      access_log_flush_interval: ownLogs,
      flush_access_log_on_connected: ownLogs,
    },
  },
} as const satisfies Record<string, FieldTable>;

/** Reports each field that is set and means nothing here. */
export function refuseUnsupported<Schema extends DescMessage>(
  table: FieldTable & { readonly schema: Schema },
  message: MessageShape<Schema> | undefined,
  path: string,
  problem: Problem,
): void {
  if (message === undefined) return;
  for (const field of table.schema.fields) {
    if (table.supported.includes(field.name) || field.name in table.withoutEffect) continue;
    if (isFieldSet(message, field)) problem(join(path, field.name), "is set, but this proxy does not support it");
  }
}

export const join = (path: string, name: string): string => (path === "" ? name : `${path}.${name}`);
