/** Tells on a Gateway's status why it is not run as written. Pure. */
import type { StatusUpdate } from "#controlplane/translate/status.ts";

/**
 * The statuses, with `Accepted: False` (reason InvalidParameters, as Istio's) on the Gateways that `problems` names.
 *
 * @param problems by `namespace/name` of the Gateway
 */
export function withWaypointProblems(
  statuses: readonly StatusUpdate[],
  problems: ReadonlyMap<string, string>,
): readonly StatusUpdate[] {
  if (problems.size === 0) return statuses;
  return statuses.map((update) => {
    const message = update.kind === "Gateway" ? problems.get(`${update.namespace}/${update.name}`) : undefined;
    if (message === undefined) return update;
    const conditions = update.status.conditions?.map((condition) =>
      condition.type === "Accepted"
        ? { ...condition, status: "False" as const, reason: "InvalidParameters", message }
        : condition,
    );
    return { ...update, status: { ...update.status, ...(conditions === undefined ? {} : { conditions }) } };
  });
}
