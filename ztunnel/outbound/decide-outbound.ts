/** Where a captured connection goes: no I/O, no clock; randomness is a parameter. */
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { hostPort, isIpv6, isLoopback, type Ip } from "#shared/net/ip.ts";
import type { ServiceEntry, WorkloadLookup } from "#shared/workload/lookup.ts";
import type { GatewayAddress, Service, Workload } from "#shared/workload/workload.ts";
import { chooseEndpoint, pickWeighted, type Random } from "./decide-endpoint.ts";

export interface SocketTarget {
  readonly ip: Ip;
  readonly port: number;
}

export interface OutboundRequest {
  /** The workload whose pod the connection was captured in. */
  readonly source: Workload;
  /** The application's end of the captured connection. */
  readonly peerIp: Ip;
  /** Where the application meant to go. */
  readonly target: SocketTarget;
}

export type OutboundDecision =
  | {
      /** Plain TCP. */
      readonly kind: "passthrough";
      readonly why: string;
      readonly target: SocketTarget;
      readonly destination?: Workload;
      readonly service?: Service;
    }
  | {
      /** One tunnel to `hop`, CONNECT `authority`. */
      readonly kind: "hbone";
      readonly why: string;
      readonly via: "workload" | "waypoint";
      readonly hop: SocketTarget;
      readonly authority: string;
      /** The server must prove one of these. */
      readonly expected: readonly SpiffeId[];
      /** The workload at `hop`. */
      readonly destination: Workload;
      /** The service that the application meant. */
      readonly service?: Service;
    }
  | {
      /** A tunnel inside a tunnel through another network's gateway; both CONNECT `authority`. */
      readonly kind: "double-hbone";
      readonly why: string;
      readonly gateway: SocketTarget;
      readonly gatewayExpected: readonly SpiffeId[];
      readonly authority: string;
      /** What the far end of the inner tunnel must prove. */
      readonly expected: readonly SpiffeId[];
      /** The gateway's workload; the inner peer's baggage replaces it in reports. */
      readonly destination?: Workload;
      readonly service?: Service;
    }
  | { readonly kind: "refuse"; readonly why: string };

/** A decision that waits for the address of a workload known by hostname only. */
export interface Unresolved {
  readonly kind: "resolve";
  readonly hostname: string;
  /** Family that the application used: preferred among the answers. */
  readonly family: 4 | 6;
  /** The decision once the address is known. */
  readonly complete: (ip: Ip) => OutboundDecision;
}

export interface OutboundSettings {
  /** Our network id. */
  readonly network: string;
  /** Ports of our own listeners, never dialled on loopback. */
  readonly illegalPorts: ReadonlySet<number>;
  readonly random: Random;
}

/** Where peers listen for tunnels to workloads. */
export const hbonePort = 15_008;

/** A workload to dial, and through which service it was found. */
interface Upstream {
  readonly workload: Workload;
  readonly port: number;
  readonly service?: Service;
}

type Found<T> = { readonly found: T } | { readonly missing: string };

/**
 * Service-addressed traffic takes the service's waypoint, workload-addressed traffic the workload's; a waypoint that is
 * named but cannot be reached refuses the connection rather than bypass it.
 */
export function decideOutbound(
  request: OutboundRequest,
  lookup: WorkloadLookup,
  settings: OutboundSettings,
): OutboundDecision | Unresolved {
  const { source, target } = request;
  if (isLoopback(target.ip) && settings.illegalPorts.has(target.port)) {
    return refuse(`${hostPort(target.ip, target.port)} is the proxy's own port`);
  }
  const asked = lookup.workloadByAddress(settings.network, target.ip)
    ? undefined
    : lookup.serviceByAddress(settings.network, target.ip, source.namespace);
  if (asked !== undefined) {
    const viaWaypoint = decideServiceWaypoint(asked, request, lookup, settings);
    if (viaWaypoint !== undefined) return viaWaypoint;
  }
  const upstream = findUpstream(source.network, target, source, lookup, settings.random);
  if (upstream === undefined) {
    if (asked !== undefined && asked.service.loadBalancing?.mode !== "PASSTHROUGH") {
      return refuse(`no healthy upstream for ${describe(asked.service)} port ${target.port}`);
    }
    return {
      kind: "passthrough",
      why: asked === undefined ? "the address is unknown to the mesh" : `${describe(asked.service)} passes through`,
      target,
    };
  }
  if (upstream.workload.network !== source.network) {
    return asked === undefined
      ? refuse(`${upstream.workload.uid} is on network "${upstream.workload.network}", which takes a service to reach`)
      : decideGateway(asked.service, upstream.workload, request, lookup, settings);
  }
  const waypoint = asked === undefined ? upstream.workload.waypoint : undefined;
  if (waypoint !== undefined && !comesFromWaypoint(waypoint, request, lookup)) {
    const hop = findGateway(waypoint, "waypoint", request, lookup, settings);
    if ("missing" in hop) return refuse(`waypoint of ${upstream.workload.uid}: ${hop.missing}`);
    if (hop.found.workload.network !== source.network) {
      return refuse(`waypoint of ${upstream.workload.uid} is on network "${hop.found.workload.network}"`);
    }
    return toWaypoint(hop.found, waypoint, request, undefined, `${upstream.workload.uid} is behind its waypoint`);
  }
  return toWorkload(upstream, target);
}

/** undefined where the service has no waypoint. */
function decideServiceWaypoint(
  { service }: ServiceEntry,
  request: OutboundRequest,
  lookup: WorkloadLookup,
  settings: OutboundSettings,
): OutboundDecision | Unresolved | undefined {
  const waypoint = pickWeighted(service.weightedWaypoints, settings.random)?.destination ?? service.waypoint;
  if (waypoint === undefined) return undefined;
  const hop = findGateway(waypoint, "waypoint", request, lookup, settings);
  if ("missing" in hop) return refuse(`waypoint of ${describe(service)}: ${hop.missing}`);
  if (hop.found.workload.network !== request.source.network) {
    return decideGateway(service, hop.found.workload, request, lookup, settings);
  }
  return toWaypoint(hop.found, waypoint, request, service, `${describe(service)} is behind its waypoint`);
}

function toWaypoint(
  hop: Upstream,
  reference: GatewayAddress,
  { target }: OutboundRequest,
  service: Service | undefined,
  why: string,
): OutboundDecision | Unresolved {
  return withAddress(hop, familyGuide(reference, target.ip), (ip) => ({
    kind: "hbone",
    why,
    via: "waypoint",
    hop: { ip, port: hop.port },
    authority: hostPort(target.ip, target.port),
    expected: identitiesOf(hop),
    destination: hop.workload,
    ...(service && { service }),
  }));
}

function toWorkload(upstream: Upstream, target: SocketTarget): OutboundDecision | Unresolved {
  const { workload, port, service } = upstream;
  return withAddress(upstream, target.ip, (ip) => {
    if (workload.protocol === "TCP") {
      return {
        kind: "passthrough",
        why: `${workload.uid} does not take tunnels`,
        target: { ip, port },
        destination: workload,
        ...(service && { service }),
      };
    }
    return {
      kind: "hbone",
      why: service === undefined ? `${workload.uid} is addressed directly` : `endpoint of ${describe(service)}`,
      via: "workload",
      hop: { ip, port: hbonePort },
      authority: hostPort(ip, port),
      expected: identitiesOf(upstream),
      destination: workload,
      ...(service && { service }),
    };
  });
}

/** Through the gateway of the network that `remote` is on, to the service itself. */
function decideGateway(
  service: Service,
  remote: Workload,
  request: OutboundRequest,
  lookup: WorkloadLookup,
  settings: OutboundSettings,
): OutboundDecision | Unresolved {
  const reference = remote.networkGateway;
  if (reference === undefined) {
    return refuse(`${remote.uid} is on network "${remote.network}", which names no gateway`);
  }
  const gateway = findGateway(reference, "normal", request, lookup, settings);
  if ("missing" in gateway) return refuse(`gateway of network "${remote.network}": ${gateway.missing}`);
  return withAddress(gateway.found, familyGuide(reference, request.target.ip), (ip) => ({
    kind: "double-hbone",
    why: `${remote.uid} is on network "${remote.network}"`,
    gateway: { ip, port: gateway.found.port },
    gatewayExpected: identitiesOf(gateway.found),
    authority: `${service.hostname}:${request.target.port}`,
    expected: service.subjectAltNames,
    destination: gateway.found.workload,
    service,
  }));
}

/** Services first: an address that is both is meant as the service. */
function findUpstream(
  network: string,
  target: SocketTarget,
  source: Workload,
  lookup: WorkloadLookup,
  random: Random,
  mode: "normal" | "waypoint" = "normal",
): Upstream | undefined {
  const entry = lookup.serviceByAddress(network, target.ip, source.namespace);
  if (entry !== undefined) {
    if (entry.service.loadBalancing?.mode === "PASSTHROUGH") return undefined;
    return endpointOf(entry, { source, port: target.port, mode }, random);
  }
  const workload = lookup.workloadByAddress(network, target.ip);
  return workload && { workload, port: target.port };
}

function endpointOf(
  entry: ServiceEntry,
  question: { readonly source: Workload; readonly port: number; readonly mode: "normal" | "waypoint" },
  random: Random,
): Upstream | undefined {
  const chosen = chooseEndpoint(entry, question, random);
  return chosen && { ...chosen, service: entry.service };
}

/** A waypoint or a network gateway, by address or by name. */
function findGateway(
  { destination, hboneMtlsPort: port }: GatewayAddress,
  mode: "normal" | "waypoint",
  { source }: OutboundRequest,
  lookup: WorkloadLookup,
  { random }: OutboundSettings,
): Found<Upstream> {
  if (destination.kind === "address") {
    const { network, ip } = destination;
    const found = findUpstream(network, { ip, port }, source, lookup, random, mode);
    return found ? { found } : { missing: `nothing healthy is known at ${network}/${hostPort(ip, port)}` };
  }
  const key = `${destination.namespace}/${destination.hostname}`;
  const entry = lookup.serviceByKey(key);
  if (entry !== undefined) {
    const found = endpointOf(entry, { source, port, mode }, random);
    return found ? { found } : { missing: `service ${key} has no healthy endpoint on port ${port}` };
  }
  const workload = lookup.workloadByHostname(destination.namespace, destination.hostname);
  return workload ? { found: { workload, port } } : { missing: `neither service nor workload ${key} is known` };
}

/** Whether the connection is the waypoint's own, which must not be sent back to it. */
function comesFromWaypoint(
  { destination }: GatewayAddress,
  { source, peerIp }: OutboundRequest,
  lookup: WorkloadLookup,
): boolean {
  const isSource = (workload: Workload): boolean =>
    workload.identity === source.identity && workload.addresses.includes(peerIp);
  const entry =
    destination.kind === "address"
      ? lookup.serviceByAddress(destination.network, destination.ip)
      : lookup.serviceByKey(`${destination.namespace}/${destination.hostname}`);
  if (entry !== undefined) {
    // Our own uid is found at once; only another workload sharing address and identity takes the walk.
    const own = entry.endpoints.get(source.uid);
    if (own !== undefined && isSource(own.workload)) return true;
    for (const { workload } of entry.endpoints.values()) if (isSource(workload)) return true;
  }
  const workload =
    destination.kind === "address"
      ? lookup.workloadByAddress(destination.network, destination.ip)
      : lookup.workloadByHostname(destination.namespace, destination.hostname);
  return workload !== undefined && isSource(workload);
}

/** Names the address of `upstream` now, or says what must be resolved first. */
function withAddress(
  { workload, service }: Upstream,
  guide: Ip,
  complete: (ip: Ip) => OutboundDecision,
): OutboundDecision | Unresolved {
  const ip = pickAddress(workload, guide, service);
  if (ip !== undefined) return complete(ip);
  if (workload.hostname !== "") {
    return { kind: "resolve", hostname: workload.hostname, family: isIpv6(guide) ? 6 : 4, complete };
  }
  return refuse(`${workload.uid} has no usable address`);
}

/** The address asked for if it has it, else one of the same family, else any that the service allows. */
function pickAddress({ addresses }: Workload, guide: Ip, service: Service | undefined): Ip | undefined {
  if (addresses.includes(guide)) return guide;
  let other: Ip | undefined;
  for (const ip of addresses) {
    const v6 = isIpv6(ip);
    if (service?.ipFamilies === (v6 ? "IPV4_ONLY" : "IPV6_ONLY")) continue;
    if (v6 === isIpv6(guide)) return ip;
    other ??= ip;
  }
  return other;
}

/** A gateway named by address is dialled in that address's family, one named by hostname in the call's. */
const familyGuide = ({ destination }: GatewayAddress, target: Ip): Ip =>
  destination.kind === "address" ? destination.ip : target;

const identitiesOf = ({ workload, service }: Upstream): readonly SpiffeId[] =>
  service === undefined || service.subjectAltNames.length === 0
    ? [workload.identity]
    : [...service.subjectAltNames, workload.identity];

const describe = ({ namespace, hostname }: Service): string => `service ${namespace}/${hostname}`;

const refuse = (why: string): OutboundDecision => ({ kind: "refuse", why });
