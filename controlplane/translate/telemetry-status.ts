/** Condition `Accepted` of Telemetry objects: whether they reach a waypoint, and what of them cannot be done. */
import type { Telemetry } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { acceptedBy, resolveTarget, withProblems, type ServicesByName } from "./conditions.ts";
import { accessLogs } from "./envoy/telemetry/access-logs.ts";
import { statsConfig } from "./envoy/telemetry/metrics.ts";
import { tracingProblems } from "./envoy/telemetry/tracing.ts";
import type { TranslateOptions } from "./options.ts";
import { isOfRevision } from "./revision.ts";
import { acceptedUpdates, type StatusCondition, type StatusUpdate } from "./status.ts";
import type { Waypoints } from "./waypoints.ts";

export const telemetryUpdates = (
  world: WorldView,
  options: TranslateOptions,
  waypoints: Waypoints,
  services: ServicesByName,
): readonly StatusUpdate[] =>
  acceptedUpdates(
    world.all("Telemetry").filter(({ meta }) => isOfRevision(meta, options)),
    { apiVersion: "telemetry.istio.io/v1", kind: "Telemetry", fieldManager: "ambit-telemetry" },
    (telemetry) => accepted(world, telemetry, waypoints, services),
  );

function accepted(
  world: WorldView,
  telemetry: Telemetry,
  waypoints: Waypoints,
  services: ServicesByName,
): StatusCondition {
  const { meta, selector, targetRefs } = telemetry;
  const base = { type: "Accepted", observedGeneration: String(meta.generation) };
  if (targetRefs.length === 0 && selector !== undefined && selector.size > 0) {
    const message = "Waypoints are not selected by labels: name a Gateway, Service or ServiceEntry in targetRefs";
    return { ...base, status: "False", reason: "Invalid", message };
  }
  const condition: StatusCondition =
    targetRefs.length === 0
      ? {
          ...base,
          status: "True",
          reason: "Accepted",
          message: `for waypoints and services of ${scopeOf(world, meta)}`,
        }
      : acceptedBy(
          targetRefs.map((ref) => resolveTarget(world, meta, ref, waypoints, services)),
          base,
        );
  return withProblems(condition, problemsOf(world, telemetry));
}

const scopeOf = ({ meshConfig }: WorldView, { namespace }: Telemetry["meta"]): string =>
  namespace === meshConfig.rootNamespace ? "the mesh" : `namespace ${namespace}`;

function problemsOf({ meshConfig: { telemetry: mesh } }: WorldView, telemetry: Telemetry): readonly string[] {
  const problems = new Set<string>();
  const report = (problem: string) => void problems.add(problem);
  if (telemetry.accessLogging.length > 0) accessLogs(mesh, [telemetry], report);
  if (telemetry.metrics.length > 0) statsConfig(mesh, [telemetry], report);
  if (telemetry.tracing.length > 0) tracingProblems(mesh, telemetry, report);
  return [...problems];
}
