/** Envoy's Cluster, read whole into what this proxy does. Every mistake is told; the result is then not to be used. */
import type { JsonObject } from "@bufbuild/protobuf";
import {
  ClusterSchema,
  TrackClusterStatsSchema,
  type Cluster,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#shared/proto/gen/envoy/config/core/v3/health_check_pb.js";
import { configType } from "#waypoint/layers/config-type.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import type { OutlierConfig } from "../outlier-detection.ts";
import { compileBalancing, type CompiledBalancing } from "./compile-balancer.ts";
import { compileDiscovery, dnsJitterField, type Discovery } from "./compile-discovery.ts";
import { filterMetadata } from "./compile-endpoints.ts";
import { compileHttp, type HttpConfig } from "./compile-http.ts";
import { compileBreakers, compileOutlierDetection, type Breakers } from "./compile-limits.ts";
import type { ReadFile } from "./compile-tls.ts";
import { compileTransports, type Transports } from "./compile-transport.ts";
import { checkFields } from "./set-fields.ts";
import { meshRootsName, ownCertificateName } from "../secrets.ts";
import type { EndpointStatus } from "../endpoint.ts";

export interface ClusterConfig {
  readonly name: string;
  /** In statistics, instead of the name. */
  readonly statName: string;
  readonly metadata: ReadonlyMap<string, JsonObject>;
  readonly discovery: Discovery;
  readonly balancing: CompiledBalancing;
  readonly transports: Transports;
  readonly http: HttpConfig;
  readonly breakers: Breakers;
  readonly outlier: OutlierConfig | undefined;
  /** Requests wait for its first endpoints. */
  readonly waitsForWarm: boolean;
  /** Hosts of which status a caller may ask for by address. */
  readonly overrideStatuses: ReadonlySet<EndpointStatus>;
  readonly closesOnHealthFailure: boolean;
  readonly closesOnHostChange: boolean;
}

const supported = [
  "transportSocketMatches",
  "name",
  "altStatName",
  "type",
  "clusterType",
  "edsClusterConfig",
  "connectTimeout",
  // A soft bound; what one stream holds back here is bounded by the windows and buffers of its codec.
  "perConnectionBufferLimitBytes",
  "lbPolicy",
  "loadAssignment",
  "maxRequestsPerConnection",
  "circuitBreakers",
  "upstreamHttpProtocolOptions",
  "commonHttpProtocolOptions",
  "httpProtocolOptions",
  "http2ProtocolOptions",
  "typedExtensionProtocolOptions",
  "dnsRefreshRate",
  "dnsFailureRefreshRate",
  "respectDnsTtl",
  "dnsLookupFamily",
  "dnsResolvers",
  "dnsResolutionConfig",
  "waitForWarmOnInit",
  "outlierDetection",
  "cleanupInterval",
  "upstreamBindConfig",
  "ringHashLbConfig",
  "maglevLbConfig",
  "originalDstLbConfig",
  "leastRequestLbConfig",
  "roundRobinLbConfig",
  "commonLbConfig",
  "transportSocket",
  "metadata",
  "protocolSelection",
  "upstreamConnectionOptions",
  "closeConnectionsOnHostHealthFailure",
  // Hosts that are removed go at once: without active checks that is what Envoy does in any case.
  "ignoreHealthOnHostRemoval",
  "loadBalancingPolicy",
  "trackClusterStats",
  "filters",
];

/** They tell peers who we are in ways that nobody here relies on. */
const peerMetadataFilters: ReadonlySet<string> = new Set([
  "envoy.tcp.metadataexchange.config.MetadataExchange",
  "envoy.extensions.network_filters.peer_metadata.UpstreamConfig",
]);

const connectTimeoutDefaultMs = 5_000;

const statuses: Readonly<Record<number, EndpointStatus>> = {
  [HealthStatus.UNKNOWN]: "unknown",
  [HealthStatus.HEALTHY]: "healthy",
  [HealthStatus.UNHEALTHY]: "unhealthy",
  [HealthStatus.DRAINING]: "draining",
  [HealthStatus.TIMEOUT]: "timeout",
  [HealthStatus.DEGRADED]: "degraded",
};

export function compileCluster(cluster: Cluster, readFile: ReadFile, problem: Problem): ClusterConfig {
  if (cluster.name === "") problem("name", "is missing");
  checkFields(ClusterSchema, cluster, supported, "", problem, [dnsJitterField]);
  if (cluster.trackClusterStats !== undefined) {
    checkFields(
      TrackClusterStatsSchema,
      cluster.trackClusterStats,
      ["perEndpointStats"],
      "track_cluster_stats",
      problem,
    );
  }
  cluster.filters.forEach(({ typedConfig }, index) => {
    const type = typedConfig === undefined ? "" : configType(typedConfig);
    if (!peerMetadataFilters.has(type)) problem(`filters[${index}]`, `"${type}" is no filter that this proxy knows`);
  });
  const connectTimeoutMs = readMs(cluster.connectTimeout, "connect_timeout", problem) ?? connectTimeoutDefaultMs;
  if (connectTimeoutMs === 0) problem("connect_timeout", "is not above 0");
  const discovery = compileDiscovery(cluster, problem);
  const http = compileHttp(cluster, problem);
  const config: ClusterConfig = {
    name: cluster.name,
    statName: cluster.altStatName === "" ? cluster.name : cluster.altStatName,
    metadata: filterMetadata(cluster.metadata),
    discovery,
    balancing: compileBalancing(cluster, problem),
    transports: compileTransports(cluster, readFile, problem, connectTimeoutMs),
    http,
    breakers: compileBreakers(cluster.circuitBreakers, problem),
    outlier: compileOutlierDetection(cluster.outlierDetection, http.errorStatuses, problem),
    waitsForWarm: cluster.waitForWarmOnInit ?? true,
    overrideStatuses: new Set(
      (
        cluster.commonLbConfig?.overrideHostStatus?.statuses ?? [
          HealthStatus.UNKNOWN,
          HealthStatus.HEALTHY,
          HealthStatus.DEGRADED,
        ]
      ).map((status) => statuses[status] ?? "unknown"),
    ),
    closesOnHealthFailure: cluster.closeConnectionsOnHostHealthFailure,
    closesOnHostChange: cluster.commonLbConfig?.closeConnectionsOnHostSetChange === true,
  };
  checkTogether(config, problem);
  return config;
}

/** Names of the secrets that it is to be given; our own is there. */
export const secretsOf = ({ transports: { byDefault, matches } }: ClusterConfig): readonly string[] =>
  [byDefault, ...matches.map(({ transport }) => transport)].flatMap(({ tls }) => {
    const { certificate, trust } = tls ?? {};
    const names = [
      ...(certificate !== undefined && "secret" in certificate ? [certificate.secret] : []),
      ...(trust?.kind === "secret" ? [trust.secret] : []),
    ];
    return names.filter((name) => name !== ownCertificateName && name !== meshRootsName);
  });

/** What each is right and together is wrong, as Envoy refuses it. */
function checkTogether(config: ClusterConfig, problem: Problem): void {
  const { discovery, balancing, http, transports } = config;
  const providesHosts =
    discovery.kind === "dynamic" || (discovery.kind === "original-dst" && discovery.alwaysTunnels !== true);
  if (balancing === "cluster-provided" && !providesHosts) {
    problem("lb_policy", `CLUSTER_PROVIDED does not go with a ${discovery.kind} cluster`);
  }
  if (balancing !== "cluster-provided" && providesHosts) {
    problem("lb_policy", `a ${discovery.kind} cluster needs CLUSTER_PROVIDED`);
  }
  const tls = [transports.byDefault, ...transports.matches.map(({ transport }) => transport)].flatMap(
    ({ tls }) => tls ?? [],
  );
  if (http.protocol === "alpn" && tls.length === 0) {
    problem("transport_socket", "auto_config needs TLS, in which the server chooses the protocol");
  }
  if (discovery.kind !== "dynamic" || tls.length === 0) return;
  if (!discovery.allowsInsecure && (http.autoSni === undefined || !http.verifiesAutoSni)) {
    problem(
      "typed_extension_protocol_options",
      "a dynamic forward proxy over TLS needs auto_sni and auto_san_validation, or allow_insecure_cluster_options",
    );
  }
}
