/** Conditions on Services, ServiceEntries, WorkloadEntries and the policies of waypoints. */
import type { AuthorizationPolicy, Meta, ServiceEntry, TargetRef, WorkloadEntry } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { connectStrategyAnnotation, racesConnections } from "./annotations.ts";
import { controllerOfClass, meshController } from "./gateway-classes.ts";
import type { ServiceInfo } from "./services.ts";
import { usesWaypointFromIngress } from "./services.ts";
import type { StatusCondition, StatusUpdate } from "./status.ts";
import type { Binding, Waypoints } from "./waypoints.ts";
import { Visibility } from "#shared/proto/gen/workload/workload_pb.js";

const waypointBound = "istio.io/WaypointBound";
const waypointRequired = "ambit.dev/WaypointRequired";
const waypointMissing = "istio.io/WaypointMissing";
const visibilityApplied = "istio.io/VisibilityApplied";

/** Whether a waypoint was asked for, and got. */
export function boundCondition(binding: Binding, fromIngress: boolean): readonly StatusCondition[] {
  switch (binding.kind) {
    case "none":
      return [];
    case "error":
      return [{ type: waypointBound, status: "False", ...binding.error }];
    case "bound": {
      const { waypoint, canary, canaryError } = binding;
      const notes = [
        `Successfully attached to waypoint ${waypoint.key}`,
        ...(fromIngress ? ["traffic from ingress gateways passes it too"] : []),
        ...(canary === undefined ? [] : [`${canary.weight} % of the traffic goes to canary ${canary.waypoint.key}`]),
        ...(canaryError === undefined ? [] : [`the canary is not used: ${canaryError.message}`]),
      ];
      return [{ type: waypointBound, status: "True", reason: "WaypointAccepted", message: notes.join("; ") }];
    }
  }
}

/** What `ambit.dev/waypoint: required` comes to. */
function requiredCondition({ requiresWaypoint, binding }: ServiceInfo): readonly StatusCondition[] {
  if (!requiresWaypoint) return [];
  return [
    binding.kind === "bound"
      ? {
          type: waypointRequired,
          status: "True",
          reason: "Enforced",
          message: `Who comes around waypoint ${binding.waypoint.key} is refused`,
        }
      : {
          type: waypointRequired,
          status: "True",
          reason: "FailsClosed",
          message:
            binding.kind === "none"
              ? "Nobody gets through, because no waypoint is named: write the label istio.io/use-waypoint"
              : `Nobody gets through, because ${binding.error.message}`,
        },
  ];
}

export function serviceUpdate(world: WorldView, service: ServiceInfo): StatusUpdate {
  const { meta, binding } = service;
  return {
    apiVersion: "v1",
    kind: "Service",
    namespace: meta.namespace,
    name: meta.name,
    fieldManager: "istio-ambient-service",
    ownedConditions: [waypointBound, waypointRequired],
    status: { conditions: [...boundCondition(binding, fromIngress(world, meta)), ...requiredCondition(service)] },
  };
}

const fromIngress = (world: WorldView, meta: Meta): boolean =>
  usesWaypointFromIngress(meta.labels, world.get("Namespace", "", meta.namespace)?.meta.labels);

/** `hosts` are those of the entry that are published; without `addresses`, those of the status are not ours. */
export function serviceEntryUpdate(
  world: WorldView,
  { meta }: ServiceEntry,
  hosts: readonly ServiceInfo[],
  addresses: readonly { readonly host: string; readonly value: string }[] | undefined,
): StatusUpdate {
  const [first] = hosts;
  const conditions =
    first === undefined
      ? []
      : [
          ...boundCondition(first.binding, fromIngress(world, meta)),
          ...requiredCondition(first),
          ...missingCondition(meta, hosts),
          ...visibilityCondition(world, first),
        ];
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    namespace: meta.namespace,
    name: meta.name,
    fieldManager: "istio-ambient-service",
    ownedConditions: [waypointBound, waypointRequired, waypointMissing, visibilityApplied],
    status: { conditions, ...(addresses === undefined ? {} : { addresses }) },
  };
}

/** What works with a waypoint only, and has none. */
function missingCondition(meta: Meta, hosts: readonly ServiceInfo[]): readonly StatusCondition[] {
  if (hosts.some(({ binding }) => binding.kind === "bound")) return [];
  if (racesConnections(meta.annotations)) {
    return [
      {
        type: waypointMissing,
        status: "True",
        reason: "NoWaypointForRacingConnectStrategy",
        message: `Annotation ${connectStrategyAnnotation} is honoured by a waypoint: bind one with the label istio.io/use-waypoint`,
      },
    ];
  }
  const wildcard = hosts.find(({ hostname }) => hostname.startsWith("*"));
  if (wildcard === undefined) return [];
  return [
    {
      type: waypointMissing,
      status: "True",
      reason: "NoWaypointForWildcardService",
      message: `Host "${wildcard.hostname}" is resolved by a waypoint: bind one with the label istio.io/use-waypoint`,
    },
  ];
}

/** Said only where the mesh has rules for it. */
function visibilityCondition(world: WorldView, { visibility }: ServiceInfo): readonly StatusCondition[] {
  if (world.meshConfig.serviceEntryVisibility === undefined) return [];
  const isPublic = visibility === Visibility.PUBLIC;
  return [
    {
      type: visibilityApplied,
      status: "True",
      reason: isPublic ? "Public" : "Namespace",
      message: isPublic ? "Visible in the whole mesh" : "Visible in its own namespace only",
    },
  ];
}

export function workloadEntryUpdate({ meta }: WorkloadEntry, binding: Binding): StatusUpdate {
  return {
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadEntry",
    namespace: meta.namespace,
    name: meta.name,
    fieldManager: "istio-ambient-workloadentry",
    ownedConditions: [waypointBound],
    status: { conditions: boundCondition(binding, false) },
  };
}

export function policyUpdate({ meta, targetRefs }: AuthorizationPolicy, condition: StatusCondition): StatusUpdate {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    namespace: meta.namespace,
    name: meta.name,
    fieldManager: targetRefs.length > 0 ? "istio-ambient-waypoint-policy" : "istio-ambient-ztunnel-policy",
    ownedConditions: ["ZtunnelAccepted", "WaypointAccepted"],
    status: { conditions: [condition] },
  };
}

/** Where one reference of a policy leads. */
export interface Target {
  readonly isBound: boolean;
  readonly reason: "Accepted" | "Invalid" | "AncestorNotBound" | "UnsupportedValue" | "TargetNotFound";
  readonly message: string;
}

/** The services that a policy may name, by kind and `namespace/name`. */
export type ServicesByName = ReadonlyMap<string, ServiceInfo>;

/** Condition `WaypointAccepted` of a policy with targetRefs. */
export function waypointAccepted(
  world: WorldView,
  policy: { readonly meta: Meta; readonly targetRefs: readonly TargetRef[] },
  waypoints: Waypoints,
  services: ServicesByName,
): StatusCondition {
  const targets = policy.targetRefs.map((ref) => resolveTarget(world, policy.meta, ref, waypoints, services));
  return acceptedBy(targets, { type: "WaypointAccepted", observedGeneration: String(policy.meta.generation) });
}

/** One condition for all that a policy refers to. */
export function acceptedBy(
  targets: readonly Target[],
  base: Pick<StatusCondition, "type" | "observedGeneration">,
): StatusCondition {
  const [single, ...more] = targets;
  if (single !== undefined && more.length === 0) {
    return { ...base, status: single.isBound ? "True" : "False", reason: single.reason, message: single.message };
  }
  const failed = targets.filter(({ isBound }) => !isBound);
  if (failed.length === 0) {
    return { ...base, status: "True", reason: "Accepted", message: targets.map(({ message }) => message).join("; ") };
  }
  const message = `Invalid targetRefs: ${failed.map((target) => target.message).join("; ")}`;
  return failed.length < targets.length
    ? { ...base, status: "True", reason: "PartiallyInvalid", message }
    : { ...base, status: "False", reason: "Invalid", message };
}

/** It is in force, but for what is told here. */
export function withProblems(condition: StatusCondition, problems: readonly string[]): StatusCondition {
  if (problems.length === 0) return condition;
  const message = [condition.message, ...problems].join("; ");
  const reason = condition.status === "True" ? "PartiallyInvalid" : condition.reason;
  return { ...condition, reason, message };
}

export function resolveTarget(
  world: WorldView,
  meta: Meta,
  ref: Pick<TargetRef, "kind" | "name">,
  waypoints: Waypoints,
  services: ServicesByName,
): Target {
  // A policy speaks for its own namespace only, whatever the reference says.
  const { namespace } = meta;
  const what = `${ref.kind} ${namespace}/${ref.name}`;
  const notFound: Target = { isBound: false, reason: "TargetNotFound", message: `${what} was not found` };
  switch (ref.kind) {
    case "GatewayClass": {
      const { rootNamespace } = world.meshConfig;
      if (meta.namespace !== rootNamespace) {
        return {
          isBound: false,
          reason: "Invalid",
          message: `A policy for a GatewayClass belongs into the root namespace "${rootNamespace}"`,
        };
      }
      const controller = controllerOfClass(world, ref.name);
      if (controller === undefined) {
        return { isBound: false, reason: "TargetNotFound", message: `GatewayClass ${ref.name} was not found` };
      }
      return controller === meshController
        ? { isBound: true, reason: "Accepted", message: `bound to ${ref.name}` }
        : { isBound: false, reason: "Invalid", message: `GatewayClass ${ref.name} is not one of waypoints` };
    }
    case "Gateway": {
      const waypoint = waypoints.get(namespace, ref.name);
      return waypoint === undefined
        ? notFound
        : { isBound: true, reason: "Accepted", message: `bound to ${waypoint.key}` };
    }
    case "Service":
    case "ServiceEntry": {
      // It may exist and not be published: of type ExternalName, hidden, or another one has the hostname.
      const service = services.get(`${ref.kind}/${namespace}/${ref.name}`);
      if (service === undefined && world.get(ref.kind, namespace, ref.name) === undefined) return notFound;
      return service?.binding.kind === "bound"
        ? { isBound: true, reason: "Accepted", message: `bound to ${service.binding.waypoint.key}` }
        : { isBound: false, reason: "AncestorNotBound", message: `${what} is not bound to a waypoint` };
    }
    default:
      return { isBound: false, reason: "Invalid", message: `A policy cannot be attached to a ${ref.kind}` };
  }
}
