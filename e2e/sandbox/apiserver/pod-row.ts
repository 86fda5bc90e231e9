import { humanDuration } from "./human-duration.ts";
import type { KubeObject } from "./object-store.ts";
import { child, isObject, listOf, numberOf, objectsOf, textOf, type JsonObject } from "./schema.ts";

/** The cells of a pod in `kubectl get pods`: the one word for its state follows Kubernetes' `printPod`. */
export function podRow(pod: KubeObject, age: string, nowMs: number): readonly unknown[] {
  const spec = child(pod, "spec");
  const status = child(pod, "status");
  const containers = objectsOf(spec, "containers");
  const statuses = objectsOf(status, "containerStatuses");
  const sidecars = objectsOf(spec, "initContainers")
    .filter((one) => one["restartPolicy"] === "Always")
    .map((one) => one["name"]);
  const sidecarStatuses = objectsOf(status, "initContainerStatuses").filter((one) => sidecars.includes(one["name"]));
  const ready = [...statuses, ...sidecarStatuses].filter((one) => one["ready"] === true).length;
  const addresses = objectsOf(status, "podIPs").map(({ ip }) => ip);
  return [
    pod.metadata.name,
    `${ready}/${containers.length + sidecars.length}`,
    stateOf(pod, statuses),
    restartsOf([...statuses, ...sidecarStatuses], nowMs),
    age,
    textOf(status, "podIP") ?? addresses[0] ?? "<none>",
    textOf(spec, "nodeName") ?? "<none>",
    textOf(status, "nominatedNodeName") ?? "<none>",
    readinessGates(spec, status),
  ];
}

function readinessGates(spec: JsonObject, status: JsonObject): string {
  const gates = listOf(spec, "readinessGates")
    .filter(isObject)
    .map((gate) => gate["conditionType"]);
  if (gates.length === 0) return "<none>";
  const met = objectsOf(status, "conditions").filter((one) => gates.includes(one["type"]) && one["status"] === "True");
  return `${met.length}/${gates.length}`;
}

function restartsOf(statuses: readonly JsonObject[], nowMs: number): string {
  const total = statuses.reduce((sum, one) => sum + (numberOf(one, "restartCount") ?? 0), 0);
  const ends = statuses
    .map((one) => Date.parse(textOf(child(child(one, "lastState"), "terminated"), "finishedAt") ?? ""))
    .filter((at) => !Number.isNaN(at));
  if (total === 0 || ends.length === 0) return String(total);
  return `${total} (${humanDuration(nowMs - Math.max(...ends))} ago)`;
}

function stateOf(pod: KubeObject, statuses: readonly JsonObject[]): string {
  const status = child(pod, "status");
  const phase = textOf(status, "phase") ?? "Unknown";
  const initial = initState(pod, status);
  let state = initial ?? textOf(status, "reason") ?? phase;
  if (initial === undefined) state = containerState(state, statuses, status);
  if (pod.metadata.deletionTimestamp === undefined) return state;
  if (textOf(status, "reason") === "NodeLost") return "Unknown";
  return phase === "Succeeded" || phase === "Failed" ? state : "Terminating";
}

function initState(pod: KubeObject, status: JsonObject): string | undefined {
  const spec = objectsOf(child(pod, "spec"), "initContainers");
  for (const [at, one] of objectsOf(status, "initContainerStatuses").entries()) {
    const { terminated, waiting } = child(one, "state");
    const isSidecar = spec.find(({ name }) => name === one["name"])?.["restartPolicy"] === "Always";
    if (isObject(terminated)) {
      if (terminated["exitCode"] === 0) continue;
      return `Init:${endedBecause(terminated)}`;
    }
    if (isSidecar && one["started"] === true) continue;
    const reason = isObject(waiting) ? (textOf(waiting, "reason") ?? "") : "";
    return reason !== "" && reason !== "PodInitializing" ? `Init:${reason}` : `Init:${at}/${spec.length}`;
  }
  return undefined;
}

function containerState(start: string, statuses: readonly JsonObject[], status: JsonObject): string {
  let state = start;
  let hasRunning = false;
  for (const one of statuses.toReversed()) {
    const { waiting, terminated, running } = child(one, "state");
    if (isObject(waiting) && (textOf(waiting, "reason") ?? "") !== "") state = textOf(waiting, "reason") ?? state;
    else if (isObject(terminated)) state = endedBecause(terminated);
    else if (one["ready"] === true && isObject(running)) hasRunning = true;
  }
  if (state !== "Completed" || !hasRunning) return state;
  const isReady = objectsOf(status, "conditions").some((one) => one["type"] === "Ready" && one["status"] === "True");
  return isReady ? "Running" : "NotReady";
}

function endedBecause(terminated: JsonObject): string {
  const reason = textOf(terminated, "reason") ?? "";
  if (reason !== "") return reason;
  const signal = numberOf(terminated, "signal") ?? 0;
  return signal !== 0 ? `Signal:${signal}` : `ExitCode:${numberOf(terminated, "exitCode") ?? 0}`;
}
