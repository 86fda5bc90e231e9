/** Statuses that the control plane wants on objects; who writes them compares with what is there. */
import type { RouteKind } from "#controlplane/mesh/gateway-route.ts";
import type { Condition, Meta } from "#controlplane/mesh/objects.ts";

export interface StatusCondition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  /** Istio's own kinds write it as text. */
  readonly observedGeneration?: number | string;
}

export interface ListenerStatus {
  readonly name: string;
  readonly attachedRoutes: number;
  readonly supportedKinds: readonly { readonly group: string; readonly kind: string }[];
  readonly conditions: readonly StatusCondition[];
}

/** What is said of one parent of a route. Others may say something of theirs. */
export interface RouteParentStatus {
  readonly parentRef: Readonly<Record<string, string | number>>;
  readonly controllerName: string;
  readonly conditions: readonly StatusCondition[];
}

/** What is said of one target of a backend policy. Others may say something of theirs. */
export interface AncestorStatus {
  readonly ancestorRef: Readonly<Record<string, string>>;
  readonly controllerName: string;
  readonly conditions: readonly StatusCondition[];
}

export interface Enforcer {
  /** `namespace/name` of a waypoint's Gateway. */
  readonly waypoint: string;
  readonly readyReplicas: number;
}

export interface StatusUpdate {
  readonly apiVersion: string;
  readonly kind:
    | "Service"
    | "ServiceEntry"
    | "WorkloadEntry"
    | "AuthorizationPolicy"
    | "RequestAuthentication"
    | "EnvoyFilter"
    | "RateLimitPolicy"
    | "Gateway"
    | "GatewayClass"
    | "Telemetry"
    | "VirtualService"
    | "BackendTLSPolicy"
    | "XBackendTrafficPolicy"
    | RouteKind;
  readonly namespace: string;
  readonly name: string;
  readonly fieldManager: string;
  /** Condition types of this field manager: one that is not in `status.conditions` is to be removed. */
  readonly ownedConditions: readonly string[];
  /** Waypoints that have to take it before it is in force; of kinds whose status tells so. */
  readonly enforcedBy?: readonly Enforcer[];
  /** A field that is absent here is not ours to write. */
  readonly status: {
    readonly conditions?: readonly StatusCondition[];
    readonly addresses?: readonly { readonly type?: string; readonly host?: string; readonly value: string }[];
    readonly listeners?: readonly ListenerStatus[];
    readonly parents?: readonly RouteParentStatus[];
    readonly ancestors?: readonly AncestorStatus[];
  };
}

/** For kinds of which we say whether they are `Accepted`, and nothing else: one update for each object. */
export const acceptedUpdates = <Kind extends { readonly meta: Meta }>(
  objects: readonly Kind[],
  about: Pick<StatusUpdate, "apiVersion" | "kind" | "fieldManager">,
  accepted: (object: Kind) => StatusCondition,
): readonly StatusUpdate[] =>
  objects.map((object) => ({
    ...about,
    namespace: object.meta.namespace,
    name: object.meta.name,
    ownedConditions: ["Accepted"],
    status: { conditions: [accepted(object)] },
  }));

/** Whether there is anything to write or to remove. */
export function isDue(update: StatusUpdate, current: readonly Condition[]): boolean {
  const { conditions, addresses, listeners } = update.status;
  if (addresses !== undefined || listeners !== undefined || (conditions?.length ?? 0) > 0) return true;
  return current.some(({ type }) => update.ownedConditions.includes(type));
}

/** The oldest wins wherever objects compete; of the same age, the first by name. */
export const isOlder = (a: Meta, b: Meta): boolean =>
  a.createdMs !== b.createdMs ? a.createdMs < b.createdMs : `${a.namespace}/${a.name}` < `${b.namespace}/${b.name}`;
