/** Tells on a Gateway's status why its waypoint is not run, or not configured, as written. Pure. */
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import { gatewayNameLabel } from "#controlplane/translate/annotations.ts";
import type { StatusCondition, StatusUpdate } from "#controlplane/translate/status.ts";

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

/** `namespace/name` of the Gateway whose waypoint a client is a replica of. */
export function gatewayOf({ node }: ClientStatus): string | undefined {
  if (node.type !== "waypoint") return undefined;
  const labels = node.metadata["LABELS"];
  const name =
    typeof labels === "object" && labels !== null && !Array.isArray(labels) ? labels[gatewayNameLabel] : undefined;
  return typeof name === "string" ? `${node.namespace}/${name}` : undefined;
}

const configured = "ambit.dev/Configured";
/** A condition has room for 32 KiB; nobody reads so much. */
const longestMessage = 2_000;

/** What the pods of waypoints have refused of their configuration, by `namespace/name` of the Gateway. */
export function rejectionsOf(clients: readonly ClientStatus[]): ReadonlyMap<string, string> {
  const rejections = new Map<string, string>();
  for (const client of clients) {
    const gateway = gatewayOf(client);
    const refused = client.types.find(({ state }) => state === "REJECTED");
    if (gateway !== undefined && refused !== undefined) rejections.set(gateway, refused.lastError?.message ?? "");
  }
  return rejections;
}

/** The statuses, with condition `ambit.dev/Configured` on Gateways whose waypoint refused something: the rest is in force. */
export function withRejections(
  statuses: readonly StatusUpdate[],
  rejections: ReadonlyMap<string, string>,
): readonly StatusUpdate[] {
  return statuses.map((update) => {
    if (update.kind !== "Gateway") return update;
    const message = rejections.get(`${update.namespace}/${update.name}`);
    const refused: readonly StatusCondition[] =
      message === undefined
        ? []
        : [
            {
              type: configured,
              status: "False",
              reason: "Rejected",
              message:
                `The waypoint refused part of its configuration, of which the last good version stays in force: ${message}`.slice(
                  0,
                  longestMessage,
                ),
            },
          ];
    return {
      ...update,
      ownedConditions: [...update.ownedConditions, configured],
      status: { ...update.status, conditions: [...(update.status.conditions ?? []), ...refused] },
    };
  });
}
