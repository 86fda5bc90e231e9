/** Which route objects hold for a port of a service at a waypoint, in the order in which they are asked. */
import type { Route, RouteKind } from "#controlplane/mesh/gateway-route.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { VirtualService } from "#controlplane/mesh/virtual-service.ts";
import { revisionLabel } from "#controlplane/translate/annotations.ts";
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

export function routeObjects(
  context: EnvoyContext,
  service: ServiceInfo,
  port: number,
  kinds: readonly RouteKind[],
): readonly RouteObject[] {
  const index = indexOf(context.collected);
  const namespaces = new Set([service.meta.namespace, context.waypoint.namespace]);
  const virtualServices = index
    .virtualServicesFor(service.hostname)
    .filter(
      (each) =>
        namespaces.has(each.meta.namespace) &&
        isExportedTo(context.waypoint.namespace, each, context.meshConfig.defaultVirtualServiceExportTo),
    )
    .map((virtualService) => ({ kind: "virtual-service" as const, meta: virtualService.meta, virtualService }));
  const routes = index.attachments
    .to(parentKey(service.source, service.meta.namespace, service.meta.name))
    .filter((each) => each.port === undefined || each.port === port)
    .map(({ route }) => route)
    .filter(({ kind, meta }) => kinds.includes(kind) && namespaces.has(meta.namespace));
  // Two references of one route to one service may both hold for the port.
  const groups = [...Map.groupBy(new Set(routes), ({ meta }) => meta.namespace).values()].flatMap((group) => {
    const [oldest] = group;
    return oldest === undefined ? [] : [{ kind: "routes" as const, meta: oldest.meta, routes: group }];
  });
  return [...virtualServices, ...groups].sort(byAge);
}

/** The VirtualService that a root may hand on to: one without hosts, for the eyes of the root's namespace. */
export function findDelegate(context: EnvoyContext, reader: string, namespace: string, name: string) {
  const found = context.world.get("VirtualService", namespace, name);
  if (found === undefined || found.hosts.length > 0 || !isOurs(found.meta, context.options.revision)) return undefined;
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

/** An object that names a revision belongs to the control plane of that revision only. */
function isOurs({ labels }: Meta, revision: string): boolean {
  const wanted = labels.get(revisionLabel);
  return wanted === undefined || revision === "" || wanted === revision;
}

function makeIndex({ world, options }: Collected): Index {
  const exact = new Map<string, VirtualService[]>();
  const wide: { readonly host: string; readonly virtualService: VirtualService }[] = [];
  for (const virtualService of world.all("VirtualService")) {
    const { meta, hosts, gateways } = virtualService;
    if (!isOurs(meta, options.revision) || !gateways.includes("mesh")) continue;
    for (const written of hosts) {
      const host = fullHost(written, meta.namespace, options.domain);
      if (isWildcardHost(host)) wide.push({ host, virtualService });
      else exact.set(host, [...(exact.get(host) ?? []), virtualService]);
    }
  }
  return {
    attachments: collectAttachments(world, {
      isOurs: (meta) => isOurs(meta, options.revision),
      domain: options.domain,
    }),
    virtualServicesFor: (hostname) => {
      const named = isWildcardHost(hostname)
        ? [...exact].flatMap(([host, each]) => (hostCovers(hostname, host) ? each : []))
        : (exact.get(hostname) ?? []);
      const covering = wide.filter(({ host }) => hostCovers(host, hostname) || hostCovers(hostname, host));
      return [...new Set([...named, ...covering.map(({ virtualService }) => virtualService)])];
    },
  };
}
