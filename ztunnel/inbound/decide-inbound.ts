/** Where a CONNECT that reached a pod goes: no I/O, no clock. Policy is asked afterwards, with `policyTarget`. */
import { isIpv6, splitHostPort, tryIp, type Ip } from "#shared/net/ip.ts";
import type { ServiceEntry, WorkloadLookup } from "#shared/workload/lookup.ts";
import type { GatewayAddress, Service, Workload } from "#shared/workload/workload.ts";

export interface ConnectRequest {
  readonly method: string;
  readonly authority: string;
  /** `host=` of the Forwarded header: chooses only among the workload's own services. */
  readonly forwardedHost?: string;
  /** Ends of the tunnel's socket. */
  readonly local: { readonly ip: Ip; readonly port: number };
  readonly peer: { readonly ip: Ip; readonly port: number };
}

/** Who we answer for. */
export interface InboundSelf {
  readonly workload: Workload;
  /** Our network id. */
  readonly network: string;
  /** Ports of our own listeners, never dialled: 15001, 15006, 15008, and 15080 with SOCKS5. */
  readonly illegalPorts: ReadonlySet<number>;
  /** Whether PROXY-protocol applications are dialled on loopback. */
  readonly localhostAppTunnel: boolean;
}

export type InboundDecision =
  | {
      readonly kind: "connect";
      /** What to dial. */
      readonly target: { readonly ip: Ip; readonly port: number };
      /** What policy sees as the destination: the pod's address, the application's port. */
      readonly policyTarget: { readonly ip: Ip; readonly port: number };
      /** False where the application is dialled on loopback, or the peer's address is the target's own. */
      readonly keepSource: boolean;
      /** Set where the application wants a PROXY v2 header: the destination to write in it. */
      readonly proxyProtocolTarget?: { readonly ip: Ip; readonly port: number };
      /** Best guess of the service meant, for metrics. */
      readonly service?: Service;
    }
  | { readonly kind: "refuse"; readonly status: 400 | 503; readonly why: string };

/** A plaintext connection captured on its way in. */
export interface PlaintextRequest {
  readonly originalDestination: { readonly ip: Ip; readonly port: number };
  readonly peer: { readonly ip: Ip; readonly port: number };
}

/** What is asked for by CONNECT: an address of ours, or a service by name. */
type Authority =
  | { readonly kind: "address"; readonly ip: Ip; readonly port: number }
  | { readonly kind: "hostname"; readonly hostname: string; readonly port: number };

/** The target is always our own pod, whatever the authority says; the authority only picks port and service. */
export function decideConnect(request: ConnectRequest, lookup: WorkloadLookup, self: InboundSelf): InboundDecision {
  if (request.method !== "CONNECT") return refuse(400, `method "${request.method}" is not CONNECT`);
  const authority = readAuthority(request.authority);
  if (authority === undefined) return refuse(400, `authority "${request.authority}" is not host:port`);
  if (authority.kind === "address" && !belongsToUs(authority.ip, request.local.ip, lookup, self)) {
    return refuse(400, `ip mismatch: ${request.local.ip} != ${authority.ip}`);
  }
  const named = authority.kind === "hostname" ? findByHostname(authority.hostname, lookup, self.workload) : undefined;
  if (authority.kind === "hostname" && named === undefined) {
    return refuse(503, `no service named "${authority.hostname}" is known`);
  }
  const asked = named === undefined ? authority.port : targetPort(named, authority.port, self.workload.uid);
  if (asked === 0) return refuse(503, `${request.authority}: the port maps to nothing here`);
  if (self.illegalPorts.has(asked)) return refuse(503, `port ${asked} is the proxy's own`);
  const tunnel = self.workload.applicationTunnel;
  const port = tunnel?.port ?? asked;
  const proxyProtocolTarget = tunnel?.protocol === "PROXY" ? originalTarget(authority, named, self.network) : undefined;
  if (tunnel?.protocol === "PROXY" && proxyProtocolTarget === undefined) {
    return refuse(503, `${request.authority}: the service has no address to name in a PROXY header`);
  }
  const pod = request.local.ip;
  const onLoopback = proxyProtocolTarget !== undefined && self.localhostAppTunnel;
  const service = guessService(port, request.forwardedHost, named, lookup, self.workload);
  return {
    kind: "connect",
    target: { ip: onLoopback ? loopbackOf(pod) : pod, port },
    policyTarget: { ip: pod, port },
    keepSource: !onLoopback && request.peer.ip !== pod,
    ...(proxyProtocolTarget && { proxyProtocolTarget }),
    ...(service && { service }),
  };
}

/** Plaintext goes where it was going; only policy may stop it. */
export function decidePlaintext(request: PlaintextRequest, lookup: WorkloadLookup, self: InboundSelf): InboundDecision {
  const { originalDestination: target, peer } = request;
  if (self.illegalPorts.has(target.port)) return refuse(503, `port ${target.port} is the proxy's own`);
  const service = guessService(target.port, undefined, undefined, lookup, self.workload);
  return {
    kind: "connect",
    target,
    policyTarget: target,
    keepSource: peer.ip !== target.ip,
    ...(service && { service }),
  };
}

function readAuthority(text: string): Authority | undefined {
  const split = splitHostPort(text);
  if (split === undefined) return undefined;
  const ip = tryIp(split.host);
  return ip === undefined
    ? { kind: "hostname", hostname: split.host, port: split.port }
    : { kind: "address", ip, port: split.port };
}

/** An address is ours if the tunnel was dialled to it, if we front an application, or if we are its waypoint. */
function belongsToUs(ip: Ip, local: Ip, lookup: WorkloadLookup, { workload, network }: InboundSelf): boolean {
  if (ip === local || workload.applicationTunnel !== undefined) return true;
  const asked = lookup.workloadByAddress(network, ip);
  if (asked !== undefined) return asked.waypoint !== undefined && isUs(asked.waypoint, local, lookup, workload);
  const service = lookup.serviceByAddress(network, ip, workload.namespace)?.service;
  if (service === undefined) return false;
  return [...service.weightedWaypoints.map(({ destination }) => destination), service.waypoint].some(
    (reference) => reference !== undefined && isUs(reference, local, lookup, workload),
  );
}

/** Whether a waypoint reference leads here: a service that we stand behind, or a workload that owns our address. */
function isUs({ destination }: GatewayAddress, local: Ip, lookup: WorkloadLookup, { uid }: Workload): boolean {
  const entry =
    destination.kind === "address"
      ? lookup.serviceByAddress(destination.network, destination.ip)
      : lookup.serviceByKey(`${destination.namespace}/${destination.hostname}`);
  if (entry !== undefined) return entry.endpoints.has(uid);
  const workload =
    destination.kind === "address"
      ? lookup.workloadByAddress(destination.network, destination.ip)
      : lookup.workloadByHostname(destination.namespace, destination.hostname);
  return workload !== undefined && workload.addresses.includes(local);
}

/** Host names are compared without regard to case, as DNS does. */
function findByHostname(hostname: string, lookup: WorkloadLookup, { namespace }: Workload): ServiceEntry | undefined {
  return lookup.serviceByHostname(hostname, namespace) ?? lookup.serviceByHostname(hostname.toLowerCase(), namespace);
}

/** 0 where the port is not the service's, or is named and not mapped by us. */
function targetPort({ service, endpoints }: ServiceEntry, port: number, uid: string): number {
  return endpoints.get(uid)?.ports.get(port) || (service.ports.get(port) ?? 0);
}

/** What the caller meant, for the PROXY header: a virtual address if it named a service. */
function originalTarget(
  authority: Authority,
  named: ServiceEntry | undefined,
  network: string,
): { readonly ip: Ip; readonly port: number } | undefined {
  if (authority.kind === "address") return { ip: authority.ip, port: authority.port };
  const vips = named?.service.vips ?? [];
  const ours = vips.filter((vip) => vip.network === network);
  const ip = (ours.find((vip) => !isIpv6(vip.ip)) ?? ours[0] ?? vips[0])?.ip;
  return ip && { ip, port: authority.port };
}

/** The service meant, for metrics: by name if the caller forwarded one of ours, else the first that uses the port. */
function guessService(
  port: number,
  forwardedHost: string | undefined,
  named: ServiceEntry | undefined,
  lookup: WorkloadLookup,
  { uid, services }: Workload,
): Service | undefined {
  if (named !== undefined) return matchesPort(named, port, uid, forwardedHost) ? named.service : undefined;
  let byPort: Service | undefined;
  for (const key of services.keys()) {
    const entry = lookup.serviceByKey(key);
    if (entry === undefined) continue;
    if (forwardedHost !== undefined && entry.service.hostname === forwardedHost) return entry.service;
    if (byPort === undefined && usesPort(entry, port, uid)) byPort = entry.service;
  }
  return byPort;
}

const matchesPort = (entry: ServiceEntry, port: number, uid: string, host: string | undefined): boolean =>
  entry.service.hostname === host || usesPort(entry, port, uid);

function usesPort({ service, endpoints }: ServiceEntry, port: number, uid: string): boolean {
  for (const target of service.ports.values()) if (target === port) return true;
  for (const target of endpoints.get(uid)?.ports.values() ?? []) if (target === port) return true;
  return false;
}

const loopbackOf = (ip: Ip): Ip => (isIpv6(ip) ? "::1" : "127.0.0.1") as Ip;

const refuse = (status: 400 | 503, why: string): InboundDecision => ({ kind: "refuse", status, why });
