/** Services of Kubernetes and hosts of ServiceEntries: one list, each with what workloads need to join it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  IPFamilies,
  Visibility,
  type AppProtocol,
  type NetworkAddressSchema,
  type ServiceSchema,
} from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Meta, Service, ServiceEntry } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { addressBytes, masked, rangeBytes } from "./address-bytes.ts";
import { ingressUseWaypointLabel, parseFlag } from "./annotations.ts";
import { wantsAutoVips, type AutoVips } from "./auto-vips.ts";
import { entryLoadBalancing, serviceLoadBalancing, type LoadBalancing } from "./load-balancing.ts";
import type { TranslateOptions } from "./options.ts";
import { appProtocol, entryProtocol, portProtocol, type PortProtocol } from "./protocol.ts";
import { missingWaypoint, requiresWaypoint } from "./required-waypoints.ts";
import { isOlder } from "./status.ts";
import { entryVisibility } from "./visibility.ts";
import type { Binding, Waypoints } from "./waypoints.ts";

export type ServiceInit = Exclude<MessageInitShape<typeof ServiceSchema>, { $typeName: string }>;

export interface PortInfo {
  readonly port: number;
  readonly name: string;
  /** 0: named, see `targetName`. */
  readonly targetPort: number;
  /** Name of a container's port; empty where the target is a number. */
  readonly targetName: string;
  readonly protocol: PortProtocol;
}

export interface ServiceInfo {
  /** `namespace/hostname`. */
  readonly key: string;
  readonly source: "Service" | "ServiceEntry";
  readonly meta: Meta;
  readonly hostname: string;
  /** Which workloads of its namespace belong to it; undefined or empty: none by labels. */
  readonly selector: Labels | undefined;
  readonly ports: readonly PortInfo[];
  readonly binding: Binding;
  /** Reached through its waypoint or not at all. */
  readonly requiresWaypoint: boolean;
  readonly visibility: Visibility;
  readonly message: ServiceInit;
}

/** What the derivation of services reads besides the objects. */
export interface ServiceContext {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  readonly network: string;
  readonly waypoints: Waypoints;
  readonly autoVips: AutoVips;
}

export const serviceHostname = (name: string, namespace: string, { domain }: TranslateOptions): string =>
  `${name}.${namespace}.svc.${domain}`;

/** All services that are published, after the rules for equal hostnames. */
export function collectServices(context: ServiceContext, entries: readonly ServiceEntry[]): readonly ServiceInfo[] {
  const byKey = new Map<string, ServiceInfo>();
  for (const service of context.world.all("Service")) {
    if (service.type === "ExternalName") continue;
    const info = fromService(context, service);
    byKey.set(info.key, info);
  }
  for (const entry of entries) {
    for (const info of fromServiceEntry(context, entry)) {
      const rival = byKey.get(info.key);
      // In one namespace a hostname means one thing: the Kubernetes Service, else the oldest entry.
      if (rival === undefined || (rival.source === "ServiceEntry" && isOlder(info.meta, rival.meta))) {
        byKey.set(info.key, info);
      }
    }
  }
  return markCanonical([...byKey.values()]);
}

/** Of services with one hostname in several namespaces, one is what the others mean by that name. */
function markCanonical(services: readonly ServiceInfo[]): readonly ServiceInfo[] {
  const chosen = new Map<string, ServiceInfo>();
  for (const service of services) {
    const rival = chosen.get(service.hostname);
    if (service.source === "ServiceEntry") {
      if (service.visibility !== Visibility.PUBLIC || rival?.source === "Service") continue;
      if (rival !== undefined && !isOlder(service.meta, rival.meta)) continue;
    }
    chosen.set(service.hostname, service);
  }
  return services.map((service) =>
    chosen.get(service.hostname) === service
      ? { ...service, message: { ...service.message, canonical: true } }
      : service,
  );
}

function fromService(context: ServiceContext, service: Service): ServiceInfo {
  const { world, options, network, waypoints } = context;
  const { meta } = service;
  const hostname = serviceHostname(meta.name, meta.namespace, options);
  const namespace = world.get("Namespace", "", meta.namespace)?.meta;
  const ports = service.ports.map((port): PortInfo => {
    const target = port.targetPort ?? 0;
    return {
      port: port.port,
      name: port.name,
      targetPort: typeof target === "string" ? 0 : target || port.port,
      targetName: typeof target === "string" ? target : "",
      protocol: portProtocol(port),
    };
  });
  const binding = waypoints.forService(meta);
  return {
    key: `${meta.namespace}/${hostname}`,
    source: "Service",
    meta,
    hostname,
    selector: service.selector,
    ports,
    binding,
    requiresWaypoint: requiresWaypoint(meta, namespace?.labels),
    visibility: Visibility.PUBLIC,
    message: {
      name: meta.name,
      namespace: meta.namespace,
      hostname,
      addresses: service.clusterIps
        .map(addressBytes)
        .filter((address) => address !== undefined)
        .map((address) => ({ network, address })),
      ports: portMessages(ports),
      ipFamilies: families(service.ipFamilies),
      ...balanced(serviceLoadBalancing(service, namespace?.annotations)),
      ...bound(binding, meta, namespace?.labels),
    },
  };
}

function fromServiceEntry(context: ServiceContext, entry: ServiceEntry): readonly ServiceInfo[] {
  const { world, waypoints } = context;
  const { meta } = entry;
  const namespace = world.get("Namespace", "", meta.namespace)?.meta;
  const visible = entryVisibility(world.meshConfig, namespace?.labels ?? new Map());
  if (visible === "NONE") return [];
  const visibility = visible === "PUBLIC" ? Visibility.PUBLIC : Visibility.NAMESPACE;
  const binding = withinNamespace(waypoints.forService(meta), meta, visibility);
  const ports = entry.ports.map(({ name, port, protocol, targetPort }) => ({
    port,
    name,
    targetPort: targetPort || port,
    targetName: "",
    protocol: entryProtocol(protocol),
  }));
  return [...new Set(entry.hosts)].map((hostname) => ({
    key: `${meta.namespace}/${hostname}`,
    source: "ServiceEntry" as const,
    meta,
    hostname,
    selector: entry.workloadSelector,
    ports,
    binding,
    requiresWaypoint: requiresWaypoint(meta, namespace?.labels),
    visibility,
    message: {
      name: meta.name,
      namespace: meta.namespace,
      hostname,
      addresses: entryAddresses(context, entry, hostname),
      ports: portMessages(ports),
      subjectAltNames: [...entry.subjectAltNames],
      visibility,
      ...balanced(entryLoadBalancing(entry, namespace?.annotations)),
      ...bound(binding, meta, namespace?.labels),
    },
  }));
}

/** What only its own namespace may see must not be shown to a waypoint elsewhere. */
function withinNamespace(binding: Binding, { namespace }: Meta, visibility: Visibility): Binding {
  if (visibility !== Visibility.NAMESPACE || binding.kind !== "bound") return binding;
  if (binding.waypoint.namespace === namespace) return binding;
  return {
    kind: "error",
    error: {
      reason: "CrossNamespaceWaypointForbidden",
      message: `waypoint "${binding.waypoint.key}" is in another namespace, but only namespace "${namespace}" may see this ServiceEntry`,
    },
  };
}

type NetworkAddressInit = MessageInitShape<typeof NetworkAddressSchema>;

function entryAddresses(
  { options, network, autoVips }: ServiceContext,
  entry: ServiceEntry,
  hostname: string,
): NetworkAddressInit[] {
  const written = wantsAutoVips(entry, options)
    ? (autoVips.get(`${entry.meta.namespace}/${entry.meta.name}`) ?? [])
        .filter(({ host }) => host === hostname)
        .map(({ value }) => value)
    : entry.addresses;
  return written
    .map(rangeBytes)
    .filter((range) => range !== undefined)
    .map((range) =>
      range.length === range.address.length * 8
        ? { network, address: range.address }
        : { network, address: masked(range), length: range.length },
    );
}

const portMessages = (
  ports: readonly PortInfo[],
): { servicePort: number; targetPort: number; appProtocol: AppProtocol }[] =>
  ports.map(({ port, targetPort, protocol }) => ({
    servicePort: port,
    targetPort,
    appProtocol: appProtocol(protocol),
  }));

function families(written: readonly string[]): IPFamilies {
  if (written.length === 0) return IPFamilies.AUTOMATIC;
  if (written.length > 1) return IPFamilies.DUAL;
  return written[0] === "IPv6" ? IPFamilies.IPV6_ONLY : IPFamilies.IPV4_ONLY;
}

const balanced = (loadBalancing: LoadBalancing | undefined): Pick<ServiceInit, "loadBalancing"> =>
  loadBalancing === undefined ? {} : { loadBalancing };

function bound(
  binding: Binding,
  meta: Meta,
  namespace: Labels | undefined,
): Pick<ServiceInit, "waypoint" | "ingressUseWaypoint" | "weightedWaypoints"> {
  if (binding.kind !== "bound" || binding.waypoint.address === undefined) {
    return requiresWaypoint(meta, namespace) ? { waypoint: missingWaypoint(meta.namespace) } : {};
  }
  const { waypoint, canary } = binding;
  return {
    waypoint: binding.waypoint.address,
    ingressUseWaypoint: usesWaypointFromIngress(meta.labels, namespace),
    ...(waypoint.address === undefined || canary?.waypoint.address === undefined
      ? {}
      : {
          weightedWaypoints: [
            { destination: waypoint.address, weight: 100 - canary.weight },
            { destination: canary.waypoint.address, weight: canary.weight },
          ],
        }),
  };
}

/** The service's own label decides, even where it is unreadable and so means no. */
export function usesWaypointFromIngress(labels: Labels, namespace: Labels | undefined): boolean {
  const text = labels.get(ingressUseWaypointLabel) ?? namespace?.get(ingressUseWaypointLabel);
  return parseFlag(text ?? "") ?? false;
}
