/** What is said of the policies that waypoints enforce: where they are in force, and what of them is not. */
import type { AuthorizationPolicy, Meta, RequestAuthentication, TargetRef } from "#controlplane/mesh/objects.ts";
import { keysOf } from "#controlplane/mesh/token-keys.ts";
import type { Collected } from "./collected.ts";
import { waypointAccepted, withProblems, type ServicesByName } from "./conditions.ts";
import { findAuthorizer } from "./envoy/security/find-authorizer.ts";
import { convertRule } from "./envoy/security/rbac-rules.ts";
import { inspection } from "./protocol.ts";
import { isOfRevision } from "./revision.ts";
import type { ServiceInfo } from "./services.ts";
import type { StatusCondition, StatusUpdate } from "./status.ts";

type SecurityPolicy = { readonly meta: Meta; readonly targetRefs: readonly TargetRef[] };

/** Condition of an AuthorizationPolicy with targetRefs. */
export function policyCondition(
  collected: Collected,
  policy: AuthorizationPolicy,
  services: ServicesByName,
): StatusCondition {
  const accepted = waypointAccepted(collected.world, policy, collected.waypoints, services);
  return withProblems(accepted, [
    ...authorizerProblems(collected, policy, services),
    ...connectionProblems(collected, policy, services),
  ]);
}

/** Where an authorizer cannot be asked, nobody may pass. */
function authorizerProblems(
  collected: Collected,
  policy: AuthorizationPolicy,
  byName: ServicesByName,
): readonly string[] {
  if (policy.action !== "CUSTOM") return [];
  const { world, services } = collected;
  const find = (hostname: string, namespace: string): ServiceInfo | undefined => {
    const named = services.filter((service) => service.hostname === hostname);
    return (
      named.find(({ meta }) => meta.namespace === namespace) ?? named.find(({ message }) => message.canonical === true)
    );
  };
  const found = findAuthorizer(world.meshConfig, policy.provider, policy.meta.namespace, find);
  return [
    ...("problem" in found ? [`${found.problem}; until then, what its rules match is refused`] : []),
    ...rivalProblems(collected, policy, byName),
  ];
}

/** Which of several authorizers was meant to decide is nowhere written. */
function rivalProblems(collected: Collected, policy: AuthorizationPolicy, byName: ServicesByName): readonly string[] {
  const own = new Set(targetsOf(collected, policy, byName));
  const rivals = collected.world
    .all("AuthorizationPolicy")
    .filter(
      (each) =>
        each.action === "CUSTOM" &&
        each.provider !== policy.provider &&
        isOfRevision(each.meta, collected.options) &&
        targetsOf(collected, each, byName).some((service) => own.has(service)),
    )
    .map(({ meta, provider }) => `${meta.namespace}/${meta.name} ("${provider}")`)
    .sort();
  if (rivals.length === 0) return [];
  return [
    `${rivals.slice(0, mostNamed).join(", ")} names another extension provider for the same target: one at most can decide, and what the rules match is refused`,
  ];
}

/** The services whose requests it decides about. */
function targetsOf(
  { services: all, world }: Collected,
  { meta: { namespace }, targetRefs }: SecurityPolicy,
  services: ServicesByName,
): readonly ServiceInfo[] {
  return targetRefs.flatMap(({ kind, name }) => {
    switch (kind) {
      case "Gateway":
        return all.filter(({ binding }) => isBoundTo(binding, `${namespace}/${name}`));
      case "GatewayClass":
        return namespace === world.meshConfig.rootNamespace
          ? all.filter(({ binding }) => binding.kind === "bound")
          : [];
      default: {
        const service = services.get(`${kind}/${namespace}/${name}`);
        return service === undefined ? [] : [service];
      }
    }
  });
}

/** Rules that mean something else on the TCP ports of what the policy is attached to. */
function connectionProblems(
  collected: Collected,
  policy: AuthorizationPolicy,
  services: ServicesByName,
): readonly string[] {
  const { namespace } = policy.meta;
  const ports = new Set(
    targetsOf(collected, policy, services).flatMap((service) =>
      service.ports
        .filter(({ protocol }) => inspection(protocol) === "tcp")
        .map(({ port }) => `${service.hostname}:${port}`),
    ),
  );
  if (ports.size === 0) return [];
  const scope = { namespace, trustDomains: [collected.world.meshConfig.trustDomain] };
  const lost = new Set(policy.rules.flatMap((rule) => convertRule(rule, policy, "tcp", scope).lost));
  if (lost.size === 0) return [];
  const effect =
    policy.action === "ALLOW"
      ? "rules that ask for them allow nothing there"
      : "rules go without them there, and hold for more than written";
  return [
    `${[...lost].sort().join(", ")} are not known of connections to TCP ports (${[...ports].sort().slice(0, mostNamed).join(", ")}): ${effect}`,
  ];
}

const mostNamed = 5;

function isBoundTo(binding: ServiceInfo["binding"], key: string): boolean {
  return binding.kind === "bound" && (binding.waypoint.key === key || binding.canary?.waypoint.key === key);
}

/** Condition of a RequestAuthentication, which nothing but a waypoint enforces. */
export function authenticationUpdate(
  { world, waypoints }: Collected,
  authentication: RequestAuthentication,
  services: ServicesByName,
): StatusUpdate {
  const { meta, targetRefs, rules } = authentication;
  const problems = rules.flatMap((rule) => {
    const { hasKeys, problem } = keysOf(rule, world.fetchedKeys);
    if (problem === undefined) return [];
    const effect = hasKeys ? "the keys from before stay in use" : "its tokens are refused";
    return [`issuer "${rule.issuer}": ${problem}; ${effect}`];
  });
  const condition =
    targetRefs.length === 0
      ? notAttached(authentication)
      : waypointAccepted(world, authentication, waypoints, services);
  return {
    apiVersion: "security.istio.io/v1",
    kind: "RequestAuthentication",
    namespace: meta.namespace,
    name: meta.name,
    fieldManager: "istio-ambient-waypoint-policy",
    ownedConditions: ["WaypointAccepted"],
    status: { conditions: [withProblems(condition, problems)] },
  };
}

const notAttached = ({ meta }: SecurityPolicy): StatusCondition => ({
  type: "WaypointAccepted",
  status: "False",
  reason: "Invalid",
  message: "Tokens are looked at by waypoints: name one, or services behind one, in targetRefs",
  observedGeneration: String(meta.generation),
});
