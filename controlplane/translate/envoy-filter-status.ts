/** Condition `Accepted` of EnvoyFilters: which of their patches have an effect, and what to write instead of the others. */
import type { EnvoyFilter } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { acceptedBy, resolveTarget, withProblems, type ServicesByName } from "./conditions.ts";
import { readFilterPatches } from "./envoy/envoy-filters/in-force.ts";
import type { TranslateOptions } from "./options.ts";
import { isOfRevision } from "./revision.ts";
import { acceptedUpdates, type StatusCondition, type StatusUpdate } from "./status.ts";
import type { Waypoints } from "./waypoints.ts";

export const envoyFilterUpdates = (
  world: WorldView,
  options: TranslateOptions,
  waypoints: Waypoints,
  services: ServicesByName,
): readonly StatusUpdate[] =>
  acceptedUpdates(
    world.all("EnvoyFilter").filter(({ meta }) => isOfRevision(meta, options)),
    { apiVersion: "networking.istio.io/v1alpha3", kind: "EnvoyFilter", fieldManager: "ambit-envoy-filter" },
    (filter) => accepted(world, filter, waypoints, services),
  );

function accepted(
  world: WorldView,
  filter: EnvoyFilter,
  waypoints: Waypoints,
  services: ServicesByName,
): StatusCondition {
  const base = { type: "Accepted", observedGeneration: filter.meta.generation };
  if (filter.targetRefs.length === 0) {
    const message = "There are no sidecars here: name a Gateway, or the GatewayClass of waypoints, in targetRefs";
    return { ...base, status: "False", reason: "Invalid", message };
  }
  const wrong = filter.targetRefs.find(({ kind }) => kind !== "Gateway" && kind !== "GatewayClass");
  if (wrong !== undefined) {
    const message = `${wrong.kind} is no target of an EnvoyFilter: name a Gateway, or the GatewayClass of waypoints`;
    return { ...base, status: "False", reason: "Invalid", message };
  }
  const { patches, problems } = readFilterPatches(filter);
  if (problems.length > 0 && patches.length === 0) {
    return {
      ...base,
      status: "False",
      reason: "Unsupported",
      message: `Unsupported EnvoyFilter: ${problems.join("; ")}`,
    };
  }
  const targets = filter.targetRefs.map((ref) => resolveTarget(world, filter.meta, ref, waypoints, services));
  return withProblems(acceptedBy(targets, base), problems);
}
