/** Clusters of a waypoint: one for each port and protocol of a served service, each subset, and each other destination. */
import type { DestinationRule } from "#controlplane/mesh/objects.ts";
import type { Subset } from "#controlplane/mesh/destination-rule.ts";
import {
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_DnsLookupFamily as LookupFamily,
  Cluster_LbPolicy as LbPolicy,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { ApiVersion } from "#shared/proto/gen/envoy/config/core/v3/config_source_pb.js";
import type { ClusterLoadAssignmentSchema } from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ClusterConfigSchema } from "#shared/proto/gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { racesConnections } from "#controlplane/translate/annotations.ts";
import { inspection } from "#controlplane/translate/protocol.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import { appliedPolicy, tlsPolicyPath, type AppliedPolicy } from "./applied-policy.ts";
import { clusterOf, encapCluster } from "./cluster-names.ts";
import {
  balancing,
  connecting,
  httpProtocol,
  limits,
  outliers,
  shared,
  upstreamVersion,
  type ClusterInit,
} from "./cluster-policy.ts";
import type { ClusterProtocol, Destination, EnvoyContext } from "./context.ts";
import { credentialsFor, policyCredentials } from "./credentials.ts";
import { noPolicy, ruleFor, type EffectivePolicy, type MergedRule } from "./destination-rules.ts";
import { endpointsOf, loadAssignment } from "./endpoints.ts";
import { localityChoice } from "./localities.ts";
import { duration, istioMetadata, pack } from "./messages.ts";
import { transportSocket, type TlsOrigination } from "./transport.ts";

export type AssignmentInit = Exclude<MessageInitShape<typeof ClusterLoadAssignmentSchema>, { $typeName: string }>;

export interface BuiltCluster {
  readonly cluster: ClusterInit & { readonly name: string };
  /** undefined where the cluster finds its endpoints itself. */
  readonly assignment: AssignmentInit | undefined;
  readonly problems: readonly string[];
}

/** The protocols that a port of a served service is spoken in. */
export function protocolsOf({ protocol }: PortInfo): readonly ClusterProtocol[] {
  switch (inspection(protocol)) {
    case "http":
      return ["http"];
    case "tcp":
      return ["tcp"];
    case "sniffed":
      return ["http", "tcp"];
    case "none":
      return [];
  }
}

/** Every destination that a service has by itself: its ports, and each subset of them. */
export function ownDestinations(context: EnvoyContext, service: ServiceInfo): readonly Destination[] {
  const subsets = ["", ...(ruleFor(context, service)?.subsets.map(({ name }) => name) ?? [])];
  return service.ports.flatMap((port) =>
    protocolsOf(port).flatMap((protocol) => subsets.map((subset) => ({ service, port, subset, protocol }))),
  );
}

export function destinationCluster(context: EnvoyContext, destination: Destination): BuiltCluster {
  const { service, port, protocol } = destination;
  const name = clusterOf(context, service, port, protocol, destination.subset);
  const rule = ruleFor(context, service);
  const subset = rule?.subsets.find((each) => each.name === destination.subset);
  const policy = appliedPolicy(context, rule, destination);
  const problems: string[] = [];
  const tls = tlsFor(context, destination, policy, rule, problems);
  if (destination.subset !== "" && subset === undefined) {
    problems.push(`subset "${destination.subset}" of ${service.hostname} is defined by no DestinationRule`);
  }
  const isUnusable = tls === "unusable" || (destination.subset !== "" && subset === undefined);
  const origination = tls === "unusable" ? undefined : tls;
  const found = discovery(context, destination, { name, policy, subset, isUnusable });
  const socket = transportSocket({
    isTunnelled: found.isTunnelled,
    proxyProtocol: policy.proxyProtocol,
    tls: origination,
  });
  const distributes = (localityChoice(context, service, policy)?.setting.distribute.length ?? 0) > 0;
  const sni = {
    isAutomatic: origination !== undefined && origination.settings.sni === "",
    verifiesHost: origination?.settings.insecureSkipVerify === false && origination.subjectAltNames.length === 0,
  };
  return {
    cluster: {
      name,
      ...connecting(policy.connectionPool, context.meshConfig),
      circuitBreakers: limits(policy),
      ...outliers(policy.outlierDetection),
      ...shared(policy, distributes && found.isBalanced),
      ...(protocol === "http" ? httpProtocol(port.protocol, policy, context.meshConfig, sni) : {}),
      ...(found.isBalanced ? balancing(policy.loadBalancer) : { lbPolicy: LbPolicy.CLUSTER_PROVIDED }),
      ...found.fields,
      ...(socket === undefined ? {} : { transportSocket: socket }),
      metadata: istioMetadata({
        ...configOf(rule, policy),
        ...(destination.subset === "" ? {} : { subset: destination.subset }),
        default_original_port: port.port,
        services: [{ host: service.hostname, name: service.meta.name, namespace: service.meta.namespace }],
      }),
    },
    assignment: found.assignment,
    problems,
  };
}

const configPath = ({ namespace, name }: DestinationRule["meta"]): string =>
  `/apis/networking.istio.io/v1/namespaces/${namespace}/destination-rule/${name}`;

/** The object that says the most of a destination, for eyes. */
function configOf(rule: MergedRule | undefined, { tlsPolicy }: AppliedPolicy): { config?: string } {
  if (rule !== undefined) return { config: configPath(rule.meta) };
  return tlsPolicy === undefined ? {} : { config: tlsPolicyPath(tlsPolicy.meta) };
}

/** "unusable": TLS is wanted and what it needs is not there, so nothing may be sent at all. */
function tlsFor(
  context: EnvoyContext,
  { service, port, protocol }: Destination,
  { tls, tlsPolicy, connectionPool }: AppliedPolicy,
  rule: MergedRule | undefined,
  problems: string[],
): TlsOrigination | "unusable" | undefined {
  // Tunnels encrypt and prove identities anyway.
  if (tls === undefined || tls.mode === "DISABLE" || tls.mode === "ISTIO_MUTUAL") return undefined;
  const credentials =
    tlsPolicy === undefined
      ? credentialsFor(context, tls, rule?.meta.namespace)
      : policyCredentials(context, tlsPolicy);
  if (typeof credentials === "string") {
    const place = tlsPolicy === undefined ? rule && configPath(rule.meta) : tlsPolicyPath(tlsPolicy.meta);
    problems.push(`${place ?? service.hostname}: ${credentials}`);
    return "unusable";
  }
  return {
    settings: tls,
    credentials,
    subjectAltNames: tls.subjectAltNames.length > 0 ? tls.subjectAltNames : (service.message.subjectAltNames ?? []),
    alpn: upstreamAlpn(protocol, port, connectionPool, context),
  };
}

function upstreamAlpn(
  protocol: ClusterProtocol,
  port: PortInfo,
  pool: EffectivePolicy["connectionPool"],
  { meshConfig }: EnvoyContext,
): readonly string[] {
  if (protocol === "tcp") return [];
  return upstreamVersion(port.protocol, pool, meshConfig) === "http2" ? ["h2"] : ["http/1.1"];
}

interface Discovered {
  readonly fields: Partial<ClusterInit>;
  readonly assignment: AssignmentInit | undefined;
  /** A balancer of ours chooses among endpoints. */
  readonly isBalanced: boolean;
  readonly isTunnelled: boolean;
}

interface Discovering {
  readonly name: string;
  readonly policy: EffectivePolicy;
  readonly subset: Subset | undefined;
  readonly isUnusable: boolean;
}

/** How the endpoints are found, by the resolution of a ServiceEntry. */
function discovery(context: EnvoyContext, destination: Destination, how: Discovering): Discovered {
  const { service, port } = destination;
  const { name, policy, subset, isUnusable } = how;
  if (isUnusable) return nowhere(name);
  const resolution = resolutionOf(context, service);
  const isPassthrough =
    policy.loadBalancer?.simple === "PASSTHROUGH" && policy.loadBalancer.consistentHash === undefined;
  if (resolution === "NONE" || isPassthrough) return whereDialled(resolution === "NONE" ? port : undefined);
  if (resolution === "DYNAMIC_DNS") return byRequestedName();
  const endpoints = endpointsOf(context, service, port, subset);
  const assignment = loadAssignment(context, name, service, policy, endpoints);
  switch (resolution) {
    case "DNS":
    case "DNS_ROUND_ROBIN": {
      // Where all are addresses there is nothing to resolve, and they may be reached through tunnels.
      if (endpoints.every(({ workload }) => workload.addresses.length > 0)) return served(name, assignment);
      const races = racesConnections(service.meta.annotations);
      const isLogical = races || resolution === "DNS_ROUND_ROBIN";
      // A logical name is one name.
      const named = isLogical ? endpoints.slice(0, 1) : endpoints;
      const written = loadAssignment(context, name, service, policy, named, { isProxyless: true });
      return byName(written, isLogical, {
        family: races ? LookupFamily.ALL : lookupFamily(context.proxy.ips),
        refreshMs: context.meshConfig.dnsRefreshMs,
      });
    }
    default:
      return served(name, assignment);
  }
}

/** The control plane tells the endpoints. */
const served = (serviceName: string, assignment: AssignmentInit): Discovered => ({
  fields: {
    clusterDiscoveryType: { case: "type", value: DiscoveryType.EDS },
    edsClusterConfig: {
      edsConfig: { configSourceSpecifier: { case: "ads", value: {} }, resourceApiVersion: ApiVersion.V3 },
      serviceName,
    },
  },
  assignment,
  isBalanced: true,
  isTunnelled: true,
});

function resolutionOf({ world }: EnvoyContext, { source, meta }: ServiceInfo): string {
  return source === "Service"
    ? "STATIC"
    : (world.get("ServiceEntry", meta.namespace, meta.name)?.resolution ?? "STATIC");
}

/** A cluster without endpoints: whoever is sent there gets an error, not a way around what was asked for. */
const nowhere = (clusterName: string): Discovered => ({
  fields: {
    clusterDiscoveryType: { case: "type", value: DiscoveryType.STATIC },
    loadAssignment: { clusterName },
  },
  assignment: undefined,
  isBalanced: true,
  isTunnelled: false,
});

/** The address that the client asked for; `port` may name another port there. */
const whereDialled = (port: PortInfo | undefined): Discovered => ({
  fields: {
    clusterDiscoveryType: { case: "type", value: DiscoveryType.ORIGINAL_DST },
    ...(port === undefined || port.targetPort === port.port || port.targetPort === 0
      ? {}
      : {
          lbConfig: { case: "originalDstLbConfig", value: { upstreamPortOverride: port.targetPort } } as const,
        }),
  },
  assignment: undefined,
  isBalanced: false,
  isTunnelled: false,
});

/** One cache of names for all clusters and filters that look names up as they come. */
export const dnsCache = {
  name: "dynamic_forward_proxy_cache",
  dnsLookupFamily: LookupFamily.V4_PREFERRED,
  maxHosts: 1024,
} as const;

const byRequestedName = (): Discovered => ({
  fields: {
    clusterDiscoveryType: {
      case: "clusterType",
      value: {
        name: "envoy.clusters.dynamic_forward_proxy",
        typedConfig: pack(ClusterConfigSchema, {
          clusterImplementationSpecifier: { case: "dnsCacheConfig", value: dnsCache },
          // TLS is only where a rule asks for it, and then as the rule says.
          allowInsecureClusterOptions: true,
        }),
      },
    },
  },
  assignment: undefined,
  isBalanced: false,
  isTunnelled: false,
});

const byName = (
  assignment: AssignmentInit,
  isLogical: boolean,
  { family, refreshMs }: { readonly family: LookupFamily; readonly refreshMs: number },
): Discovered => ({
  fields: {
    clusterDiscoveryType: { case: "type", value: isLogical ? DiscoveryType.LOGICAL_DNS : DiscoveryType.STRICT_DNS },
    loadAssignment: assignment,
    respectDnsTtl: true,
    dnsRefreshRate: duration(refreshMs),
    dnsLookupFamily: family,
  },
  assignment: undefined,
  isBalanced: true,
  isTunnelled: false,
});

function lookupFamily(ips: readonly string[]): LookupFamily {
  const v6 = ips.some((ip) => ip.includes(":"));
  const v4 = ips.some((ip) => !ip.includes(":"));
  if (v4 === v6) return LookupFamily.ALL;
  return v6 ? LookupFamily.V6_ONLY : LookupFamily.V4_ONLY;
}

/** For connections to workloads that the waypoint stands before: to where they were opened. */
export function encap(context: EnvoyContext): BuiltCluster {
  const socket = transportSocket({ isTunnelled: true, proxyProtocol: undefined, tls: undefined });
  return {
    cluster: {
      name: encapCluster,
      clusterDiscoveryType: { case: "type", value: DiscoveryType.ORIGINAL_DST },
      lbPolicy: LbPolicy.CLUSTER_PROVIDED,
      connectTimeout: duration(context.meshConfig.connectTimeoutMs),
      ...httpProtocol("unsupported", noPolicy, context.meshConfig, { isAutomatic: false, verifiesHost: false }),
      ...(socket === undefined ? {} : { transportSocket: socket }),
    },
    assignment: undefined,
    problems: [],
  };
}
