/** Which part of the mesh one waypoint serves, as one of its instances sees it. */
import type { Labels } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { networkLabel, regionLabel, subzoneLabel, zoneLabel } from "#controlplane/translate/annotations.ts";
import type { Collected, CollectedWorkload } from "#controlplane/translate/collected.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { isOlder } from "#controlplane/translate/status.ts";
import type { Waypoint } from "#controlplane/translate/waypoints.ts";
import type { EnvoyContext, ProxyFacts } from "./context.ts";

/** Canary waypoints serve what their primaries do. */
function isBoundTo({ binding }: ServiceInfo, key: string): boolean {
  if (binding.kind !== "bound") return false;
  return binding.waypoint.key === key || binding.canary?.waypoint.key === key;
}

export function envoyContext(collected: Collected, waypoint: Waypoint, proxy: ProxyFacts): EnvoyContext {
  const { world, options, services, waypoints } = collected;
  const served = services.filter((service) => isBoundTo(service, waypoint.key)).sort((a, b) => olderFirst(a, b));
  const own = new Set(served);
  const isAttached = ({ workload, labels }: CollectedWorkload): boolean => {
    if (workload.waypoint === undefined) return false;
    const binding = waypoints.forWorkload(workload.namespace, labels);
    return binding.kind === "bound" && binding.waypoint.key === waypoint.key;
  };
  return {
    world,
    options,
    meshConfig: world.meshConfig,
    collected,
    waypoint,
    proxy,
    served,
    attached: collected.workloads.filter(isAttached),
    serves: (service) => own.has(service),
    findService: (hostname, namespace) => servicesByHost(collected).find(hostname, namespace),
  };
}

function olderFirst(a: ServiceInfo, b: ServiceInfo): number {
  if (a.meta === b.meta) return a.hostname < b.hostname ? -1 : 1;
  return isOlder(a.meta, b.meta) ? -1 : 1;
}

/** An instance as it introduced itself. */
export interface Instance {
  readonly namespace: string;
  /** Of its pod. */
  readonly name: string;
  readonly node: string;
  readonly ips: readonly string[];
  readonly acceptsHttp10?: boolean;
  readonly idleTimeoutMs?: number | undefined;
  readonly mayHoldKeys?: boolean;
  readonly isEnvoy?: boolean;
}

/** Where an instance runs: its pod tells, where there is one. */
export function proxyFacts(world: WorldView, network: string, instance: Instance): ProxyFacts {
  const pod = world.get("Pod", instance.namespace, instance.name);
  const node = pod?.node || instance.node;
  const places: Labels = world.get("Node", "", node)?.meta.labels ?? new Map();
  const labels = pod?.meta.labels ?? new Map<string, string>();
  return {
    node,
    network: labels.get(networkLabel) ?? network,
    region: places.get(regionLabel) ?? "",
    zone: places.get(zoneLabel) ?? "",
    subzone: places.get(subzoneLabel) ?? "",
    labels,
    ips: instance.ips,
    acceptsHttp10: instance.acceptsHttp10 ?? false,
    idleTimeoutMs: instance.idleTimeoutMs,
    mayHoldKeys: instance.mayHoldKeys ?? false,
    isEnvoy: instance.isEnvoy ?? false,
  };
}

interface HostIndex {
  find(hostname: string, namespace: string): ServiceInfo | undefined;
}

const indexes = new WeakMap<Collected, HostIndex>();

function servicesByHost(collected: Collected): HostIndex {
  let index = indexes.get(collected);
  if (index === undefined) indexes.set(collected, (index = indexHosts(collected.services)));
  return index;
}

function indexHosts(services: readonly ServiceInfo[]): HostIndex {
  const byKey = new Map(services.map((service) => [service.key, service]));
  const canonical = new Map<string, ServiceInfo>();
  for (const service of services) {
    if (service.message.canonical === true) canonical.set(service.hostname, service);
  }
  return { find: (hostname, namespace) => byKey.get(`${namespace}/${hostname}`) ?? canonical.get(hostname) };
}
