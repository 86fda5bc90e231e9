/** Which of a service's endpoints takes a connection. Candidates are worked out once per change of the service. */
import type { Endpoint, ServiceEntry } from "#shared/workload/lookup.ts";
import type { LoadBalancing, RoutingScope, Service, Workload } from "#shared/workload/workload.ts";

/** A number in [0, 1). */
export type Random = () => number;

export interface EndpointQuestion {
  readonly source: Workload;
  /** The service's port. */
  readonly port: number;
  /** Waypoints may listen on a port that their service does not declare. */
  readonly mode: "normal" | "waypoint";
}

/** Endpoints with the running total of their weights. */
interface Candidates {
  readonly endpoints: readonly Endpoint[];
  readonly totals: readonly number[];
}

/** The endpoint and the port to dial on it; undefined where none can take the connection. */
export function chooseEndpoint(
  entry: ServiceEntry,
  question: EndpointQuestion,
  random: Random,
): { readonly workload: Workload; readonly port: number } | undefined {
  if (question.mode === "normal" && !entry.service.ports.has(question.port)) return undefined;
  const endpoint = pick(candidatesFor(entry, question), random);
  const port = endpoint && targetPort(entry.service, endpoint, question.port);
  return port === undefined || endpoint === undefined ? undefined : { workload: endpoint.workload, port };
}

/**
 * Kept per entry, which the store replaces whenever service or endpoints change. The number of keys is bounded by the
 * ports declared (or named by a waypoint reference) times the localities of one node's workloads.
 */
const compiled = new WeakMap<ServiceEntry, Map<string, Candidates>>();

function candidatesFor(entry: ServiceEntry, question: EndpointQuestion): Candidates {
  const { source, port, mode } = question;
  const key = `${mode === "normal" ? "n" : "w"}${port}/${placeOf(source)}`;
  let known = compiled.get(entry);
  if (known === undefined) compiled.set(entry, (known = new Map<string, Candidates>()));
  let candidates = known.get(key);
  if (candidates === undefined) known.set(key, (candidates = compile(entry, question)));
  return candidates;
}

function compile({ service, endpoints }: ServiceEntry, { source, port, mode }: EndpointQuestion): Candidates {
  const targetIsNamed = service.ports.get(port) === 0;
  const lacksPort = !service.ports.has(port);
  const usable = [...endpoints.values()].filter(({ workload, ports }) => {
    if (!isReachable(workload, source)) return false;
    if (mode === "normal") return !targetIsNamed || (ports.get(port) ?? 0) !== 0;
    return !lacksPort || workload.applicationTunnel !== undefined;
  });
  const chosen = keepNearest(usable, service.loadBalancing, source).filter(({ workload }) => workload.capacity > 0);
  let total = 0;
  return { endpoints: chosen, totals: chosen.map(({ workload }) => (total += workload.capacity)) };
}

/** An endpoint without address or name is only reached through another network's gateway. */
function isReachable(workload: Workload, source: Workload): boolean {
  if (workload.addresses.length > 0 || workload.hostname !== "") return true;
  return workload.network !== source.network && workload.networkGateway !== undefined;
}

function keepNearest(
  endpoints: readonly Endpoint[],
  loadBalancing: LoadBalancing | undefined,
  source: Workload,
): readonly Endpoint[] {
  const preferences = loadBalancing?.routingPreference ?? [];
  switch (loadBalancing?.mode) {
    case "STRICT":
      return endpoints.filter(({ workload }) => preferences.every((scope) => sharesScope(scope, source, workload)));
    case "FAILOVER": {
      const ranks = endpoints.map(({ workload }) => rankOf(preferences, source, workload));
      const best = ranks.reduce((a, b) => Math.max(a, b), 0);
      return endpoints.filter((_, index) => ranks[index] === best);
    }
    case "STANDARD":
    case "PASSTHROUGH":
    case undefined:
      return endpoints;
  }
}

/**
 * Preferences matched from the first on. Where the first is the network it outranks all others together, and a
 * mismatch there does not end the walk: of endpoints elsewhere, the nearest are still preferred.
 */
export function rankOf(preferences: readonly RoutingScope[], source: Workload, workload: Workload): number {
  let rank = 0;
  for (const [index, scope] of preferences.entries()) {
    const networkFirst = index === 0 && scope === "NETWORK";
    if (sharesScope(scope, source, workload)) rank += networkFirst ? preferences.length : 1;
    else if (!networkFirst) break;
  }
  return rank;
}

function sharesScope(scope: RoutingScope, a: Workload, b: Workload): boolean {
  switch (scope) {
    case "REGION":
      return a.locality.region === b.locality.region;
    case "ZONE":
      return a.locality.zone === b.locality.zone;
    case "SUBZONE":
      return a.locality.subzone === b.locality.subzone;
    case "NODE":
      return a.node === b.node;
    case "CLUSTER":
      return a.clusterId === b.clusterId;
    case "NETWORK":
      return a.network === b.network;
  }
}

function pick({ endpoints, totals }: Candidates, random: Random): Endpoint | undefined {
  if (endpoints.length <= 1) return endpoints[0];
  const point = random() * (totals.at(-1) ?? 0);
  let low = 0;
  let high = totals.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((totals[middle] ?? 0) > point) high = middle;
    else low = middle + 1;
  }
  return endpoints[low];
}

/** As the endpoint maps it, else as the service does, else unchanged for an application behind a tunnel port. */
function targetPort(service: Service, { workload, ports }: Endpoint, port: number): number | undefined {
  const target = ports.get(port) || service.ports.get(port);
  if (target) return target;
  return workload.applicationTunnel?.port === undefined ? undefined : port;
}

const places = new WeakMap<Workload, string>();

/** Everything of the source that the choice depends on. */
function placeOf(source: Workload): string {
  let place = places.get(source);
  if (place === undefined) {
    const { network, locality, node, clusterId } = source;
    place = JSON.stringify([network, locality.region, locality.zone, locality.subzone, node, clusterId]);
    places.set(source, place);
  }
  return place;
}

/** One of the items by weight; weight 0 is never picked, and all zero picks none. */
export function pickWeighted<T extends { readonly weight: number }>(
  items: readonly T[],
  random: Random,
): T | undefined {
  const total = items.reduce((sum, { weight }) => sum + weight, 0);
  let left = random() * total;
  for (const item of items) {
    if (item.weight > 0 && left < item.weight) return item;
    left -= item.weight;
  }
  return undefined;
}
