/**
 * The status of routes that are attached to services: whether the parent exists, and whether the route names backends
 * that can be used. What routes do is for waypoints; this is only what their authors are told.
 */
import { routeController, type BackendRef, type ParentRef, type Route } from "#controlplane/mesh/gateway-route.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { useWaypointLabel } from "./annotations.ts";
import { collectAttachments, routeKinds, type Attachments } from "./envoy/routes/attachments.ts";
import {
  backendFilterFault,
  filterFault,
  resolveBackend,
  type BackendContext,
  type BackendFault,
} from "./envoy/routes/backends.ts";
import { isElsewhere, waypointOf } from "./parent-waypoints.ts";
import type { RouteParentStatus, StatusCondition, StatusUpdate } from "./status.ts";

export interface RouteContext extends BackendContext {
  /** Whether a route is in force. */
  readonly isOurs: (meta: Meta) => boolean;
  /** Whether it is for us to write its status. */
  readonly isTold: (meta: Meta) => boolean;
}

/** Routes whose parents are Services or ServiceEntries, and those that were so when we last wrote. */
export function routeUpdates(context: RouteContext): readonly StatusUpdate[] {
  const attachments = collectAttachments(context.world, { isOurs: context.isOurs, domain: context.options.domain });
  return routeKinds.flatMap((kind) =>
    context.world.all(kind).flatMap((route) => {
      if (!context.isOurs(route.meta) || !context.isTold(route.meta)) return [];
      const parents = parentStatuses(context, attachments, route);
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

function parentStatuses(context: RouteContext, attachments: Attachments, route: Route): readonly RouteParentStatus[] {
  const seen = new Set<string>();
  return route.parents.flatMap((parent) => {
    const key = JSON.stringify(parent.written);
    const found = seen.has(key) ? undefined : judge(context, attachments, route, parent);
    seen.add(key);
    return found === undefined ? [] : [found];
  });
}

/** undefined where the parent is none of ours. */
function judge(
  context: RouteContext,
  attachments: Attachments,
  route: Route,
  parent: ParentRef,
): RouteParentStatus | undefined {
  const attachment = attachments.of(route, parent);
  if (attachment === undefined) return undefined;
  const { world } = context;
  const target = attachment.parent?.meta;
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
      attachment.kind === "refused"
        ? {
            type: "Accepted",
            status: "False",
            reason: attachment.reason,
            message: attachment.message,
            observedGeneration,
          }
        : { type: "Accepted", status: "True", reason: "Accepted", message: "Route was valid", observedGeneration },
      { ...resolvedRefs(context, route), observedGeneration },
      resolved(waypointMessage(world, target, route)),
      ...partiallyInvalid(route).map((condition) => ({ ...condition, observedGeneration })),
    ],
  };
}

/** How the message of `ResolvedWaypoints` ends where no waypoint applies the route. */
export const ignoredEnding = "ignores the route";

function waypointMessage(world: WorldView, target: Meta | undefined, { kind, meta: { namespace } }: Route): string {
  if (target === undefined) return "The parent was not found, and so no waypoint either";
  const inherited = world.get("Namespace", "", target.namespace)?.meta.labels;
  if (!target.labels.has(useWaypointLabel) && inherited?.has(useWaypointLabel) !== true) {
    return `Neither the parent nor its namespace has the label ${useWaypointLabel}: the ambient mesh ${ignoredEnding}`;
  }
  const waypoint = waypointOf(world, target);
  if (namespace === target.namespace || waypoint === undefined || waypoint.meta.namespace === namespace) {
    return "All waypoints resolved";
  }
  return kind === "HTTPRoute" || kind === "GRPCRoute"
    ? `All waypoints resolved: for callers of namespace "${namespace}" the route takes the place of others`
    : `The waypoint applies ${kind}s of namespace "${target.namespace}" and of its own, "${waypoint.meta.namespace}", not of "${namespace}": it ${ignoredEnding}`;
}

/** The first fault that no backend can mend, else the last one. */
function resolvedRefs(context: RouteContext, route: Route): StatusCondition {
  const faults = route.rules.flatMap((rule) => [
    ...rule.filters.map(filterFault),
    ...rule.filters.map((filter) =>
      filter.type === "RequestMirror" ? backendFault(context, route, filter.backend) : undefined,
    ),
    // A backend without weight is never asked.
    ...rule.backends
      .filter(({ weight }) => weight > 0)
      .flatMap((ref) => [backendFault(context, route, ref), ...ref.filters.map(backendFilterFault)]),
  ]);
  const written = faults.filter((fault) => fault !== undefined);
  const fault =
    written.find(({ reason }) => reason === "InvalidDestination" || reason === "InvalidFilter") ?? written.at(-1);
  return fault === undefined
    ? { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: "All references resolved" }
    : { type: "ResolvedRefs", status: "False", reason: fault.reason, message: fault.message };
}

function backendFault(context: RouteContext, route: Route, ref: BackendRef): BackendFault | undefined {
  const backend = resolveBackend(context, route, ref);
  return backend.kind === "fault" ? backend.fault : undefined;
}

/** Said only where a rule does less than it says. */
function partiallyInvalid(route: Route): readonly StatusCondition[] {
  const messages = [...hiddenMatches(route), ...missingSessions(route)];
  if (messages.length === 0) return [];
  return [{ type: "PartiallyInvalid", status: "True", reason: "UnsupportedValue", message: messages.join("; ") }];
}

/** A prefix goes before any regular expression, and the shortest prefix takes every request. */
function hiddenMatches({ rules }: Route): readonly string[] {
  const matches = rules.flatMap((rule, index) =>
    rule.matches.map((match, of) => ({ ...match, at: `rules[${index}].matches[${of}]` })),
  );
  const takesAll =
    rules.some((rule) => rule.matches.length === 0) ||
    matches.some(
      ({ path, grpc, method, headers, queryParams }) =>
        (path === undefined || (path.type === "PathPrefix" && path.value === "/")) &&
        grpc === undefined &&
        method === undefined &&
        headers.length + queryParams.length === 0,
    );
  const hidden = takesAll ? matches.filter(({ path }) => path?.type === "RegularExpression").map(({ at }) => at) : [];
  return hidden.length === 0
    ? []
    : [
        `Dropped Rule: ${hidden.join(", ")} is never reached, for prefixes go before regular expressions, and "/" takes all`,
      ];
}

function missingSessions({ rules }: Route): readonly string[] {
  const missing = rules.flatMap(({ hasSessionPersistence }, index) =>
    hasSessionPersistence ? [`rules[${index}].sessionPersistence`] : [],
  );
  return missing.length === 0
    ? []
    : [
        `Fall Back: ${missing.join(", ")} is not supported, requests of a session go to any backend: use consistentHash of a DestinationRule`,
      ];
}
