/** Where a cluster's hosts come from. */
import { isIP } from "node:net";
import type { Address } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import {
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
  Cluster_EdsClusterConfigSchema,
  Cluster_OriginalDstLbConfigSchema,
  type Cluster,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { DnsResolutionConfig } from "#shared/proto/gen/envoy/config/core/v3/resolver_pb.js";
import { DnsResolutionConfigSchema } from "#shared/proto/gen/envoy/config/core/v3/resolver_pb.js";
import { ClusterConfigSchema } from "#shared/proto/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import {
  DnsCacheConfigSchema,
  type DnsCacheConfig,
} from "#shared/proto/gen/envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache_pb.js";
import { hostPort, tryIp } from "#shared/net/ip.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { typeNameOf, unpack } from "./any.ts";
import { compileAssignment, emptyAssignment, isNamed, tunnelListener, type Assignment } from "./compile-endpoints.ts";
import { checkFields, newerDuration } from "./set-fields.ts";

export type Discovery =
  | { readonly kind: "static"; readonly assignment: Assignment }
  | { readonly kind: "eds"; readonly assignmentName: string; readonly warmTimeoutMs: number }
  | { readonly kind: "strict-dns" | "logical-dns"; readonly assignment: Assignment; readonly dns: DnsConfig }
  | OriginalDstConfig
  | {
      readonly kind: "dynamic";
      readonly cache: DnsCacheSettings;
      /** TLS without a check that the certificate is for the name that was asked for. */
      readonly allowsInsecure: boolean;
    }
  /** Stands for an internal listener of this proxy; nothing is sent there. */
  | { readonly kind: "internal"; readonly listener: string };

export interface OriginalDstConfig {
  readonly kind: "original-dst";
  /** Header that says where to go instead. */
  readonly header: string | undefined;
  readonly portOverride: number | undefined;
  /** Unused hosts go after this. */
  readonly cleanupMs: number;
  /** Every host is reached in a tunnel; otherwise those of which the workload index says so. */
  readonly alwaysTunnels?: boolean | undefined;
}

export type LookupFamily = "auto" | "v4" | "v6" | "v4-preferred" | "all";

export interface DnsConfig {
  readonly family: LookupFamily;
  readonly refreshMs: number;
  readonly respectsTtl: boolean;
  /** Up to so much is added to each wait, so that a fleet does not ask in step. */
  readonly jitterMs: number;
  /** Waits between failures: grows from base to max. */
  readonly failure: { readonly baseMs: number; readonly maxMs: number };
  /** Instead of those of the system; `ip:port`. */
  readonly servers: readonly string[];
}

export interface DnsCacheSettings extends DnsConfig {
  readonly hostTtlMs: number;
  readonly minRefreshMs: number;
  readonly maxHosts: number;
  readonly maxPending: number;
  readonly queryTimeoutMs: number;
}

/** `dns_jitter`, newer than the schema. */
export const dnsJitterField = 58;

const warmTimeoutDefaultMs = 15_000;
const refreshDefaultMs = 5_000;
const cleanupDefaultMs = 5_000;
const dynamicType = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig";

export function compileDiscovery(cluster: Cluster, problem: Problem): Discovery {
  const type = cluster.clusterDiscoveryType;
  const unusable: Discovery = { kind: "static", assignment: emptyAssignment };
  if (type.case === "clusterType") {
    const config = type.value.typedConfig;
    if (config !== undefined && typeNameOf(config) === dynamicType) {
      const path = "cluster_type.typed_config";
      const dynamic = unpack(ClusterConfigSchema, config, path, problem);
      if (dynamic === undefined) return unusable;
      checkFields(
        ClusterConfigSchema,
        dynamic,
        ["dnsCacheConfig", "allowInsecureClusterOptions", "allowCoalescedConnections"],
        path,
        problem,
      );
      const cache = dynamic.clusterImplementationSpecifier;
      if (cache.case === "dnsCacheConfig") {
        const compiled = compileCache(cache.value, `${path}.dns_cache_config`, problem);
        return { kind: "dynamic", cache: compiled, allowsInsecure: dynamic.allowInsecureClusterOptions };
      }
      problem(`${path}.dns_cache_config`, "is missing");
      return unusable;
    }
    problem(
      "cluster_type",
      `"${type.value.name}" (${typeNameOf(config)}) is not a kind of cluster that this proxy knows`,
    );
    return unusable;
  }
  const discovery = type.case === "type" ? type.value : Cluster_DiscoveryType.STATIC;
  switch (discovery) {
    case Cluster_DiscoveryType.STATIC:
      return internalListener(cluster) ?? { kind: "static", assignment: inlineAssignment(cluster, false, problem) };
    case Cluster_DiscoveryType.EDS:
      return compileEds(cluster, problem);
    case Cluster_DiscoveryType.STRICT_DNS:
      return {
        kind: "strict-dns",
        assignment: inlineAssignment(cluster, true, problem),
        dns: compileDns(cluster, problem),
      };
    case Cluster_DiscoveryType.LOGICAL_DNS: {
      const assignment = inlineAssignment(cluster, true, problem);
      const endpoints = assignment.groups.flatMap((group) => group.endpoints);
      if (endpoints.length !== 1 || assignment.groups.length !== 1) {
        problem("load_assignment", "a LOGICAL_DNS cluster has exactly one endpoint");
      } else if (endpoints.some((endpoint) => !isNamed(endpoint) && endpoint.address.kind === "hbone")) {
        problem("load_assignment", "an endpoint with a name cannot be an internal address");
      }
      return { kind: "logical-dns", assignment, dns: compileDns(cluster, problem) };
    }
    case Cluster_DiscoveryType.ORIGINAL_DST:
      return compileOriginalDst(cluster, problem);
    default:
      problem("type", `${String(discovery)} is not a kind of cluster that this proxy knows`);
      return unusable;
  }
}

function compileEds(cluster: Cluster, problem: Problem): Discovery {
  const config = cluster.edsClusterConfig;
  if (config === undefined) {
    problem("eds_cluster_config", "is missing");
    return { kind: "eds", assignmentName: cluster.name, warmTimeoutMs: warmTimeoutDefaultMs };
  }
  checkFields(Cluster_EdsClusterConfigSchema, config, ["edsConfig", "serviceName"], "eds_cluster_config", problem);
  const source = config.edsConfig?.configSourceSpecifier.case;
  if (source !== "ads" && source !== "self") {
    problem(
      "eds_cluster_config.eds_config",
      "endpoints come with the stream that brings clusters (ads), from nowhere else",
    );
  }
  const path = "eds_cluster_config.eds_config.initial_fetch_timeout";
  const timeoutMs = readMs(config.edsConfig?.initialFetchTimeout, path, problem);
  return {
    kind: "eds",
    assignmentName: config.serviceName === "" ? cluster.name : config.serviceName,
    warmTimeoutMs: timeoutMs === undefined || timeoutMs === 0 ? warmTimeoutDefaultMs : timeoutMs,
  };
}

function inlineAssignment(cluster: Cluster, allowsNames: boolean, problem: Problem): Assignment {
  if (cluster.loadAssignment === undefined) {
    problem("load_assignment", "is missing");
    return emptyAssignment;
  }
  const at: Problem = (path, message) => problem(path === "" ? "load_assignment" : `load_assignment.${path}`, message);
  return compileAssignment(cluster.loadAssignment, { allowsNames }, at);
}

/**
 * A cluster whose one endpoint is an internal listener, and not a workload behind it. The listener that makes tunnels leads
 * wherever the client was going.
 */
function internalListener({ loadAssignment }: Cluster): Discovery | undefined {
  const endpoints = (loadAssignment?.endpoints ?? []).flatMap(({ lbEndpoints }) => lbEndpoints);
  const [identifier, ...more] = endpoints.map(({ hostIdentifier }) => hostIdentifier);
  const address = identifier?.case === "endpoint" ? identifier.value.address?.address : undefined;
  if (more.length > 0 || address?.case !== "envoyInternalAddress" || address.value.endpointId !== "") return undefined;
  const listener = address.value.addressNameSpecifier.value ?? "";
  return listener === tunnelListener
    ? {
        kind: "original-dst",
        header: undefined,
        portOverride: undefined,
        cleanupMs: cleanupDefaultMs,
        alwaysTunnels: true,
      }
    : { kind: "internal", listener };
}

function compileOriginalDst(cluster: Cluster, problem: Problem): OriginalDstConfig {
  if (cluster.loadAssignment !== undefined) problem("load_assignment", "an ORIGINAL_DST cluster has no endpoints");
  const config = cluster.lbConfig.case === "originalDstLbConfig" ? cluster.lbConfig.value : undefined;
  const path = "original_dst_lb_config";
  if (config !== undefined) {
    // The metadata would send hosts through waypoints of their own, which is refused where endpoints have it.
    const supported = ["useHttpHeader", "httpHeaderName", "upstreamPortOverride", "metadataKey"];
    checkFields(Cluster_OriginalDstLbConfigSchema, config, supported, path, problem);
  }
  const portOverride = config?.upstreamPortOverride;
  if (portOverride !== undefined && portOverride > 65_535) {
    problem(`${path}.upstream_port_override`, `${portOverride} is not a port`);
  }
  const header = config?.httpHeaderName === "" ? "x-envoy-original-dst-host" : config?.httpHeaderName.toLowerCase();
  return {
    kind: "original-dst",
    header: config?.useHttpHeader === true ? header : undefined,
    portOverride,
    cleanupMs: readMs(cluster.cleanupInterval, "cleanup_interval", problem) ?? cleanupDefaultMs,
  };
}

const families: Readonly<Record<number, LookupFamily>> = {
  [Cluster_DnsLookupFamily.AUTO]: "auto",
  [Cluster_DnsLookupFamily.V4_ONLY]: "v4",
  [Cluster_DnsLookupFamily.V6_ONLY]: "v6",
  [Cluster_DnsLookupFamily.V4_PREFERRED]: "v4-preferred",
  [Cluster_DnsLookupFamily.ALL]: "all",
};

function compileDns(cluster: Cluster, problem: Problem): DnsConfig {
  return {
    ...compileLookup(cluster, "", refreshDefaultMs, problem),
    respectsTtl: cluster.respectDnsTtl,
    jitterMs: newerDuration(cluster, dnsJitterField, "dns_jitter", problem),
    servers: [...readServers(cluster.dnsResolvers, "dns_resolvers", problem), ...resolution(cluster, "", problem)],
  };
}

function compileCache(config: DnsCacheConfig, path: string, problem: Problem): DnsCacheSettings {
  const supported = [
    "name",
    "dnsLookupFamily",
    "dnsRefreshRate",
    "dnsMinRefreshRate",
    "hostTtl",
    "maxHosts",
    "dnsFailureRefreshRate",
    "dnsCacheCircuitBreaker",
    "dnsResolutionConfig",
    "dnsQueryTimeout",
  ];
  checkFields(DnsCacheConfigSchema, config, supported, path, problem);
  return {
    ...compileLookup(config, `${path}.`, 60_000, problem),
    respectsTtl: true,
    jitterMs: 0,
    servers: resolution(config, `${path}.`, problem),
    hostTtlMs: readMs(config.hostTtl, `${path}.host_ttl`, problem) ?? 300_000,
    minRefreshMs: readMs(config.dnsMinRefreshRate, `${path}.dns_min_refresh_rate`, problem) ?? 5_000,
    maxHosts: config.maxHosts ?? 1024,
    maxPending: config.dnsCacheCircuitBreaker?.maxPendingRequests ?? 1024,
    queryTimeoutMs: readMs(config.dnsQueryTimeout, `${path}.dns_query_timeout`, problem) || 5_000,
  };
}

type Lookup = Pick<Cluster | DnsCacheConfig, "dnsLookupFamily" | "dnsRefreshRate" | "dnsFailureRefreshRate">;

function compileLookup(
  { dnsLookupFamily, dnsRefreshRate, dnsFailureRefreshRate: failure }: Lookup,
  prefix: string,
  refreshByDefaultMs: number,
  problem: Problem,
): Pick<DnsConfig, "family" | "refreshMs" | "failure"> {
  const family = families[dnsLookupFamily];
  if (family === undefined)
    problem(`${prefix}dns_lookup_family`, `${dnsLookupFamily} is not one that this proxy knows`);
  const refreshMs = readMs(dnsRefreshRate, `${prefix}dns_refresh_rate`, problem) ?? refreshByDefaultMs;
  if (refreshMs < 1) problem(`${prefix}dns_refresh_rate`, "is not above 0");
  const at = `${prefix}dns_failure_refresh_rate`;
  const baseMs = readMs(failure?.baseInterval, `${at}.base_interval`, problem) ?? refreshMs;
  const maxMs =
    readMs(failure?.maxInterval, `${at}.max_interval`, problem) ?? (failure === undefined ? baseMs : baseMs * 10);
  if (failure !== undefined && maxMs < baseMs) problem(`${at}.max_interval`, `${maxMs} ms is less than base_interval`);
  return { family: family ?? "auto", refreshMs, failure: { baseMs: Math.max(baseMs, 1), maxMs: Math.max(maxMs, 1) } };
}

function resolution(
  { dnsResolutionConfig: config }: { dnsResolutionConfig?: DnsResolutionConfig | undefined },
  prefix: string,
  problem: Problem,
): readonly string[] {
  if (config === undefined) return [];
  const path = `${prefix}dns_resolution_config`;
  checkFields(DnsResolutionConfigSchema, config, ["resolvers"], path, problem);
  return readServers(config.resolvers, `${path}.resolvers`, problem);
}

function readServers(addresses: readonly Address[], path: string, problem: Problem): readonly string[] {
  return addresses.flatMap(({ address }, index) => {
    const socket = address.case === "socketAddress" ? address.value : undefined;
    const ip = socket === undefined || isIP(socket.address) === 0 ? undefined : tryIp(socket.address);
    const port = socket?.portSpecifier.case === "portValue" ? socket.portSpecifier.value : 53;
    if (ip !== undefined) return [hostPort(ip, port)];
    problem(`${path}[${index}]`, "is not an IP address and port");
    return [];
  });
}
