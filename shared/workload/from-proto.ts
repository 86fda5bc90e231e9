/** `istio.workload.Address` → our own form. Reports every mistake at once, each naming the field and the value. */
import { firstSpiffeId, spiffeId, defaultTrustDomain, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { cidrFromBytes, type Cidr } from "#shared/net/cidr.ts";
import { ipFromBytes, type Ip } from "#shared/net/ip.ts";
import {
  ApplicationTunnel_Protocol,
  IPFamilies,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  TunnelProtocol,
  Visibility,
  WorkloadStatus,
  WorkloadType,
  type Address,
  type GatewayAddress as ProtoGatewayAddress,
  type LoadBalancing as ProtoLoadBalancing,
  type NetworkAddress as ProtoNetworkAddress,
  type Port as ProtoPort,
  type Service as ProtoService,
  type Workload as ProtoWorkload,
} from "#shared/proto/gen/workload/workload_pb.js";
import type { GatewayAddress, LoadBalancing, NetworkIp, PortMap, RoutingScope, Service, Workload } from "./workload.ts";

export type ReadResult<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly errors: readonly string[] };

export type MeshAddress =
  { readonly kind: "workload"; readonly workload: Workload } | { readonly kind: "service"; readonly service: Service };

export function addressFromProto(address: Address): ReadResult<MeshAddress> {
  const errors: string[] = [];
  const value = readAddress(address, errors);
  return value === undefined || errors.length > 0 ? { ok: false, errors } : { ok: true, value };
}

function readAddress({ type }: Address, errors: string[]): MeshAddress | undefined {
  switch (type.case) {
    case "workload":
      return { kind: "workload", workload: readWorkload(type.value, errors) };
    case "service":
      return { kind: "service", service: readService(type.value, errors) };
    case undefined:
      errors.push("type: neither workload nor service is set");
      return undefined;
  }
}

function readWorkload(from: ProtoWorkload, errors: string[]): Workload {
  const trustDomain = from.trustDomain || defaultTrustDomain;
  const serviceAccount = from.serviceAccount || "default";
  const waypoint = from.waypoint && readGateway(from.waypoint, "waypoint", errors);
  const networkGateway = from.networkGateway && readGateway(from.networkGateway, "network_gateway", errors);
  const tunnel = from.applicationTunnel;
  return {
    uid: from.uid,
    name: from.name,
    namespace: from.namespace,
    addresses: from.addresses.flatMap((bytes, index) => readIp(bytes, `addresses[${index}]`, errors) ?? []),
    hostname: from.hostname,
    network: from.network,
    protocol: choose(tunnelProtocols, from.tunnelProtocol, "tunnel_protocol", errors) ?? "TCP",
    networkMode: choose(networkModes, from.networkMode, "network_mode", errors) ?? "STANDARD",
    trustDomain,
    serviceAccount,
    identity: readIdentity({ trustDomain, namespace: from.namespace, serviceAccount }, errors),
    ...(waypoint && { waypoint }),
    ...(networkGateway && { networkGateway }),
    ...(tunnel && {
      applicationTunnel: {
        protocol: choose(applicationTunnelProtocols, tunnel.protocol, "application_tunnel.protocol", errors) ?? "NONE",
        ...(port16(tunnel.port) !== 0 && { port: port16(tunnel.port) }),
      },
    }),
    node: from.node,
    canonicalName: from.canonicalName,
    canonicalRevision: from.canonicalRevision,
    workloadType: workloadTypes.get(from.workloadType) ?? "deployment",
    workloadName: from.workloadName,
    nativeTunnel: from.nativeTunnel,
    services: readEndpointPorts(from.services, errors),
    authorizationPolicies: from.authorizationPolicies,
    healthy: choose(healths, from.status, "status", errors) ?? false,
    clusterId: from.clusterId || "Kubernetes",
    locality: {
      region: from.locality?.region ?? "",
      zone: from.locality?.zone ?? "",
      subzone: from.locality?.subzone ?? "",
    },
    capacity: from.capacity ?? 1,
  };
}

function readService(from: ProtoService, errors: string[]): Service {
  const vips: NetworkIp[] = [];
  const cidrVips: { network: string; cidr: Cidr }[] = [];
  from.addresses.forEach((address, index) => {
    const field = `addresses[${index}]`;
    const cidr = address.length === undefined ? undefined : cidrFromBytes(address.address, address.length);
    if (address.length !== undefined && address.length !== address.address.length * 8 && cidr !== undefined) {
      cidrVips.push({ network: address.network, cidr });
      return;
    }
    if (address.length !== undefined && cidr === undefined && isIpLength(address.address)) {
      errors.push(`${field}.length: ${address.length} is no prefix length of a ${address.address.length}-byte address`);
      return;
    }
    const ip = readIp(address.address, `${field}.address`, errors);
    if (ip !== undefined) vips.push({ network: address.network, ip });
  });
  const waypoint = from.waypoint && readGateway(from.waypoint, "waypoint", errors);
  return {
    name: from.name,
    namespace: from.namespace,
    hostname: from.hostname,
    vips,
    cidrVips,
    ports: readPorts(from.ports),
    // Names of other forms are for other proxies: a workload proves a SPIFFE ID.
    subjectAltNames: from.subjectAltNames.flatMap((name): SpiffeId[] => {
      const id = firstSpiffeId([name]);
      return id === undefined ? [] : [id];
    }),
    ...(waypoint && { waypoint }),
    weightedWaypoints: from.weightedWaypoints.flatMap(({ destination, weight }, index) => {
      const field = `weighted_waypoints[${index}].destination`;
      if (destination === undefined) errors.push(`${field}: missing`);
      const read = destination && readGateway(destination, field, errors);
      return read === undefined ? [] : [{ destination: read, weight }];
    }),
    ...(from.loadBalancing && { loadBalancing: readLoadBalancing(from.loadBalancing, errors) }),
    ipFamilies: choose(ipFamilies, from.ipFamilies, "ip_families", errors) ?? "AUTOMATIC",
    canonical: from.canonical,
    visibility: from.visibility === Visibility.NAMESPACE ? "NAMESPACE" : "PUBLIC",
  };
}

function readLoadBalancing(from: ProtoLoadBalancing, errors: string[]): LoadBalancing {
  return {
    mode: choose(modes, from.mode, "load_balancing.mode", errors) ?? "STANDARD",
    routingPreference: from.routingPreference.flatMap(
      (scope, index) => choose(scopes, scope, `load_balancing.routing_preference[${index}]`, errors) ?? [],
    ),
    healthPolicy: choose(healthPolicies, from.healthPolicy, "load_balancing.health_policy", errors) ?? "ONLY_HEALTHY",
  };
}

function readGateway(from: ProtoGatewayAddress, field: string, errors: string[]): GatewayAddress | undefined {
  const hboneMtlsPort = port16(from.hboneMtlsPort);
  switch (from.destination.case) {
    case "hostname": {
      const { namespace, hostname } = from.destination.value;
      return { destination: { kind: "hostname", namespace, hostname }, hboneMtlsPort };
    }
    case "address": {
      const address = readNetworkIp(from.destination.value, `${field}.address`, errors);
      return address && { destination: { kind: "address", ...address }, hboneMtlsPort };
    }
    case undefined:
      errors.push(`${field}: neither hostname nor address is set`);
      return undefined;
  }
}

function readNetworkIp(from: ProtoNetworkAddress, field: string, errors: string[]): NetworkIp | undefined {
  const ip = readIp(from.address, `${field}.address`, errors);
  return ip && { network: from.network, ip };
}

function readEndpointPorts(
  from: Readonly<Record<string, { readonly ports: readonly ProtoPort[] }>>,
  errors: string[],
): ReadonlyMap<string, PortMap> {
  const services = new Map<string, PortMap>();
  for (const [key, { ports }] of Object.entries(from)) {
    if (key.includes("/")) services.set(key, readPorts(ports));
    else errors.push(`services["${key}"]: the key is not <namespace>/<hostname>`);
  }
  return services;
}

function readIdentity(
  parts: { readonly trustDomain: string; readonly namespace: string; readonly serviceAccount: string },
  errors: string[],
): SpiffeId {
  for (const [field, value] of Object.entries(parts)) {
    if (value.includes("/")) errors.push(`${field}: "${value}" contains "/", which a SPIFFE ID cannot carry`);
  }
  return errors.length > 0 ? ("" as SpiffeId) : spiffeId(parts);
}

const isIpLength = (bytes: Uint8Array) => bytes.length === 4 || bytes.length === 16;

function readIp(bytes: Uint8Array, field: string, errors: string[]): Ip | undefined {
  const ip = ipFromBytes(bytes);
  if (ip === undefined) errors.push(`${field}: ${bytes.length} bytes are no IP address, which has 4 or 16`);
  return ip;
}

const readPorts = (ports: readonly ProtoPort[]): PortMap =>
  new Map(ports.map(({ servicePort, targetPort }) => [port16(servicePort), port16(targetPort)]));

/** Ports travel as 32-bit numbers; Istio's proxies keep the low 16 bits. */
const port16 = (port: number): number => port & 0xffff;

function choose<T>(choices: ReadonlyMap<number, T>, value: number, field: string, errors: string[]): T | undefined {
  const choice = choices.get(value);
  if (choice === undefined) {
    errors.push(`${field}: ${value} is none of ${[...choices.keys()].join(", ")}`);
  }
  return choice;
}

const tunnelProtocols: ReadonlyMap<number, Workload["protocol"]> = new Map([
  [TunnelProtocol.NONE, "TCP"],
  [TunnelProtocol.HBONE, "HBONE"],
]);
const networkModes: ReadonlyMap<number, Workload["networkMode"]> = new Map([
  [NetworkMode.STANDARD, "STANDARD"],
  [NetworkMode.HOST_NETWORK, "HOST_NETWORK"],
]);
const applicationTunnelProtocols: ReadonlyMap<number, "NONE" | "PROXY"> = new Map([
  [ApplicationTunnel_Protocol.NONE, "NONE"],
  [ApplicationTunnel_Protocol.PROXY, "PROXY"],
]);
const workloadTypes: ReadonlyMap<number, string> = new Map([
  [WorkloadType.DEPLOYMENT, "deployment"],
  [WorkloadType.CRONJOB, "cronjob"],
  [WorkloadType.POD, "pod"],
  [WorkloadType.JOB, "job"],
]);
const healths: ReadonlyMap<number, boolean> = new Map([
  [WorkloadStatus.HEALTHY, true],
  [WorkloadStatus.UNHEALTHY, false],
]);
const modes: ReadonlyMap<number, LoadBalancing["mode"]> = new Map([
  [LoadBalancing_Mode.UNSPECIFIED_MODE, "STANDARD"],
  [LoadBalancing_Mode.STRICT, "STRICT"],
  [LoadBalancing_Mode.FAILOVER, "FAILOVER"],
  [LoadBalancing_Mode.PASSTHROUGH, "PASSTHROUGH"],
]);
const scopes: ReadonlyMap<number, RoutingScope> = new Map([
  [LoadBalancing_Scope.REGION, "REGION"],
  [LoadBalancing_Scope.ZONE, "ZONE"],
  [LoadBalancing_Scope.SUBZONE, "SUBZONE"],
  [LoadBalancing_Scope.NODE, "NODE"],
  [LoadBalancing_Scope.CLUSTER, "CLUSTER"],
  [LoadBalancing_Scope.NETWORK, "NETWORK"],
]);
const healthPolicies: ReadonlyMap<number, LoadBalancing["healthPolicy"]> = new Map([
  [LoadBalancing_HealthPolicy.ONLY_HEALTHY, "ONLY_HEALTHY"],
  [LoadBalancing_HealthPolicy.ALLOW_ALL, "ALLOW_ALL"],
]);
const ipFamilies: ReadonlyMap<number, Service["ipFamilies"]> = new Map([
  [IPFamilies.AUTOMATIC, "AUTOMATIC"],
  [IPFamilies.IPV4_ONLY, "IPV4_ONLY"],
  [IPFamilies.IPV6_ONLY, "IPV6_ONLY"],
  [IPFamilies.DUAL, "DUAL"],
]);
