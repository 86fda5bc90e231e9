/** Which route objects hold for a port of a service, in the order in which they are asked. */
import type { Route, RouteKind } from "#controlplane/mesh/gateway-route.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { VirtualService } from "#controlplane/mesh/virtual-service.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { EnvoyContext } from "../context.ts";
import { fullHost, hostCovers, isWildcardHost } from "../hosts.ts";
import { byAge, collectAttachments, parentKey, type Attachments } from "./attachments.ts";
import { isExportedTo } from "./exported.ts";

/** Routes of Gateway API for one service count together, as one object as old as the oldest of them. */
export type RouteObject =
  | { readonly kind: "virtual-service"; readonly meta: Meta; readonly virtualService: VirtualService }
  | { readonly kind: "routes"; readonly meta: Meta; readonly routes: readonly Route[] };

/** Who routes: a waypoint for everybody who calls a service, or a client for itself. */
export type Perspective = "waypoint" | "client";

export interface Selection {
  readonly service: ServiceInfo;
  readonly port: number;
  readonly kinds: readonly RouteKind[];
  readonly perspective: Perspective;
}

export function routeObjects(context: EnvoyContext, selection: Selection): readonly RouteObject[] {
  const { service, perspective } = selection;
  const own = context.waypoint.namespace;
  const virtualServices = indexOf(context.collected)
    .virtualServicesFor(service.hostname)
    .filter((each) => isExportedTo(own, each, context.meshConfig.defaultVirtualServiceExportTo));
  const groups = attachedByNamespace(context, selection);
  if (perspective === "client") return clientChoice(context, service, virtualServices, groups);
  const namespaces = [...new Set([service.meta.namespace, own])];
  return [
    ...virtualServices.filter(({ meta }) => namespaces.includes(meta.namespace)).map(ofVirtualService),
    ...namespaces.flatMap((namespace) => ofRoutes(groups.get(namespace))),
  ].sort(byAge);
}

/** Routes of a namespace for a service of another one: they hold for the callers of their own namespace. */
export interface ConsumerRoutes {
  readonly namespace: string;
  /** Of one kind, the oldest first. */
  readonly routes: readonly Route[];
}

/**
 * What a waypoint does for callers of some namespaces alone, in place of what {@link routeObjects} says. Routes of the
 * waypoint's own namespace are for everybody.
 */
export function consumerRoutes(context: EnvoyContext, selection: Selection): readonly ConsumerRoutes[] {
  const groups = attachedByNamespace(context, selection);
  for (const namespace of [selection.service.meta.namespace, context.waypoint.namespace]) groups.delete(namespace);
  return [...groups]
    .map(([namespace, routes]) => ({ namespace, routes }))
    .sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
}

function attachedByNamespace({ collected }: EnvoyContext, { service, port, kinds }: Selection): Map<string, Route[]> {
  const attached = indexOf(collected)
    .attachments.to(parentKey(service.source, service.meta.namespace, service.meta.name))
    .filter((each) => kinds.includes(each.route.kind) && (each.port === undefined || each.port === port))
    .map(({ route }) => route);
  // Two references of one route to one service may both hold for the port.
  return Map.groupBy(new Set(attached), ({ meta }) => meta.namespace);
}

const ofVirtualService = (virtualService: VirtualService): RouteObject => ({
  kind: "virtual-service",
  meta: virtualService.meta,
  virtualService,
});

function ofRoutes(routes: readonly Route[] | undefined): readonly RouteObject[] {
  const [oldest] = routes ?? [];
  return routes === undefined || oldest === undefined ? [] : [{ kind: "routes", meta: oldest.meta, routes }];
}

/**
 * For a client one object counts: the oldest of those that name the service most closely. Routes of the client's own
 * namespace take the place of those of the service's.
 */
function clientChoice(
  { waypoint, options }: EnvoyContext,
  service: ServiceInfo,
  virtualServices: readonly VirtualService[],
  groups: ReadonlyMap<string, readonly Route[]>,
): readonly RouteObject[] {
  const closeness = ({ hosts, meta }: VirtualService): number =>
    Math.max(
      ...hosts.map((written) => {
        const host = fullHost(written, meta.namespace, options.domain);
        if (host === service.hostname) return Number.POSITIVE_INFINITY;
        return hostCovers(host, service.hostname) ? host.length : 0;
      }),
    );
  const routes = ofRoutes(groups.get(waypoint.namespace) ?? groups.get(service.meta.namespace));
  const ranked = [
    ...virtualServices.map((each) => ({ object: ofVirtualService(each), rank: closeness(each) })),
    ...routes.map((object) => ({ object, rank: Number.POSITIVE_INFINITY })),
  ];
  const closest = Math.max(...ranked.map(({ rank }) => rank));
  return ranked
    .filter(({ rank }) => rank === closest)
    .map(({ object }) => object)
    .sort(byAge)
    .slice(0, 1);
}

/** The VirtualService that a root may hand on to: one without hosts, for the eyes of the root's namespace. */
export function findDelegate(context: EnvoyContext, reader: string, namespace: string, name: string) {
  const found = context.world.get("VirtualService", namespace, name);
  if (found === undefined || found.hosts.length > 0 || !isOfRevision(found.meta, context.options)) return undefined;
  return isExportedTo(reader, found, context.meshConfig.defaultVirtualServiceExportTo) ? found : undefined;
}

interface Index {
  readonly attachments: Attachments;
  virtualServicesFor(hostname: string): readonly VirtualService[];
}

const indexes = new WeakMap<Collected, Index>();

function indexOf(collected: Collected): Index {
  let index = indexes.get(collected);
  if (index === undefined) indexes.set(collected, (index = makeIndex(collected)));
  return index;
}

function makeIndex({ world, options }: Collected): Index {
  const exact = new Map<string, VirtualService[]>();
  const wide: { readonly host: string; readonly virtualService: VirtualService }[] = [];
  for (const virtualService of world.all("VirtualService")) {
    const { meta, hosts, gateways } = virtualService;
    if (!isOfRevision(meta, options) || !gateways.includes("mesh")) continue;
    for (const written of hosts) {
      const host = fullHost(written, meta.namespace, options.domain);
      if (isWildcardHost(host)) wide.push({ host, virtualService });
      else exact.set(host, [...(exact.get(host) ?? []), virtualService]);
    }
  }
  return {
    attachments: collectAttachments(world, {
      isOurs: (meta) => isOfRevision(meta, options),
      domain: options.domain,
    }),
    // What is for one name of an entry with a star would be for all of them.
    virtualServicesFor: (hostname) => {
      const covering = wide.filter(({ host }) => hostCovers(host, hostname));
      return [...new Set([...(exact.get(hostname) ?? []), ...covering.map(({ virtualService }) => virtualService)])];
    },
  };
}
