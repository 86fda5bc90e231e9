/**
 * Conditions `Accepted` and `Programmed` of RateLimitPolicies, and `ResolvedRefs` of those that name a rate limit service;
 * and which waypoints have to take them before they are enforced.
 */
import type { RateLimitPolicy } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { acceptedBy, resolveTarget, type ServicesByName, type Target } from "./conditions.ts";
import { conflicts, keyOf } from "./envoy/rate-limits/in-force.ts";
import type { TranslateOptions } from "./options.ts";
import { isOfRevision } from "./revision.ts";
import type { StatusCondition, StatusUpdate } from "./status.ts";
import type { Waypoint, Waypoints } from "./waypoints.ts";

export function rateLimitUpdates(
  world: WorldView,
  options: TranslateOptions,
  waypoints: Waypoints,
  services: ServicesByName,
): readonly StatusUpdate[] {
  const policies = world.all("RateLimitPolicy").filter(({ meta }) => isOfRevision(meta, options));
  if (policies.length === 0) return [];
  const refused = conflicts(world, options);
  return policies.map((policy) => {
    const condition = accepted(world, policy, refused.get(keyOf(policy)), waypoints, services);
    const bound = condition.status === "True" ? enforcers(world, policy, waypoints, services) : [];
    return {
      apiVersion: "policy.ambit.dev/v1alpha1",
      kind: "RateLimitPolicy",
      namespace: policy.meta.namespace,
      name: policy.meta.name,
      fieldManager: "ambit-rate-limit-policy",
      ownedConditions: ["Accepted", "ResolvedRefs", "Programmed", "Enforced"],
      enforcedBy: bound.map(({ key, readyReplicas }) => ({ waypoint: key, readyReplicas })),
      status: { conditions: [condition, programmed(condition, bound), ...resolved(policy, services)] },
    };
  });
}

function programmed(
  { status, reason, message, observedGeneration }: StatusCondition,
  bound: readonly Waypoint[],
): StatusCondition {
  const base = { type: "Programmed", ...(observedGeneration === undefined ? {} : { observedGeneration }) };
  if (status !== "True") return { ...base, status: "False", reason, message };
  const names = bound.map(({ key }) => key).join(", ");
  return bound.length === 0
    ? { ...base, status: "False", reason: "NoWaypoint", message: "There is no waypoint that could enforce it" }
    : { ...base, status: "True", reason: "Programmed", message: `In the configuration of ${names}` };
}

/** Each once, by name. */
function enforcers(
  world: WorldView,
  { meta: { namespace }, targets }: RateLimitPolicy,
  waypoints: Waypoints,
  services: ServicesByName,
): readonly Waypoint[] {
  const found = new Map<string, Waypoint>();
  const add = (waypoint: Waypoint | undefined): void => {
    if (waypoint !== undefined) found.set(waypoint.key, waypoint);
  };
  const addOf = (key: string): void => {
    const binding = services.get(key)?.binding;
    if (binding?.kind !== "bound") return;
    add(binding.waypoint);
    add(binding.canary?.waypoint);
  };
  for (const { kind, name } of targets) {
    switch (kind) {
      case "GatewayClass":
        for (const each of waypoints.all) {
          if (world.get("Gateway", each.namespace, each.name)?.className === name) add(each);
        }
        break;
      case "Gateway":
        add(waypoints.get(namespace, name));
        break;
      case "HTTPRoute":
      case "GRPCRoute":
        for (const parent of world.get(kind, namespace, name)?.parents ?? []) {
          addOf(`${parent.kind}/${parent.namespace || namespace}/${parent.name}`);
        }
        break;
      default:
        addOf(`${kind}/${namespace}/${name}`);
    }
  }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function accepted(
  world: WorldView,
  policy: RateLimitPolicy,
  conflict: string | undefined,
  waypoints: Waypoints,
  services: ServicesByName,
): StatusCondition {
  const base = { type: "Accepted", observedGeneration: policy.meta.generation };
  if (conflict !== undefined) return { ...base, status: "False", reason: "Conflicted", message: conflict };
  const targets = policy.targets.map((target): Target => {
    if (target.kind !== "HTTPRoute" && target.kind !== "GRPCRoute") {
      return unsupportedWithout(resolveTarget(world, policy.meta, target, waypoints, services));
    }
    return unsupportedWithout(routeTarget(world, policy, { ...target, kind: target.kind }, services));
  });
  return acceptedBy(targets, base);
}

/** Before a service without a waypoint there is ztunnel alone, which knows no requests. */
const unsupportedWithout = (target: Target): Target =>
  target.reason === "AncestorNotBound"
    ? { ...target, reason: "UnsupportedValue", message: `${target.message}: ztunnel cannot count requests` }
    : target;

function routeTarget(
  world: WorldView,
  { meta }: RateLimitPolicy,
  {
    kind,
    name,
    sectionName,
  }: { readonly kind: "HTTPRoute" | "GRPCRoute"; readonly name: string; readonly sectionName: string | undefined },
  services: ServicesByName,
): Target {
  const what = `${kind} ${meta.namespace}/${name}`;
  const route = world.get(kind, meta.namespace, name);
  if (route === undefined) return { isBound: false, reason: "TargetNotFound", message: `${what} was not found` };
  if (sectionName !== undefined && !route.rules.some((rule) => rule.name === sectionName)) {
    return { isBound: false, reason: "TargetNotFound", message: `${what} has no rule named "${sectionName}"` };
  }
  const isServed = route.parents.some((parent) => {
    const service = services.get(`${parent.kind}/${parent.namespace || meta.namespace}/${parent.name}`);
    return service?.binding.kind === "bound";
  });
  return isServed
    ? { isBound: true, reason: "Accepted", message: `bound to ${what}` }
    : { isBound: false, reason: "AncestorNotBound", message: `${what} has no parent that is bound to a waypoint` };
}

function resolved({ meta, body: { service } }: RateLimitPolicy, services: ServicesByName): readonly StatusCondition[] {
  if (service === undefined) return [];
  const namespace = service.namespace || meta.namespace;
  const found = services.get(`Service/${namespace}/${service.name}`);
  const hasPort = found?.ports.some(({ port }) => port === service.port) === true;
  const base = { type: "ResolvedRefs", observedGeneration: meta.generation };
  if (hasPort) {
    return [{ ...base, status: "True", reason: "ResolvedRefs", message: "The rate limit service was found" }];
  }
  const what = `service "${namespace}/${service.name}"`;
  return [
    {
      ...base,
      status: "False",
      reason: "ServiceNotFound",
      message: `${found === undefined ? `${what} was not found` : `${what} has no port ${service.port}`}: requests get what onError says`,
    },
  ];
}
