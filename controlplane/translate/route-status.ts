/**
 * The status of routes that are attached to services: whether the parent exists, and whether the route names backends
 * that can be used. What routes do is for waypoints; this is only what their authors are told.
 */
import {
  routeController,
  type BackendRef,
  type ParentRef,
  type Route,
  type RouteFilter,
  type RouteKind,
  type RouteRule,
} from "#controlplane/mesh/gateway-route.ts";
import type { Gateway, Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { useWaypointLabel } from "./annotations.ts";
import { controllerOf, isOurController } from "./gateway-classes.ts";
import type { RouteParentStatus, StatusCondition, StatusUpdate } from "./status.ts";
import { requestedWaypoint } from "./waypoints.ts";

const kinds: readonly RouteKind[] = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute"];

export interface RouteContext {
  readonly world: WorldView;
  readonly isOurs: (meta: Meta) => boolean;
  /** Whether a service of this name is published. */
  readonly hasHost: (hostname: string) => boolean;
}

/** Routes whose parents are Services or ServiceEntries, and those that were so when we last wrote. */
export function routeUpdates(context: RouteContext): readonly StatusUpdate[] {
  return kinds.flatMap((kind) =>
    context.world.all(kind).flatMap((route) => {
      if (!context.isOurs(route.meta)) return [];
      const parents = parentStatuses(context, route);
      if (parents.length === 0 && !route.hasServiceParentStatus) return [];
      const { namespace, name } = route.meta;
      return [
        {
          apiVersion: route.apiVersion,
          kind,
          namespace,
          name,
          fieldManager: routeController,
          ownedConditions: [],
          status: { parents },
        },
      ];
    }),
  );
}

function parentStatuses(context: RouteContext, route: Route): readonly RouteParentStatus[] {
  const seen = new Set<string>();
  return route.parents.flatMap((parent) => {
    const key = JSON.stringify(parent.written);
    const found = seen.has(key) ? undefined : judge(context, route, parent);
    seen.add(key);
    return found === undefined ? [] : [found];
  });
}

/** undefined where the parent is none of ours. */
function judge(context: RouteContext, route: Route, parent: ParentRef): RouteParentStatus | undefined {
  const kind = serviceKind(parent);
  if (kind === undefined) return undefined;
  const { world } = context;
  const namespace = parent.namespace || route.meta.namespace;
  const target = world.get(kind, namespace, parent.name)?.meta;
  if (target !== undefined && isElsewhere(world, target)) return undefined;
  const observedGeneration = route.meta.generation;
  const resolved = (message: string): StatusCondition => ({
    type: "ResolvedWaypoints",
    status: "True",
    reason: "ResolvedWaypoints",
    message,
    observedGeneration,
  });
  return {
    parentRef: parent.written,
    controllerName: routeController,
    conditions: [
      target === undefined
        ? {
            type: "Accepted",
            status: "False",
            reason: "NoMatchingParent",
            message: `parent ${kind} "${namespace}/${parent.name}" not found`,
            observedGeneration,
          }
        : { type: "Accepted", status: "True", reason: "Accepted", message: "Route was valid", observedGeneration },
      { ...resolvedRefs(context, route), observedGeneration },
      resolved(waypointMessage(world, target)),
    ],
  };
}

/** Which mesh parent a reference means, if any. */
function serviceKind({ group, kind }: { readonly group: string; readonly kind: string }) {
  if (group === "" && kind === "Service") return "Service";
  return group === "networking.istio.io" && kind === "ServiceEntry" ? "ServiceEntry" : undefined;
}

/** The waypoint is of another maker's class: its controller judges the route. */
function isElsewhere(world: WorldView, target: Meta): boolean {
  const gateway = waypointOf(world, target);
  return gateway !== undefined && !isOurController(controllerOf(world, gateway));
}

function waypointOf(world: WorldView, { labels, namespace }: Meta): Gateway | undefined {
  const inherited = world.get("Namespace", "", namespace)?.meta.labels;
  const wanted = requestedWaypoint(labels, namespace) ?? requestedWaypoint(inherited ?? new Map(), namespace);
  return wanted === undefined || wanted === "none" ? undefined : world.get("Gateway", wanted.namespace, wanted.name);
}

function waypointMessage(world: WorldView, target: Meta | undefined): string {
  if (target === undefined) return "The parent was not found, and so no waypoint either";
  const inherited = world.get("Namespace", "", target.namespace)?.meta.labels;
  return target.labels.has(useWaypointLabel) || inherited?.has(useWaypointLabel) === true
    ? "All waypoints resolved"
    : `Neither the parent nor its namespace has the label ${useWaypointLabel}: the ambient mesh ignores the route`;
}

interface Fault {
  readonly reason: "InvalidDestination" | "InvalidFilter" | "InvalidKind" | "BackendNotFound";
  readonly message: string;
  /** Nothing of the route is used. Otherwise only this backend fails. */
  readonly isFatal: boolean;
}

/** The first fault that spoils the route, else the last one that does not. */
function resolvedRefs(context: RouteContext, { meta, rules }: Route): StatusCondition {
  let fault: Fault | undefined;
  for (const rule of rules) {
    const faults = [
      ...rule.filters.map(filterFault),
      ...mirrorsOf(rule).map((ref) => backendFault(context, ref, meta.namespace)),
      // A backend without weight is never asked.
      ...rule.backends
        .filter(({ weight }) => weight > 0)
        .flatMap((ref) => [backendFault(context, ref, meta.namespace), ...ref.filters.map(backendFilterFault)]),
    ];
    const found = faults.find((each) => each?.isFatal === true) ?? faults.findLast((each) => each !== undefined);
    fault = found ?? fault;
    if (fault?.isFatal === true) break;
  }
  return fault === undefined
    ? { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: "All references resolved" }
    : { type: "ResolvedRefs", status: "False", reason: fault.reason, message: fault.message };
}

const unsupported = (filter: string): Fault => ({
  reason: "InvalidFilter",
  message: `unsupported filter type "${filter}"`,
  isFatal: true,
});

const filterFault = (filter: RouteFilter): Fault | undefined =>
  filter.type === "unsupported" ? unsupported(filter.name) : undefined;

const backendFilterFault = (filter: RouteFilter): Fault | undefined =>
  filter.type === "RequestHeaderModifier" || filter.type === "ResponseHeaderModifier"
    ? undefined
    : unsupported(filter.type === "unsupported" ? filter.name : filter.type);

const mirrorsOf = ({ filters }: RouteRule): readonly BackendRef[] =>
  filters.flatMap((filter) => (filter.type === "RequestMirror" ? [filter.backend] : []));

function backendFault({ world, hasHost }: RouteContext, ref: BackendRef, own: string): Fault | undefined {
  const { group, kind, name, namespace, port } = ref;
  const invalid = (message: string): Fault => ({ reason: "InvalidDestination", message, isFatal: true });
  const missing = (what: string): Fault => ({
    reason: "BackendNotFound",
    message: `${what} not found`,
    isFatal: false,
  });
  if (group === "" && kind === "Service") {
    if (port === undefined) return invalid(`backend "${name}" has no port`);
    if (name.includes(".")) return invalid(`backend "${name}" is a hostname: write the name of the Service`);
    const where = namespace || own;
    return world.get("Service", where, name) === undefined ? missing(`backend Service "${where}/${name}"`) : undefined;
  }
  if (group === "networking.istio.io" && kind === "Hostname") {
    if (port === undefined) return invalid(`backend "${name}" has no port`);
    if (namespace !== "") return invalid(`backend "${name}" is a hostname, which has no namespace`);
    return hasHost(name) ? undefined : missing(`backend "${name}"`);
  }
  return { reason: "InvalidKind", message: `a backend cannot be a ${kind} of group "${group}"`, isFatal: false };
}
