/** Our state in the shape that istioctl reads: Istio's spellings, optional fields left out where they say nothing. */
import type { CertificateState } from "#shared/ca/certificate-manager.ts";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import { hostPort } from "#shared/net/ip.ts";
import type { Policy, PolicyMatch, StringMatch } from "#shared/rbac/policy.ts";
import type { Endpoint, ServiceEntry } from "#shared/workload/lookup.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";
import type { GatewayAddress, LoadBalancing, NetworkIp, PortMap, Workload } from "#shared/workload/workload.ts";
import type { ZtunnelConfig } from "#ztunnel/config.ts";
import type { InboundConnection, OutboundConnection } from "./live-connections.ts";
import type { LocalConfig } from "./local-config.ts";
import type { MeshState } from "./mesh-state.ts";

type Dump = Readonly<Record<string, unknown>>;

export function dumpWorkload(workload: Workload): Dump {
  const { applicationTunnel, locality } = workload;
  return {
    uid: workload.uid,
    workloadIps: workload.addresses,
    ...some("hostname", workload.hostname),
    ...some("network", workload.network),
    protocol: workload.protocol,
    networkMode: workload.networkMode === "HOST_NETWORK" ? "HostNetwork" : "Standard",
    ...(workload.waypoint && { waypoint: dumpGateway(workload.waypoint) }),
    ...(workload.networkGateway && { networkGateway: dumpGateway(workload.networkGateway) }),
    ...(applicationTunnel && {
      applicationTunnel: { protocol: applicationTunnel.protocol, port: applicationTunnel.port ?? null },
    }),
    name: workload.name,
    namespace: workload.namespace,
    trustDomain: workload.trustDomain,
    serviceAccount: workload.serviceAccount,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    node: workload.node,
    ...(workload.nativeTunnel && { nativeTunnel: true }),
    ...(workload.authorizationPolicies.length > 0 && { authorizationPolicies: workload.authorizationPolicies }),
    status: dumpStatus(workload),
    clusterId: workload.clusterId,
    ...(Object.values(locality).some((part) => part !== "") && { locality }),
    services: [...workload.services.keys()].toSorted(),
    capacity: workload.capacity,
  };
}

export function dumpService({ service, endpoints }: ServiceEntry): Dump {
  const { cidrVips, weightedWaypoints, loadBalancing, ipFamilies } = service;
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map(dumpNetworkIp),
    ...(cidrVips.length > 0 && {
      cidrVips: cidrVips.map(({ network, cidr }) => ({ network, cidr: `${cidr.base}/${cidr.length}` })),
    }),
    ports: dumpPorts(service.ports),
    endpoints: dumpEndpoints(endpoints),
    subjectAltNames: service.subjectAltNames,
    ...(service.waypoint && { waypoint: dumpGateway(service.waypoint) }),
    ...(weightedWaypoints.length > 0 && {
      weightedWaypoints: weightedWaypoints.map(({ destination, weight }) => ({
        destination: dumpGateway(destination),
        weight,
      })),
    }),
    ...(loadBalancing && { loadBalancer: dumpLoadBalancing(loadBalancing) }),
    ...(ipFamilies !== "AUTOMATIC" && { ipFamilies: familyNames[ipFamilies] }),
    ...(service.canonical && { canonical: true }),
    ...(service.visibility === "NAMESPACE" ? { visibility: "Namespace" } : { visibility: "Public" }),
  };
}

const familyNames = { IPV4_ONLY: "IPv4", IPV6_ONLY: "IPv6", DUAL: "Dual" } as const;

export const dumpEndpoints = (endpoints: ReadonlyMap<string, Endpoint>): Dump =>
  Object.fromEntries(
    [...endpoints].map(([uid, { workload, ports }]) => [
      uid,
      { workloadUid: uid, port: dumpPorts(ports), status: dumpStatus(workload) },
    ]),
  );

export const dumpPolicy = (policy: Policy): Dump => ({
  name: policy.name,
  namespace: policy.namespace,
  scope: policy.scope === "WORKLOAD_SELECTOR" ? "WorkloadSelector" : capitalize(policy.scope),
  action: capitalize(policy.action),
  dryRun: policy.dryRun,
  rules: policy.rules.map((rule) => rule.map((clause) => clause.map(dumpMatch))),
});

function dumpMatch(match: PolicyMatch): Dump {
  const fields: Dump = {
    namespaces: match.namespaces.map(dumpString),
    notNamespaces: match.notNamespaces.map(dumpString),
    principals: match.principals.map(dumpString),
    notPrincipals: match.notPrincipals.map(dumpString),
    serviceAccounts: match.serviceAccounts,
    notServiceAccounts: match.notServiceAccounts,
    sourceIps: match.sourceIps.map(({ base, length }) => `${base}/${length}`),
    notSourceIps: match.notSourceIps.map(({ base, length }) => `${base}/${length}`),
    destinationIps: match.destinationIps.map(({ base, length }) => `${base}/${length}`),
    notDestinationIps: match.notDestinationIps.map(({ base, length }) => `${base}/${length}`),
    destinationPorts: match.destinationPorts,
    notDestinationPorts: match.notDestinationPorts,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => Array.isArray(value) && value.length > 0));
}

const dumpString = (match: StringMatch): Dump =>
  match.kind === "presence" ? { Presence: [] } : { [capitalize(match.kind)]: match.value };

/** Chains and roots as base64 of PEM; keys are never part of it. */
export async function dumpCertificates(states: ReadonlyMap<string, CertificateState>): Promise<readonly Dump[]> {
  const { X509Certificate } = await import("node:crypto");
  const dumpPem = (pem: string): Dump => {
    const certificate = new X509Certificate(pem);
    return {
      pem: Buffer.from(pem).toString("base64"),
      serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
      validFrom: wholeSeconds(certificate.validFrom),
      expirationTime: wholeSeconds(certificate.validTo),
    };
  };
  return [...states]
    .toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([identity, state]) => ({
      identity,
      state: describeState(state),
      certChain: state.at === "available" ? splitPem(state.certificate.chainPem).map(dumpPem) : [],
      rootCerts: state.at === "available" ? state.certificate.rootsPem.map(dumpPem) : [],
    }));
}

function describeState(state: CertificateState): string {
  switch (state.at) {
    case "initializing":
      return "Initializing";
    case "available":
      return "Available";
    case "unavailable":
      return `Unavailable: ${state.error.message}`;
  }
}

const wholeSeconds = (date: string): string => new Date(date).toISOString().replace(".000Z", "Z");

/** Streams share a tunnel's source address: equal rows are shown once. */
export function dumpConnections(
  inbound: Iterable<InboundConnection>,
  outbound: Iterable<OutboundConnection>,
): { readonly inbound: readonly Dump[]; readonly outbound: readonly Dump[] } {
  const rows = new Map<string, Dump>();
  for (const { policyConnection, sourcePort, originalDestination } of inbound) {
    const { sourceIp, destinationIp, destinationPort, sourceIdentity } = policyConnection;
    const row = {
      src: hostPort(sourceIp, sourcePort),
      originalDst: originalDestination ?? null,
      actualDst: hostPort(destinationIp, destinationPort),
      protocol: sourceIdentity === undefined ? "TCP" : "HBONE",
    };
    rows.set(JSON.stringify(row), row);
  }
  return {
    inbound: [...rows.values()],
    outbound: [...outbound].map(({ source, originalDestination, actualDestination, protocol }) => ({
      src: hostPort(source.ip, source.port),
      originalDst: hostPort(originalDestination.ip, originalDestination.port),
      actualDst: hostPort(actualDestination.ip, actualDestination.port),
      protocol,
    })),
  };
}

const dumpLoadBalancing = ({ mode, routingPreference, healthPolicy }: LoadBalancing): Dump => ({
  mode: capitalize(mode),
  routingPreferences: routingPreference.map(capitalize),
  healthPolicy: healthPolicy === "ALLOW_ALL" ? "AllowAll" : "OnlyHealthy",
});

const dumpGateway = ({ destination, hboneMtlsPort }: GatewayAddress): Dump => ({
  destination:
    destination.kind === "hostname" ? `${destination.namespace}/${destination.hostname}` : dumpNetworkIp(destination),
  hboneMtlsPort,
});

const dumpNetworkIp = ({ network, ip }: NetworkIp): string => `${network}/${ip}`;

const dumpPorts = (ports: PortMap): Dump => Object.fromEntries(ports);

const dumpStatus = ({ healthy }: Workload): string => (healthy ? "Healthy" : "Unhealthy");

const some = (key: string, text: string): Dump => (text === "" ? {} : { [key]: text });

const capitalize = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase();

/** Everything, as the admin server answers `/config_dump`. Tokens and keys are not part of anything that goes in. */
export async function dumpAll(subject: DumpSubject): Promise<Dump> {
  const { config, state, certificates, localConfig, pods, version } = subject;
  return {
    certificates: await dumpCertificates(certificates.states()),
    config: {
      proxy: config.proxyEnabled,
      proxyMode: config.mode.kind === "shared" ? "Shared" : "Dedicated",
      dnsProxy: config.dns.enabled,
      network: config.network,
      localNode: config.localNode ?? null,
      clusterId: config.clusterId,
      clusterDomain: config.clusterDomain,
      inboundAddr: config.ipv6Enabled ? "[::]:15008" : "0.0.0.0:15008",
      inboundPlaintextAddr: config.ipv6Enabled ? "[::]:15006" : "0.0.0.0:15006",
      outboundAddr: config.ipv6Enabled ? "[::]:15001" : "0.0.0.0:15001",
      xdsAddress: config.xdsAddress ?? null,
      caAddress: config.caAddress ?? null,
      xdsOnDemand: config.xdsOnDemand,
      packetMark: config.packetMark ?? null,
      selfTerminationDeadline: `${config.drainDeadlineMs / 1_000}s`,
      numWorkerThreads: config.workerThreads,
      proxyMetadata: config.metadata,
    },
    policies: state.policies.all().map(dumpPolicy),
    services: state.workloads.allServices().map(dumpService),
    stagedServices: Object.fromEntries(
      [...state.workloads.allStaged()].map(([key, endpoints]) => [key, dumpEndpoints(endpoints)]),
    ),
    staticConfig: {
      workloads: localConfig?.workloads.map(dumpWorkload) ?? [],
      policies: localConfig?.policies.map(dumpPolicy) ?? [],
      services: localConfig?.services.map((service) => dumpService({ service, endpoints: new Map() })) ?? [],
    },
    version,
    workloadState: Object.fromEntries(
      [...pods].map(([uid, { state: at, info, proxy }]) => [
        uid,
        {
          state: at,
          info: { name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount },
          ...(proxy && { connections: dumpConnections(proxy.connections.inbound, proxy.connections.outbound) }),
        },
      ]),
    ),
    workloads: state.workloads.allWorkloads().map(dumpWorkload),
  };
}

export interface DumpSubject {
  readonly config: ZtunnelConfig;
  readonly state: MeshState;
  readonly certificates: { states(): ReadonlyMap<string, CertificateState> };
  readonly localConfig: LocalConfig | undefined;
  readonly pods: ReadonlyMap<
    string,
    {
      readonly state: "Up" | "Pending";
      readonly info: PodIdentity;
      readonly proxy?: {
        readonly connections: {
          readonly inbound: Iterable<InboundConnection>;
          readonly outbound: Iterable<OutboundConnection>;
        };
      };
    }
  >;
  readonly version: Dump;
}
