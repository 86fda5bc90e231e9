/** Where connections to a port go whose bytes a waypoint does not look at. */
import { compileCidr, tryCidr } from "#shared/net/cidr.ts";
import { ipFromBytes } from "#shared/net/ip.ts";
import type { Route } from "#controlplane/mesh/gateway-route.ts";
import type { L4Match, L4Rule, VirtualService } from "#controlplane/mesh/virtual-service.ts";
import { showsNames } from "#controlplane/translate/protocol.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { fullHost, hostCovers } from "../hosts.ts";
import { applies } from "./applicability.ts";
import { resolveBackend } from "./backends.ts";
import type { Target } from "./route-entry.ts";
import { routeObjects, type RouteObject } from "./selection.ts";
import { resolveTarget } from "./targets.ts";

export interface WeightedCluster {
  readonly name: string;
  readonly weight: number;
  /** undefined: nothing in the mesh is meant, and the cluster is none. */
  readonly destination: Destination | undefined;
}

export interface TcpRoutes {
  /** Empty: nobody has written a route, and connections go to the port of the service itself. */
  readonly clusters: readonly WeightedCluster[];
  /** What connections may be sent to. */
  readonly destinations: readonly Destination[];
}

/** Where connections go that ask for one of these names in their TLS handshake. */
export interface NamedTcpRoutes extends TcpRoutes {
  readonly serverNames: readonly string[];
}

interface Share {
  readonly target: Target;
  readonly weight: number;
}

const objectsFor = (context: EnvoyContext, service: ServiceInfo, { port }: PortInfo): readonly RouteObject[] =>
  routeObjects(context, { service, port, kinds: ["TLSRoute", "TCPRoute"], perspective: "waypoint" });

/**
 * Of connections that ask for no name, or for one that nothing is said of. TLS rules of all objects come before TCP rules
 * of any.
 */
export function tcpRoutesFor(context: EnvoyContext, service: ServiceInfo, port: PortInfo): TcpRoutes {
  const objects = objectsFor(context, service, port);
  const shares =
    firstOf(objects, (object) => tlsShares(context, object, service, port.port)) ??
    firstOf(objects, (object) => tcpShares(context, object, service, port.port)) ??
    [];
  return weightedClusters(context, shares, port);
}

/** By name: of what several rules say of a name, the first counts. Only ports for TLS know names. */
export function namedTcpRoutesFor(
  context: EnvoyContext,
  service: ServiceInfo,
  port: PortInfo,
): readonly NamedTcpRoutes[] {
  if (!showsNames(port.protocol)) return [];
  const taken = new Set<string>();
  const named: NamedTcpRoutes[] = [];
  const add = (names: readonly string[], shares: Shares): void => {
    // A star is any name: what connections are told that ask for none.
    const serverNames = [...new Set(names.map((name) => name.toLowerCase()))].filter(
      (name) => name !== "*" && !taken.has(name),
    );
    if (serverNames.length === 0 || shares === undefined) return;
    for (const name of serverNames) taken.add(name);
    named.push({ serverNames, ...weightedClusters(context, shares, port) });
  };
  for (const object of objectsFor(context, service, port)) {
    if (object.kind === "routes") {
      for (const route of object.routes) {
        if (route.kind === "TLSRoute") add(route.hostnames, routeShares(context, [route]));
      }
      continue;
    }
    for (const rule of object.virtualService.tls) {
      // What comes after is never reached.
      if (rule.matches.length === 0) return named;
      const matches = rule.matches.filter((match) => takes(context, match, service, port.port));
      add(
        matches.flatMap(({ sniHosts }) => sniHosts),
        ruleShares(context, object.virtualService, rule),
      );
    }
  }
  return named;
}

function weightedClusters(context: EnvoyContext, shares: readonly Share[], port: PortInfo): TcpRoutes {
  const clusters = shares
    .filter(({ weight }) => weight > 0)
    .map(({ target, weight }): WeightedCluster => {
      const { cluster, destination } = resolveTarget(context, target, port.port);
      return { name: cluster, weight, destination };
    });
  return { clusters, destinations: clusters.flatMap(({ destination }) => destination ?? []) };
}

const nowhere: Target = { hostname: undefined, port: undefined, subset: "" };

function firstOf<T, R>(items: readonly T[], find: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

type Shares = readonly Share[] | undefined;

function tlsShares(context: EnvoyContext, object: RouteObject, service: ServiceInfo, port: number): Shares {
  if (object.kind === "routes")
    return routeShares(
      context,
      object.routes.filter(
        ({ kind, hostnames }) => kind === "TLSRoute" && (hostnames.length === 0 || names(hostnames, service.hostname)),
      ),
    );
  const { virtualService } = object;
  const rule = virtualService.tls.find(
    ({ matches }) =>
      matches.length === 0 ||
      matches.some(
        // A rule for the service's own name is for connections to it that ask for no other.
        (match) => match.sniHosts.includes(service.hostname) && takes(context, match, service, port),
      ),
  );
  return rule === undefined ? undefined : ruleShares(context, virtualService, rule);
}

const names = (hostnames: readonly string[], own: string): boolean =>
  hostnames.some((hostname) => hostCovers(hostname, own) || hostCovers(own, hostname));

function tcpShares(context: EnvoyContext, object: RouteObject, service: ServiceInfo, port: number): Shares {
  if (object.kind === "routes")
    return routeShares(
      context,
      object.routes.filter(({ kind }) => kind === "TCPRoute"),
    );
  const { virtualService } = object;
  const rule = virtualService.tcp.find(
    ({ matches }) => matches.length === 0 || matches.some((match) => takes(context, match, service, port)),
  );
  return rule === undefined ? undefined : ruleShares(context, virtualService, rule);
}

function takes({ waypoint }: EnvoyContext, match: L4Match, service: ServiceInfo, port: number): boolean {
  // Whose connection it is does not choose where it goes: what is for one namespace is for nobody, not for all.
  if (match.sourceNamespace !== "") return false;
  if (!applies(match, { port, namespace: waypoint.namespace, labels: undefined })) return false;
  return match.destinationSubnets.length === 0 || match.destinationSubnets.some((subnet) => holds(subnet, service));
}

/** Whether the addresses that the service is called by are within. */
function holds(subnet: string, { message }: ServiceInfo): boolean {
  const range = tryCidr(subnet);
  if (range === undefined) return false;
  const contains = compileCidr(range);
  return (message.addresses ?? []).some(({ address }) => {
    const ip = address === undefined ? undefined : ipFromBytes(address);
    return ip !== undefined && contains(ip);
  });
}

const ruleShares = ({ options }: EnvoyContext, { meta }: VirtualService, { route }: L4Rule): Shares =>
  route.map(({ destination: { host, port, subset }, weight }) => ({
    target: { hostname: fullHost(host, meta.namespace, options.domain), port, subset },
    // One that stands alone gets everything, whatever its weight.
    weight: route.length === 1 ? 1 : weight,
  }));

/** Of several routes the oldest counts; it has one rule. */
function routeShares(context: EnvoyContext, [route]: readonly Route[]): Shares {
  const rule = route?.rules[0];
  if (route === undefined || rule === undefined) return undefined;
  const { world, options, waypoint } = context;
  const hasHost = (hostname: string): boolean => context.findService(hostname, waypoint.namespace) !== undefined;
  const shares = rule.backends.map((ref) => {
    const backend = resolveBackend({ world, options, hasHost }, route, ref);
    const target = backend.kind === "found" ? { hostname: backend.hostname, port: backend.port, subset: "" } : nowhere;
    return { target, weight: ref.weight };
  });
  // Nobody gets anything: connections are closed.
  return shares.some(({ weight }) => weight > 0) ? shares : [{ target: nowhere, weight: 1 }];
}
