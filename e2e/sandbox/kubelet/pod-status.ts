/** A pod's status as a pure function of what the kubelet sees. */
import type { Condition, Container, ContainerState, ContainerStatus, Pod, PodStatus } from "../kinds.ts";

/** One container as the kubelet sees it. */
export interface ContainerView {
  readonly state: ContainerState;
  readonly lastState: ContainerState;
  readonly restartCount: number;
  /** Startup probe passed, or there is none and it runs. */
  readonly started: boolean;
  /** Readiness probe passes, or there is none and it has started. */
  readonly ready: boolean;
  readonly containerId?: string;
}

export const notStartedYet: ContainerView = {
  state: { waiting: { reason: "ContainerCreating" } },
  lastState: {},
  restartCount: 0,
  started: false,
  ready: false,
};

export interface PodView {
  readonly containers: ReadonlyMap<string, ContainerView>;
  readonly initContainers: ReadonlyMap<string, ContainerView>;
  /** All init containers are done (sidecars: started). */
  readonly initialized: boolean;
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
  readonly startTime: string;
  /** The kubelet gave up on the pod for this reason. */
  readonly failed?: { readonly reason: string; readonly message: string };
}

export const isSidecar = (container: Container): boolean => container.restartPolicy === "Always";

export function podStatus(pod: Pod, view: PodView, now: string): PodStatus {
  const before = pod.status ?? {};
  const { spec } = pod;
  const containerStatuses = spec.containers.map((container) =>
    statusOf(container, view.containers, (spec.initContainers ?? []).length > 0),
  );
  const initContainerStatuses = (spec.initContainers ?? []).map((container) =>
    statusOf(container, view.initContainers, true),
  );
  const phase = phaseOf(pod, view, containerStatuses);
  const isOver = phase === "Succeeded" || phase === "Failed";
  const unready = containerStatuses.filter(({ ready }) => !ready).map(({ name }) => name);
  const unreadySidecars = (spec.initContainers ?? []).filter(
    (container) => isSidecar(container) && view.initContainers.get(container.name)?.ready !== true,
  );
  const containersReady = unready.length === 0 && unreadySidecars.length === 0 && !isOver;
  const closedGates = (spec.readinessGates ?? []).filter(
    ({ conditionType }) => before.conditions?.find(({ type }) => type === conditionType)?.status !== "True",
  );
  const why = isOver
    ? { reason: phase === "Succeeded" ? "PodCompleted" : "PodFailed" }
    : { reason: "ContainersNotReady", message: `containers with unready status: [${unready.join(" ")}]` };
  const isReady = containersReady && closedGates.length === 0;
  const readyWhy =
    containersReady && closedGates.length > 0
      ? {
          reason: "ReadinessGatesNotReady",
          message: `the status of pod readiness gate "${closedGates[0]?.conditionType}" is not "True"`,
        }
      : why;
  const uninitialized = initContainerStatuses
    .filter(({ name }) => !isInitDone(pod, name, view))
    .map(({ name }) => name);
  const initWhy = {
    reason: "ContainersNotInitialized",
    message: `containers with incomplete status: [${uninitialized.join(" ")}]`,
  };
  const ours: Condition[] = [
    condition("PodScheduled", true, {}),
    condition("PodReadyToStartContainers", view.podIps.length > 0 && !isOver, {}),
    condition(
      "Initialized",
      view.initialized,
      view.initialized && phase === "Succeeded" ? { reason: "PodCompleted" } : initWhy,
    ),
    condition("Ready", isReady, readyWhy),
    condition("ContainersReady", containersReady, why),
  ];
  const [podIP, hostIP] = [view.podIps[0], view.hostIps[0]];
  const { reason: _reason, message: _message, ...kept } = before;
  return {
    ...kept,
    phase,
    ...view.failed,
    conditions: mergeConditions(before.conditions ?? [], ours, now),
    ...(hostIP === undefined ? {} : { hostIP, hostIPs: view.hostIps.map((ip) => ({ ip })) }),
    ...(podIP === undefined ? {} : { podIP, podIPs: view.podIps.map((ip) => ({ ip })) }),
    startTime: view.startTime,
    ...(initContainerStatuses.length === 0 ? {} : { initContainerStatuses }),
    containerStatuses,
    qosClass: before.qosClass ?? qosClass(pod),
  };
}

function isInitDone(pod: Pod, name: string, view: PodView): boolean {
  const container = pod.spec.initContainers?.find((one) => one.name === name);
  const seen = view.initContainers.get(name);
  if (container !== undefined && isSidecar(container)) return seen?.started === true;
  return seen?.state.terminated?.exitCode === 0;
}

function statusOf(container: Container, views: ReadonlyMap<string, ContainerView>, hasInit: boolean): ContainerStatus {
  const { state, lastState, restartCount, started, ready, containerId } = views.get(container.name) ?? {
    ...notStartedYet,
    state: { waiting: { reason: hasInit ? "PodInitializing" : "ContainerCreating" } },
  };
  return {
    name: container.name,
    state,
    lastState,
    ready,
    started,
    restartCount,
    image: container.image,
    imageID: containerId === undefined ? "" : `local://${container.image}`,
    ...(containerId === undefined ? {} : { containerID: containerId }),
  };
}

function phaseOf(pod: Pod, view: PodView, statuses: readonly ContainerStatus[]): string {
  if (view.failed !== undefined) return "Failed";
  if (!view.initialized) {
    const broken = (pod.spec.initContainers ?? []).some((container) => {
      const seen = view.initContainers.get(container.name);
      return (seen?.state.terminated?.exitCode ?? 0) !== 0 && pod.spec.restartPolicy === "Never";
    });
    return broken ? "Failed" : "Pending";
  }
  const policy = pod.spec.restartPolicy ?? "Always";
  const ended = statuses.flatMap(({ state }) => (state.terminated === undefined ? [] : [state.terminated]));
  const hasRun = (status: ContainerStatus) =>
    status.state.running !== undefined || status.lastState.terminated !== undefined;
  if (ended.length === statuses.length && policy !== "Always") {
    if (ended.every(({ exitCode }) => exitCode === 0)) return "Succeeded";
    if (policy === "Never") return "Failed";
  }
  const isPending = statuses.some((status) => status.state.waiting !== undefined && !hasRun(status));
  return isPending ? "Pending" : "Running";
}

type Why = { readonly reason?: string; readonly message?: string };

function condition(type: string, isTrue: boolean, why: Why): Condition {
  return isTrue
    ? { type, status: "True", ...(why.reason === "PodCompleted" ? { reason: why.reason } : {}) }
    : { type, status: "False", ...why };
}

/** Ours replace those of the same type; others' stay. The time moves only when the status does. */
export function mergeConditions(before: readonly Condition[], ours: readonly Condition[], now: string): Condition[] {
  const merged = ours.map((next) => {
    const old = before.find(({ type }) => type === next.type);
    const lastTransitionTime = old?.status === next.status ? (old.lastTransitionTime ?? now) : now;
    return { ...next, lastProbeTime: null, lastTransitionTime };
  });
  const foreign = before.filter(({ type }) => !ours.some((next) => next.type === type));
  return [...foreign, ...merged];
}

function qosClass({ spec }: Pod): string {
  const all = [...spec.containers, ...(spec.initContainers ?? [])];
  const has = (container: Container) =>
    Object.keys({ ...container.resources?.requests, ...container.resources?.limits }).some(
      (name) => name === "cpu" || name === "memory",
    );
  if (!all.some(has)) return "BestEffort";
  const isGuaranteed = all.every(({ resources = {} }) =>
    ["cpu", "memory"].every((name) => {
      const limit = resources.limits?.[name];
      return limit !== undefined && (resources.requests?.[name] ?? limit) === limit;
    }),
  );
  return isGuaranteed ? "Guaranteed" : "Burstable";
}
