/**
 * Resources in the shape in which Istio's control plane gives a waypoint its configuration: tunnels end in one listener, a
 * tree over addresses and ports chooses among the chains of a second, and a third makes tunnels again.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { httpFilter, inspectors, router, tcpFilter, typed } from "./resources.ts";

const any = (type: string, fields: JsonObject = {}): JsonObject => ({
  "@type": `type.googleapis.com/${type}`,
  ...fields,
});

/** A message that has no schema here, as it travels. */
const struct = (name: string, type: string, value: JsonObject = {}): JsonObject =>
  typed(name, "udpa.type.v1.TypedStruct", { type_url: `type.googleapis.com/${type}`, value });

const internal = (listener: string, endpoint = ""): JsonObject => ({
  envoy_internal_address: { server_listener_name: listener, ...(endpoint !== "" && { endpoint_id: endpoint }) },
});

const rawBuffer = typed(
  "envoy.transport_sockets.raw_buffer",
  "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
);

const internalUpstream = (inner: JsonObject, metadata: readonly string[]): JsonObject =>
  typed("internal_upstream", "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport", {
    passthrough_metadata: metadata.map((name) => ({ kind: { host: {} }, name })),
    transport_socket: inner,
  });

const sds = (name: string): JsonObject => ({
  name,
  sds_config: {
    api_config_source: {
      api_type: "GRPC",
      transport_api_version: "V3",
      set_node_on_first_message_only: true,
      grpc_services: [{ envoy_grpc: { cluster_name: "sds-grpc" } }],
    },
    initial_fetch_timeout: "0s",
    resource_api_version: "V3",
  },
});

/** Our own certificate, and peers of these trust domains. */
const meshTls = (alpn: readonly string[], trustDomains: readonly string[] = ["cluster.local"]): JsonObject => ({
  tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
  alpn_protocols: [...alpn],
  tls_certificate_sds_secret_configs: [sds("default")],
  combined_validation_context: {
    default_validation_context: {
      match_typed_subject_alt_names: trustDomains.map((name) => ({
        san_type: "URI",
        matcher: { prefix: `spiffe://${name}/` },
      })),
    },
    validation_context_sds_secret_config: sds("ROOTCA"),
  },
});

const state = (key: string, format: string): JsonObject => ({
  object_key: key,
  format_string: { text_format_source: { inline_string: format } },
  shared_with_upstream: "ONCE",
});

const connectFilters: readonly JsonObject[] = [
  struct("waypoint_downstream_peer_metadata", "io.istio.http.peer_metadata.Config", {
    downstream_discovery: [{ workload_discovery: {} }],
    shared_with_upstream: true,
  }),
  typed("connect_authority", "envoy.extensions.filters.http.set_filter_state.v3.Config", {
    on_request_headers: [
      state("envoy.filters.listener.original_dst.local_ip", "%REQ(:AUTHORITY)%"),
      { ...state("io.istio.connect_authority", "%REQ(:AUTHORITY)%"), factory_key: "istio.hashable_string" },
      state("envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%"),
      { ...state("io.istio.peer_principal", "%DOWNSTREAM_PEER_URI_SAN%"), factory_key: "istio.hashable_string" },
      { ...state("io.istio.local_principal", "%DOWNSTREAM_LOCAL_URI_SAN%"), factory_key: "istio.hashable_string" },
    ],
  }),
];

/** Where tunnels end; `filters` go before the others. */
export const connectTerminate = (
  filters: readonly JsonObject[] = [],
  trustDomains?: readonly string[],
  accessLog: readonly JsonObject[] = [],
): JsonObject => ({
  name: "connect_terminate",
  address: { socket_address: { address: "0.0.0.0", port_value: 15_008 } },
  connection_balance_config: { exact_balance: {} },
  filter_chains: [
    {
      name: "default",
      transport_socket: typed("tls", "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", {
        common_tls_context: meshTls(["h2"], trustDomains),
        require_client_certificate: true,
      }),
      filters: [
        typed(
          "envoy.filters.network.http_connection_manager",
          "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
          {
            stat_prefix: "connect_terminate",
            access_log: [...accessLog],
            route_config: {
              name: "default",
              virtual_hosts: [
                {
                  name: "default",
                  domains: ["*"],
                  routes: [
                    {
                      match: { connect_matcher: {} },
                      route: {
                        cluster: "main_internal",
                        upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }],
                      },
                    },
                  ],
                },
              ],
            },
            http_filters: [...filters, ...connectFilters, router],
            http2_protocol_options: {
              allow_connect: true,
              max_concurrent_streams: 100,
              connection_keepalive: { interval: "10s", timeout: "20s" },
            },
            server_name: "istio-envoy",
            use_remote_address: false,
            forward_client_cert_details: "APPEND_FORWARD",
            set_current_client_cert_details: { subject: true, dns: true, uri: true },
            upgrade_configs: [{ upgrade_type: "CONNECT" }],
            stream_idle_timeout: "0s",
          },
        ),
      ],
    },
  ],
});

/** Where tunnels are made. */
export const connectOriginate: JsonObject = {
  name: "connect_originate",
  use_original_dst: false,
  internal_listener: {},
  listener_filters: [inspectors.originalDestination],
  filter_chains: [
    {
      filters: [
        tcpFilter("connect_originate", {
          stat_prefix: "connect_originate",
          tunneling_config: { hostname: "%DOWNSTREAM_LOCAL_ADDRESS%" },
        }),
      ],
    },
  ],
};

const input = (name: string, type: string, fields: JsonObject = {}): JsonObject => ({
  name,
  typed_config: any(`envoy.extensions.matching.common_inputs.network.v3.${type}`, fields),
});

const toChain = (name: string): JsonObject => ({
  action: { name, typed_config: any("google.protobuf.StringValue", { value: name }) },
});

/** What is sniffed decides. */
const byProtocol = (http: string, tcp: string): JsonObject => ({
  matcher: {
    matcher_tree: {
      input: input("application-protocol", "ApplicationProtocolInput"),
      exact_match_map: { map: { "'h2c'": toChain(http), "'http/1.1'": toChain(http) } },
    },
    on_no_match: toChain(tcp),
  },
});

export interface IstioService {
  readonly host: string;
  readonly vips: readonly string[];
  readonly port: number;
  readonly protocol: "http" | "tcp" | "sniffed";
  /** Instead of one route to its own cluster. */
  readonly routes?: readonly JsonValue[];
  /** Before the usual HTTP filters. */
  readonly httpFilters?: readonly JsonObject[];
  /** Before the TCP proxy. */
  readonly networkFilters?: readonly JsonObject[];
}

/** `inbound-vip|80|http|shop.example`. */
export const clusterName = ({ host, port }: IstioService, protocol: "http" | "tcp"): string =>
  `inbound-vip|${port}|${protocol}|${host}`;

const statsFilter = struct("istio.stats", "stats.PluginConfig", { disable_host_header_fallback: true });

function httpChain(name: string, service: IstioService | undefined, cluster: string): JsonObject {
  const route = {
    name: "default",
    match: { prefix: "/" },
    route: { cluster, timeout: "0s" },
    decorator: { operation: "a" },
  };
  const stateFilters = service === undefined ? [originalDestinationState] : [];
  return {
    name,
    filters: [
      ...stateFilters,
      httpFilter(service?.routes ?? [route], {
        use_remote_address: false,
        normalize_path: true,
        path_with_escaped_slashes_action: "KEEP_UNCHANGED",
        http_filters: [
          ...(service?.httpFilters ?? []),
          typed("envoy.filters.http.grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", {
            emit_filter_state: true,
            stats_for_all_methods: false,
          }),
          typed("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
          typed("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
          struct("waypoint_upstream_peer_metadata", "io.istio.http.peer_metadata.Config", {
            upstream_discovery: [{ workload_discovery: {} }],
          }),
          statsFilter,
          router,
        ],
      }),
    ],
  };
}

const originalDestinationState = typed(
  "connect_authority",
  "envoy.extensions.filters.network.set_filter_state.v3.Config",
  {
    on_new_connection: [
      state(
        "envoy.filters.listener.original_dst.local_ip",
        "%FILTER_STATE(envoy.filters.listener.original_dst.local_ip:PLAIN)%",
      ),
    ],
  },
);

const tcpChain = (name: string, service: IstioService | undefined, cluster: string): JsonObject => ({
  name,
  filters: [
    ...(service === undefined ? [originalDestinationState] : []),
    struct("istio.metadata_exchange", "envoy.tcp.metadataexchange.config.MetadataExchange", {
      enable_discovery: true,
      protocol: "istio-peer-exchange",
    }),
    ...(service?.networkFilters ?? []),
    statsFilter,
    tcpFilter(cluster),
  ],
});

const onChain = (service: IstioService): JsonObject => {
  const [http, tcp] = [clusterName(service, "http"), clusterName(service, "tcp")];
  if (service.protocol === "sniffed") return byProtocol(http, tcp);
  return toChain(service.protocol === "http" ? http : tcp);
};

const cidr = (ip: string): JsonObject => ({ address_prefix: ip, prefix_len: ip.includes(":") ? 128 : 32 });

const byAddress = (services: readonly IstioService[], workloads: readonly string[]): JsonObject => ({
  matcher_tree: {
    input: input("ip", "DestinationIPInput"),
    custom_match: {
      name: "ip",
      typed_config: any("xds.type.matcher.v3.IPMatcher", {
        range_matchers: [
          ...[...Map.groupBy(services, ({ host }) => host).values()].map((ports) => ({
            ranges: (ports[0]?.vips ?? []).map(cidr),
            on_match: {
              matcher: {
                matcher_tree: {
                  input: input("port", "DestinationPortInput"),
                  exact_match_map: {
                    map: Object.fromEntries(ports.map((service) => [String(service.port), onChain(service)])),
                  },
                },
              },
            },
          })),
          ...(workloads.length === 0
            ? []
            : [{ ranges: workloads.map(cidr), on_match: byProtocol("direct-http", "direct-tcp") }]),
        ],
      }),
    },
  },
});

/** Looks at no port of which the protocol is known; a workload may be asked for any port. */
function httpInspector(services: readonly IstioService[], workloads: readonly string[]): JsonObject {
  const rules = services
    .filter(({ protocol }) => protocol !== "sniffed")
    .map(({ port }) => ({ destination_port_range: { start: port, end: port + 1 } }));
  if (workloads.length > 0 || rules.length === 0) return inspectors.http;
  return {
    ...inspectors.http,
    filter_disabled: rules.length === 1 ? (rules[0] as JsonObject) : { or_match: { rules } },
  };
}

/** The same where the mesh has several networks: services go by their names first. */
export const byNameFirst = (services: readonly IstioService[]): JsonObject => ({
  matcher_tree: {
    input: input("authority-filter-state", "FilterStateInput", { key: "io.istio.connect_authority" }),
    exact_match_map: {
      map: Object.fromEntries(services.map((service) => [`${service.host}:${service.port}`, onChain(service)])),
    },
  },
  on_no_match: { matcher: byAddress(services, []) },
});

/** Of a chain of such a mesh. */
export const originalAddress = (address: string): JsonObject => {
  const key = "envoy.filters.listener.original_dst.local_ip";
  return typed("set_dst_address", "envoy.extensions.filters.network.set_filter_state.v3.Config", {
    on_new_connection: [
      {
        object_key: "envoy.network.transport_socket.original_dst_address",
        format_string: {
          text_format_source: {
            inline_string: `%CEL('${key}' in filter_state ? filter_state['${key}']: r'${address}')%`,
          },
        },
      },
    ],
  });
};

/** Where what was in tunnels goes on: services by address and port, and workloads by address. */
export const mainInternal = (
  services: readonly IstioService[],
  workloads: readonly string[] = [],
  more: JsonObject = {},
): JsonObject => ({
  name: "main_internal",
  internal_listener: {},
  traffic_direction: "INBOUND",
  listener_filters: [inspectors.originalDestination, httpInspector(services, workloads)],
  filter_chains: [
    ...services.flatMap((service) => [
      ...(service.protocol === "http"
        ? []
        : [tcpChain(clusterName(service, "tcp"), service, clusterName(service, "tcp"))]),
      ...(service.protocol === "tcp"
        ? []
        : [httpChain(clusterName(service, "http"), service, clusterName(service, "http"))]),
    ]),
    tcpChain("direct-tcp", undefined, "encap"),
    httpChain("direct-http", undefined, "encap"),
  ],
  filter_chain_matcher: byAddress(services, workloads),
  ...more,
});

const http2: JsonObject = {
  "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    {
      explicit_http_config: { http2_protocol_options: { allow_connect: true } },
    },
  ),
};

const breakers: JsonObject = {
  thresholds: [{ max_connections: 4_294_967_295, max_requests: 4_294_967_295, track_remaining: true }],
};

const internalCluster = (name: string, listener: string): JsonObject => ({
  name,
  type: "STATIC",
  alt_stat_name: `${name};`,
  circuit_breakers: breakers,
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: internal(listener) } }] }],
  },
  transport_socket: internalUpstream(rawBuffer, []),
});

/** The clusters that every waypoint has. */
export const staticClusters: readonly JsonObject[] = [
  { ...internalCluster("main_internal", "main_internal"), typed_extension_protocol_options: http2 },
  internalCluster("encap", "connect_originate"),
  {
    name: "connect_originate",
    type: "ORIGINAL_DST",
    lb_policy: "CLUSTER_PROVIDED",
    connect_timeout: "10s",
    cleanup_interval: "60s",
    circuit_breakers: breakers,
    typed_extension_protocol_options: http2,
    original_dst_lb_config: {
      upstream_port_override: 15_008,
      metadata_key: { key: "envoy.filters.listener.original_dst", path: [{ key: "waypoint" }] },
    },
    transport_socket: typed("tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
      common_tls_context: meshTls(["h2"]),
    }),
  },
];

/** What a service's cluster has besides its name; `inner` is what goes through the tunnel. */
export const serviceCluster = (name: string, more: JsonObject = {}, inner: JsonObject = rawBuffer): JsonObject => ({
  name,
  type: "EDS",
  connect_timeout: "10s",
  lb_policy: "LEAST_REQUEST",
  circuit_breakers: breakers,
  common_lb_config: {},
  eds_cluster_config: {
    eds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
    service_name: name,
  },
  filters: [
    struct("istio.metadata_exchange", "envoy.tcp.metadataexchange.config.MetadataExchange", {
      protocol: "istio-peer-exchange",
    }),
  ],
  metadata: { filter_metadata: { istio: { services: [{ host: "shop.example", name: "shop", namespace: "shop" }] } } },
  transport_socket: internalUpstream(inner, ["envoy.filters.listener.original_dst", "istio"]),
  ...more,
});

/** Endpoints that are reached in tunnels. */
export const tunnelledEndpoints = (cluster: string, ...addresses: readonly string[]): JsonObject => ({
  cluster_name: cluster,
  endpoints: [
    {
      locality: {},
      load_balancing_weight: addresses.length,
      lb_endpoints: addresses.map((address) => ({
        endpoint: { address: internal("connect_originate", address) },
        health_status: "HEALTHY",
        load_balancing_weight: 1,
        metadata: { filter_metadata: { "envoy.filters.listener.original_dst": { local: address } } },
      })),
    },
  ],
});

/** How a cluster that is not the waypoint's own reaches endpoints of every kind: by tunnel, by mutual TLS, or bare. */
export const meshTransports = (identities: readonly string[]): JsonObject => ({
  transport_socket: null,
  transport_socket_matches: [
    {
      name: "hbone",
      match: { tunnel: "http" },
      transport_socket: internalUpstream(rawBuffer, ["envoy.filters.listener.original_dst", "istio"]),
    },
    {
      name: "tlsMode-istio",
      match: { tlsMode: "istio" },
      transport_socket: typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        {
          sni: "outbound_.81_._.shop.example",
          common_tls_context: {
            tls_params: { tls_minimum_protocol_version: "TLSv1_2", tls_maximum_protocol_version: "TLSv1_3" },
            alpn_protocols: ["istio-peer-exchange", "istio"],
            tls_certificate_sds_secret_configs: [sds("default")],
            combined_validation_context: {
              default_validation_context: { match_subject_alt_names: identities.map((exact) => ({ exact })) },
              validation_context_sds_secret_config: sds("ROOTCA"),
            },
          },
        },
      ),
    },
    { name: "tlsMode-disabled", match: {}, transport_socket: rawBuffer },
  ],
});
