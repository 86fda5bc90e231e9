/** Tells on a policy's status whether every replica of its waypoints has taken it. Pure. */
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { Enforcer, StatusCondition, StatusUpdate } from "#controlplane/translate/status.ts";
import { gatewayOf } from "./waypoint-problems.ts";

/** Replicas of one waypoint that are connected to this control plane. */
export interface Replicas {
  readonly connected: number;
  /** Of those: who has what is served now. */
  readonly current: number;
  /** Of those: who has refused a part of it. */
  readonly refusing: number;
}

/** By `namespace/name` of the Gateway. */
export function replicasOf(clients: readonly ClientStatus[]): ReadonlyMap<string, Replicas> {
  const replicas = new Map<string, Replicas>();
  for (const client of clients) {
    const gateway = gatewayOf(client);
    if (gateway === undefined) continue;
    const { connected, current, refusing } = replicas.get(gateway) ?? { connected: 0, current: 0, refusing: 0 };
    const state = client.types.find(({ typeUrl }) => typeUrl === typeUrls.listener)?.state;
    replicas.set(gateway, {
      connected: connected + 1,
      current: current + (state === "SYNCED" ? 1 : 0),
      refusing: refusing + (state === "REJECTED" ? 1 : 0),
    });
  }
  return replicas;
}

/** The statuses, with condition `Enforced` on those that waypoints have to take. */
export function withEnforcement(
  statuses: readonly StatusUpdate[],
  replicas: ReadonlyMap<string, Replicas>,
): readonly StatusUpdate[] {
  return statuses.map((update) => {
    const { enforcedBy, ...rest } = update;
    const { conditions = [] } = update.status;
    const accepted = conditions.find(({ type }) => type === "Accepted");
    if (enforcedBy === undefined || accepted === undefined) return rest;
    const { observedGeneration } = accepted;
    const enforced: StatusCondition = {
      type: "Enforced",
      ...(observedGeneration === undefined ? {} : { observedGeneration }),
      ...(accepted.status === "True"
        ? stateOf(enforcedBy, replicas)
        : { status: "False", reason: accepted.reason, message: accepted.message }),
    };
    return { ...rest, status: { ...update.status, conditions: [...conditions, enforced] } };
  });
}

type State = Pick<StatusCondition, "status" | "reason" | "message">;

function stateOf(enforcers: readonly Enforcer[], replicas: ReadonlyMap<string, Replicas>): State {
  if (enforcers.length === 0) {
    return { status: "False", reason: "NoWaypoint", message: "There is no waypoint that could enforce it" };
  }
  const states = enforcers.map((each) => stateAt(each, replicas.get(each.waypoint)));
  return (
    states.find(({ status }) => status === "False") ??
    states.find(({ status }) => status === "Unknown") ?? {
      status: "True",
      reason: "Enforced",
      message: states.map(({ message }) => message).join("; "),
    }
  );
}

const none: Replicas = { connected: 0, current: 0, refusing: 0 };

function stateAt({ waypoint, readyReplicas }: Enforcer, { connected, current, refusing }: Replicas = none): State {
  const of = `of ${connected} connected replicas of ${waypoint}`;
  if (refusing > 0) {
    const message = `${refusing} ${of} refused a part of their configuration: condition ambit.dev/Configured of the Gateway tells which`;
    return { status: "False", reason: "Refused", message };
  }
  if (current < connected) return { status: "False", reason: "Pending", message: `${current} ${of} have taken it` };
  if (connected === 0 && readyReplicas === 0) {
    return { status: "False", reason: "NoReplicas", message: `${waypoint} has no replica that is ready` };
  }
  // Of several control planes each knows those that are connected to itself.
  if (connected < readyReplicas) {
    const message = `${connected} of ${readyReplicas} replicas of ${waypoint} are connected to this control plane`;
    return { status: "Unknown", reason: "NotConnected", message };
  }
  return { status: "True", reason: "Enforced", message: `all ${connected} replicas of ${waypoint} have taken it` };
}
