/** The other half of `required-waypoints.ts`: who comes to a pod around the waypoint of its service is refused there. */
import { create } from "@bufbuild/protobuf";
import { Action, AuthorizationSchema, Scope, type Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import type { Workload } from "#shared/proto/gen/workload/workload_pb.js";
import type { ServiceInfo } from "./services.ts";
import type { Binding, Waypoint } from "./waypoints.ts";

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
