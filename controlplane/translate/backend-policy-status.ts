/** What authors of BackendTLSPolicies and XBackendTrafficPolicies are told: of each target, what becomes of it. */
import type { BackendPolicy, BackendTlsPolicy, BackendTrafficPolicy } from "#controlplane/mesh/backend-policy.ts";
import { routeController } from "#controlplane/mesh/gateway-route.ts";
import type { Meta } from "#controlplane/mesh/objects.ts";
import type { SectionTarget } from "#controlplane/mesh/section-target.ts";
import { trustOf, type Trust } from "./authorities.ts";
import { backendPoliciesOf } from "./backend-policies.ts";
import type { Collected } from "./collected.ts";
import type { ServicesByName } from "./conditions.ts";
import { effectivePolicy, ownRuleOf } from "./envoy/destination-rules.ts";
import { parentKey, parentKind } from "./envoy/routes/attachments.ts";
import { isElsewhere } from "./parent-waypoints.ts";
import type { PortInfo, ServiceInfo } from "./services.ts";
import type { AncestorStatus, StatusCondition, StatusUpdate } from "./status.ts";

export interface BackendPolicyContext {
  readonly collected: Collected;
  readonly services: ServicesByName;
  /** Whether a policy is in force. */
  readonly isOurs: (meta: Meta) => boolean;
  /** Whether it is for us to write its status. */
  readonly isTold: (meta: Meta) => boolean;
}

/** Policies whose targets are Services or ServiceEntries, and those of which that was so when we last wrote. */
export function backendPolicyUpdates(context: BackendPolicyContext): readonly StatusUpdate[] {
  const { world } = context.collected;
  return [
    ...world.all("BackendTLSPolicy").flatMap((policy) => {
      const trust = trustOf(world, policy);
      return updateOf(context, "BackendTLSPolicy", policy, (target, place) => [
        tlsAccepted(context, policy, target, place, trust),
        resolvedRefs(trust),
      ]);
    }),
    ...world
      .all("XBackendTrafficPolicy")
      .flatMap((policy) =>
        updateOf(context, "XBackendTrafficPolicy", policy, (target, place) => [
          trafficAccepted(context, policy, target, place),
          ...missingSessions(policy),
        ]),
      ),
  ];
}

/** Where a target leads: to a service and those of its ports that are meant, or nowhere. */
type Place =
  | { readonly service: ServiceInfo; readonly ports: readonly PortInfo[] }
  | { readonly service: undefined; readonly missing: string };

function updateOf(
  context: BackendPolicyContext,
  kind: "BackendTLSPolicy" | "XBackendTrafficPolicy",
  policy: BackendPolicy,
  conditionsOf: (target: SectionTarget, place: Place) => readonly StatusCondition[],
): readonly StatusUpdate[] {
  const { meta, apiVersion } = policy;
  if (!context.isOurs(meta) || !context.isTold(meta)) return [];
  const ancestors = policy.targets.flatMap((target): readonly AncestorStatus[] => {
    if (!isOfMesh(context, meta, target)) return [];
    const place = placeOf(context, meta, target);
    const conditions = [...conditionsOf(target, place), ...resolvedWaypoints(place)];
    const { group, name, sectionName } = target;
    return [
      {
        ancestorRef: { group, kind: target.kind, name, ...(sectionName === undefined ? {} : { sectionName }) },
        controllerName: routeController,
        conditions: conditions.map((condition) => ({ ...condition, observedGeneration: meta.generation })),
      },
    ];
  });
  if (ancestors.length === 0 && !policy.hasOwnStatus) return [];
  const { namespace, name } = meta;
  return [
    { apiVersion, kind, namespace, name, fieldManager: routeController, ownedConditions: [], status: { ancestors } },
  ];
}

/** Of services behind another maker's waypoint, its controller tells. */
function isOfMesh({ collected: { world } }: BackendPolicyContext, { namespace }: Meta, target: SectionTarget): boolean {
  const kind = parentKind(target);
  const found = kind && world.get(kind, namespace, target.name);
  return kind !== undefined && (found === undefined || !isElsewhere(world, found.meta));
}

function placeOf(context: BackendPolicyContext, { namespace }: Meta, target: SectionTarget): Place {
  const { kind, name, sectionName } = target;
  const what = `${kind} "${namespace}/${name}"`;
  const service = context.services.get(parentKey(kind, namespace, name));
  if (service === undefined) {
    // Of type ExternalName, hidden, or another object has its hostname.
    const isThere = context.collected.world.get(parentKind(target) ?? "Service", namespace, name) !== undefined;
    return { service, missing: isThere ? `${what} is no service of the mesh` : `${what} was not found` };
  }
  const all = service.ports.filter(({ protocol }) => protocol !== "udp");
  const ports = all.filter((port) => sectionName === undefined || port.name === sectionName);
  return ports.length > 0
    ? { service, ports }
    : {
        service: undefined,
        missing:
          sectionName === undefined ? `${what} has no port of TCP` : `${what} has no port named "${sectionName}"`,
      };
}

const accepted = (message: string): StatusCondition => ({
  type: "Accepted",
  status: "True",
  reason: "Accepted",
  message,
});

const refused = (reason: string, message: string): StatusCondition => ({
  type: "Accepted",
  status: "False",
  reason,
  message,
});

/** Why a policy does not have a target, whatever it says. */
function lost(
  { collected }: BackendPolicyContext,
  policy: BackendPolicy,
  target: SectionTarget,
  place: Place,
): StatusCondition | undefined {
  if (place.service === undefined) return refused("TargetNotFound", place.missing);
  const rival = backendPoliciesOf(collected).rivalOf(policy, target);
  if (rival === undefined) return undefined;
  return refused("Conflicted", `"${rival.meta.namespace}/${rival.meta.name}" is older and has the same target`);
}

function tlsAccepted(
  context: BackendPolicyContext,
  policy: BackendTlsPolicy,
  target: SectionTarget,
  place: Place,
  trust: Trust,
): StatusCondition {
  const missing = lost(context, policy, target, place);
  if (missing !== undefined || place.service === undefined) return missing ?? accepted("");
  const overruled = overruledPorts(context, place, "tls");
  if (overruled.ports.length === place.ports.length) return refused("Conflicted", overruled.message);
  if (trust.kind === "nobody") {
    return policy.authorities.length === 0
      ? refused("Invalid", `wellKnownCACertificates "${policy.wellKnownAuthorities}" is not known: nothing is sent`)
      : refused("NoValidCACertificate", `Nothing is sent: ${trust.faults.map(({ message }) => message).join("; ")}`);
  }
  return accepted(["Connections are opened with TLS", overruled.message].filter((text) => text !== "").join("; "));
}

function resolvedRefs({ faults }: Trust): StatusCondition {
  const [first] = faults;
  const message = faults.map((fault) => fault.message).join("; ");
  return first === undefined
    ? { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", message: "All references resolved" }
    : { type: "ResolvedRefs", status: "False", reason: first.reason, message };
}

function trafficAccepted(
  context: BackendPolicyContext,
  policy: BackendTrafficPolicy,
  target: SectionTarget,
  place: Place,
): StatusCondition {
  const missing = lost(context, policy, target, place);
  if (missing !== undefined || place.service === undefined) return missing ?? accepted("");
  if (policy.retryBudget === undefined) return accepted("The policy says nothing of retries");
  const overruled = overruledPorts(context, place, "retryBudget");
  if (overruled.ports.length === place.ports.length) return refused("Conflicted", overruled.message);
  return accepted(["Retries are bounded", overruled.message].filter((text) => text !== "").join("; "));
}

const missingSessions = ({ hasSessionPersistence }: BackendTrafficPolicy): readonly StatusCondition[] =>
  hasSessionPersistence
    ? [
        {
          type: "PartiallyInvalid",
          status: "True",
          reason: "UnsupportedValue",
          message:
            "Fall Back: sessionPersistence is not supported, requests of a session go to any endpoint: use consistentHash of a DestinationRule",
        },
      ]
    : [];

/** Ports of which a DestinationRule says the same thing itself, as the service's waypoint sees it. */
function overruledPorts(
  { collected }: BackendPolicyContext,
  { service, ports }: Extract<Place, { readonly service: ServiceInfo }>,
  member: "tls" | "retryBudget",
): { readonly ports: readonly PortInfo[]; readonly message: string } {
  const rule = ownRuleOf(collected, service);
  const own = ports.filter(({ port }) => effectivePolicy(rule, port, "")[member] !== undefined);
  if (rule === undefined || own.length === 0) return { ports: [], message: "" };
  const which =
    own.length === ports.length
      ? ""
      : ` for ${own.length === 1 ? "port" : "ports"} ${own.map(({ port }) => port).join(", ")}`;
  return {
    ports: own,
    message: `DestinationRule "${rule.meta.namespace}/${rule.meta.name}" has ${member} of its own${which}, which counts before policies`,
  };
}

/** Without a waypoint nobody opens TLS or tries again: the node proxy carries bytes. */
function resolvedWaypoints(place: Place): readonly StatusCondition[] {
  if (place.service === undefined) return [];
  const { binding } = place.service;
  const base = { type: "ResolvedWaypoints" };
  switch (binding.kind) {
    case "bound":
      return [
        {
          ...base,
          status: "True",
          reason: "ResolvedWaypoints",
          message: `Applied by waypoint ${binding.waypoint.key}`,
        },
      ];
    case "none":
      return [
        {
          ...base,
          status: "False",
          reason: "MissingUseWaypointLabel",
          message:
            "The target has no waypoint, so only waypoints with routes to it apply the policy: label it or its namespace istio.io/use-waypoint",
        },
      ];
    case "error":
      return [{ ...base, status: "False", ...binding.error }];
  }
}
