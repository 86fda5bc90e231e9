/**
 * Which RateLimitPolicies count on a chain, and which of their limits. All that are attached do, from the class of the
 * waypoint down to one rule of a route; only a limit of the same name gives way, the broader one to the narrower, unless
 * the broader one overrides.
 */
import type { Limit, RateLimitBody } from "#controlplane/mesh/rate-limit-policy.ts";
import type { SectionTarget } from "#controlplane/mesh/section-target.ts";
import type { RateLimitPolicy } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { controllerOfClass, meshController } from "#controlplane/translate/gateway-classes.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { isOlder } from "#controlplane/translate/status.ts";
import type { EnvoyContext } from "../context.ts";

/** From broad to narrow. */
type Level = 0 | 1 | 2 | 3 | 4;

/** A limit that counts, and where it does not. */
export interface LimitInForce {
  readonly limit: Limit;
  /** Routes with a limit of that name of their own; empty: none. */
  readonly exceptRoutes: readonly string[];
}

export interface PolicyInForce {
  readonly policy: RateLimitPolicy;
  readonly body: RateLimitBody;
  /** Empty: every request. */
  readonly routes: readonly string[];
  readonly limits: readonly LimitInForce[];
}

interface Attachment {
  readonly policy: RateLimitPolicy;
  readonly level: Level;
  readonly routes: readonly string[];
}

/** Broad ones first; of one level, old ones first. */
export function policiesInForce(context: EnvoyContext, service: ServiceInfo | undefined): readonly PolicyInForce[] {
  const refused = conflicts(context.world, context.options);
  const attachments = context.world
    .all("RateLimitPolicy")
    .filter((policy) => isOfRevision(policy.meta, context.options) && !refused.has(keyOf(policy)))
    .flatMap((policy) => attachmentsOf(context, service, policy))
    .sort((a, b) => a.level - b.level || (isOlder(a.policy.meta, b.policy.meta) ? -1 : 1));
  return attachments.flatMap((each) => {
    const limits = limitsOf(each, attachments);
    return limits.length === 0 ? [] : [{ policy: each.policy, body: each.policy.body, routes: each.routes, limits }];
  });
}

export const keyOf = ({ meta }: RateLimitPolicy): string => `${meta.namespace}/${meta.name}`;

/** What is left of its limits beside narrower and broader policies. */
function limitsOf(own: Attachment, all: readonly Attachment[]): readonly LimitInForce[] {
  const broader = all.filter((other) => isBroader(other, own));
  const narrower = all.filter((other) => isBroader(own, other));
  if (broader.some(({ policy }) => policy.precedence === "overrides" && policy.isAtomic)) return [];
  const wins = own.policy.precedence === "overrides";
  const loses = own.policy.precedence === "defaults" && own.policy.isAtomic;
  const everywhere = narrower.filter(({ routes }) => routes.length === 0);
  if (loses && everywhere.length > 0) return [];
  return own.policy.body.limits.flatMap((limit): readonly LimitInForce[] => {
    const hasIt = ({ policy }: Attachment): boolean => policy.body.limits.some(({ name }) => name === limit.name);
    if (broader.some((other) => other.policy.precedence === "overrides" && hasIt(other))) return [];
    if (wins) return [{ limit, exceptRoutes: [] }];
    if (everywhere.some(hasIt)) return [];
    const replacing = narrower.filter((other) => other.routes.length > 0 && (loses || hasIt(other)));
    return [{ limit, exceptRoutes: replacing.flatMap(({ routes }) => routes) }];
  });
}

const isBroader = (a: Attachment, b: Attachment): boolean => a.level < b.level && a.policy !== b.policy;

function attachmentsOf(
  context: EnvoyContext,
  service: ServiceInfo | undefined,
  policy: RateLimitPolicy,
): readonly Attachment[] {
  let best: Level | undefined;
  const routes = new Map<Level, string[]>();
  for (const target of policy.targets) {
    const level = levelOf(context, service, policy, target);
    if (level === undefined) continue;
    if (level < 3) best = best === undefined || level > best ? level : best;
    else routes.set(level, [...(routes.get(level) ?? []), routeName(policy, target)]);
  }
  // What holds for the whole chain holds for its routes, and what holds for a route for its rules: nothing counts twice.
  if (best !== undefined) return [{ policy, level: best, routes: [] }];
  const whole = new Set(routes.get(3));
  const rules = (routes.get(4) ?? []).filter((name) => !whole.has(name.slice(0, name.indexOf("#"))));
  if (rules.length > 0) routes.set(4, rules);
  else routes.delete(4);
  return [...routes].map(([level, names]) => ({ policy, level, routes: names }));
}

/** Undefined where it does not concern this chain. A policy speaks for its own namespace only. */
function levelOf(
  { world, meshConfig, waypoint }: EnvoyContext,
  service: ServiceInfo | undefined,
  { meta: { namespace } }: RateLimitPolicy,
  { kind, name, sectionName }: SectionTarget,
): Level | undefined {
  switch (kind) {
    case "GatewayClass":
      return namespace === meshConfig.rootNamespace &&
        controllerOfClass(world, name) === meshController &&
        world.get("Gateway", waypoint.namespace, waypoint.name)?.className === name
        ? 0
        : undefined;
    case "Gateway":
      return namespace === waypoint.namespace && name === waypoint.name ? 1 : undefined;
    case "Service":
    case "ServiceEntry":
      return service?.source === kind && service.meta.namespace === namespace && service.meta.name === name
        ? 2
        : undefined;
    case "HTTPRoute":
    case "GRPCRoute":
      if (service === undefined || world.get(kind, namespace, name) === undefined) return undefined;
      return sectionName === undefined ? 3 : 4;
    default:
      return undefined;
  }
}

/** As routes name their object, and where one rule is meant, themselves. */
function routeName({ meta: { namespace } }: RateLimitPolicy, { kind, name, sectionName }: SectionTarget): string {
  const path = kind === "HTTPRoute" ? "http-route" : "grpc-route";
  const object = `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/${path}/${name}`;
  return sectionName === undefined ? object : `${object}#${namespace}.${name}.${sectionName}`;
}

/**
 * Policies that cannot take force beside an older one: same target, same name of a limit. Why, by `namespace/name`.
 */
export function conflicts(world: WorldView, options: Pick<TranslateOptions, "revision">): ReadonlyMap<string, string> {
  const refused = new Map<string, string>();
  const taken = new Map<string, string>();
  const oldestFirst = world
    .all("RateLimitPolicy")
    .filter(({ meta }) => isOfRevision(meta, options))
    .toSorted((a, b) => (isOlder(a.meta, b.meta) ? -1 : 1));
  for (const policy of oldestFirst) {
    const places = policy.targets.flatMap(({ kind, name, sectionName }) =>
      policy.body.limits.map((limit) => ({
        place: `${kind} ${policy.meta.namespace}/${name} ${sectionName ?? ""} ${limit.name}`,
        limit: limit.name,
        target: `${kind} "${name}"`,
      })),
    );
    const rival = places.find(({ place }) => taken.has(place));
    if (rival !== undefined) {
      refused.set(
        keyOf(policy),
        `limit "${rival.limit}" on ${rival.target} is in RateLimitPolicy "${taken.get(rival.place) ?? ""}" already: rename one of them`,
      );
      continue;
    }
    for (const { place } of places) taken.set(place, policy.meta.name);
  }
  return refused;
}
