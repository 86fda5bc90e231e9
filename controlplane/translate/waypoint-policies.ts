/** Policies that let nobody but the waypoint in, for workloads behind it (PILOT_AUTO_ALLOW_WAYPOINT_POLICY). */
import { create } from "@bufbuild/protobuf";
import { Action, AuthorizationSchema, Scope, type Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import type { Waypoint } from "./waypoints.ts";

const nameOf = ({ namespace, name }: Waypoint): string => `istio_allow_waypoint_${namespace}_${name}`;

/** undefined while no pod of the waypoint runs: nobody could be let in. */
export function waypointPolicyKey(waypoint: Waypoint): string | undefined {
  return waypoint.serviceAccounts.length === 0 ? undefined : `${waypoint.namespace}/${nameOf(waypoint)}`;
}

export function waypointPolicy(waypoint: Waypoint, trustDomain: string): Authorization | undefined {
  if (waypoint.serviceAccounts.length === 0) return undefined;
  return create(AuthorizationSchema, {
    name: nameOf(waypoint),
    namespace: waypoint.namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.ALLOW,
    groups: [
      {
        rules: [
          {
            matches: [
              {
                principals: waypoint.serviceAccounts.map((account) => ({
                  matchType: {
                    case: "exact" as const,
                    value: `${trustDomain}/ns/${waypoint.namespace}/sa/${account || "default"}`,
                  },
                })),
              },
            ],
          },
        ],
      },
    ],
  });
}
