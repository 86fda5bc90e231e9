/** The waypoint that a Service or ServiceEntry asks for, and whose it is. */
import type { Gateway, Meta } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { controllerOf, isOurController } from "./gateway-classes.ts";
import { requestedWaypoint } from "./waypoints.ts";

export function waypointOf(world: WorldView, { labels, namespace }: Meta): Gateway | undefined {
  const inherited = world.get("Namespace", "", namespace)?.meta.labels;
  const wanted = requestedWaypoint(labels, namespace) ?? requestedWaypoint(inherited ?? new Map(), namespace);
  return wanted === undefined || wanted === "none" ? undefined : world.get("Gateway", wanted.namespace, wanted.name);
}

/** It is of another maker's class: its controller judges what is attached to the service. */
export function isElsewhere(world: WorldView, target: Meta): boolean {
  const gateway = waypointOf(world, target);
  return gateway !== undefined && !isOurController(controllerOf(world, gateway));
}
