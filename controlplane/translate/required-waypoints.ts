/**
 * `ambit.dev/waypoint: required` on a service or a namespace: what is written for the waypoint holds, or nothing passes.
 * Istio sends traffic past a waypoint that does not exist or is not ready, and past its L7 policies with it.
 *
 * Callers of the service are sent to a name that no proxy can resolve while there is no waypoint, so every ztunnel
 * refuses, Istio's too; and who comes to a pod's own address is refused there, unless it is the waypoint.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Action, AuthorizationSchema, Scope, type Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import type { GatewayAddressSchema, Workload } from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Meta } from "#controlplane/mesh/objects.ts";
import { managedLabel } from "./annotations.ts";
import { waypointManagedValues } from "./gateway-classes.ts";
import type { ServiceInfo } from "./services.ts";
import { hbonePort, type Binding, type Waypoint } from "./waypoints.ts";

export const requiredLabel = "ambit.dev/waypoint";
const required = "required";
/** Stands for a waypoint that has to be there and is not. Nothing can have this name in the mesh. */
export const missingWaypointHost = "required-waypoint-is-missing.ambit.dev";

/** Whether a service is to be reached through a waypoint only. Its own label decides, else its namespace's. */
export function requiresWaypoint({ labels }: Meta, namespace: Labels | undefined): boolean {
  // A waypoint is behind no other.
  if (waypointManagedValues.includes(labels.get(managedLabel) ?? "")) return false;
  return (labels.get(requiredLabel) ?? namespace?.get(requiredLabel)) === required;
}

/** Where callers are sent while there is no waypoint. */
export const missingWaypoint = (
  namespace: string,
): Exclude<MessageInitShape<typeof GatewayAddressSchema>, { $typeName: string }> => ({
  destination: { case: "hostname", value: { namespace, hostname: missingWaypointHost } },
  hboneMtlsPort: hbonePort,
});

const policyName = ({ source, meta }: ServiceInfo): string =>
  `ambit_required_waypoint_${source === "Service" ? "" : "serviceentry_"}${meta.name}`;

/** The policy that workloads of such a service refer to. */
export const requiredPolicyKey = (service: ServiceInfo): string => `${service.meta.namespace}/${policyName(service)}`;

/**
 * Refuses everybody but the waypoint at the ports behind the service; other ports of the pods (metrics, another service's)
 * stay as they are.
 *
 * @param workloads every published workload that belongs to the service
 * @returns undefined where the service has no workload
 */
export function requiredPolicy(
  service: ServiceInfo,
  workloads: readonly Workload[],
  trustDomain: string,
): Authorization | undefined {
  const ports = new Set<number>();
  for (const { services } of workloads) {
    for (const { targetPort } of services[service.key]?.ports ?? []) ports.add(targetPort);
  }
  if (ports.size === 0) return undefined;
  const admitted = new Set<string>();
  for (const waypoint of waypointsOf(service.binding)) {
    for (const account of [waypoint.serviceAccount, ...waypoint.serviceAccounts]) {
      admitted.add(`${trustDomain}/ns/${waypoint.namespace}/sa/${account || "default"}`);
    }
  }
  return create(AuthorizationSchema, {
    name: policyName(service),
    namespace: service.meta.namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups: [
      {
        rules: [
          {
            matches: [
              {
                destinationPorts: [...ports].sort((a, b) => a - b),
                notPrincipals: [...admitted].sort().map((value) => ({ matchType: { case: "exact" as const, value } })),
              },
            ],
          },
        ],
      },
    ],
  });
}

const waypointsOf = (binding: Binding): readonly Waypoint[] =>
  binding.kind === "bound"
    ? [binding.waypoint, ...(binding.canary === undefined ? [] : [binding.canary.waypoint])]
    : [];
