/**
 * `ambit.dev/waypoint: required` on a service or a namespace: what is written for the waypoint holds, or nothing passes.
 * Istio sends traffic past a waypoint that does not exist or is not ready, and past its L7 policies with it.
 *
 * Callers of the service are sent to a name that no proxy can resolve while there is no waypoint, so every ztunnel
 * refuses, Istio's too; and who comes to a pod's own address is refused there, unless it is the waypoint
 * (`required-waypoint-policies.ts`).
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GatewayAddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels, Meta } from "#controlplane/mesh/objects.ts";
import { managedLabel } from "./annotations.ts";
import { waypointManagedValues } from "./gateway-classes.ts";
import { hbonePort } from "./waypoints.ts";

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
