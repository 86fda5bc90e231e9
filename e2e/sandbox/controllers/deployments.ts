import { as, resources, type Condition, type Deployment, type Pod, type ReplicaSet } from "../kinds.ts";
import type { NewObject } from "../apiserver/object-store.ts";
import { itself, ownerOf, startController, timestamp, type Controller, type ControllerContext } from "./controller.ts";
import { canonical, controllerReference, isControlledBy, scaled, templateHash } from "./owned-pods.ts";
import { recreateStep, rollingStep, type Resize, type SetSize } from "./rollout.ts";

const hashLabel = "pod-template-hash";
const revisionAnnotation = "deployment.kubernetes.io/revision";
/** Annotations of a deployment that say nothing about its replica sets. */
const ownAnnotations = new Set(["kubectl.kubernetes.io/last-applied-configuration", revisionAnnotation]);
const progressSecondsDefault = 600;
const historyDefault = 10;

export function startDeployments(context: ControllerContext): Controller {
  const { store, clock, events } = context;

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.deployments, namespace, name);
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return;
    const deployment = as<Deployment>(object);
    const sets = store
      .list(resources.replicaSets, { namespace })
      .map(as<ReplicaSet>)
      .filter((set) => isControlledBy(set, deployment));
    const existing = findSet(deployment, sets);
    const next = existing ?? (deployment.spec.paused === true ? undefined : createSet(deployment, sets));
    const old = sets.filter((set) => set.metadata.uid !== next?.metadata.uid).toSorted(byAge);
    if (next !== undefined) {
      if (deployment.spec.paused !== true) noteRevision(deployment, next, sets);
      apply(deployment, step(deployment, next, old), [next, ...old]);
    }
    const againMs = writeStatus(deployment, next, old);
    if (next !== undefined) dropHistory(deployment, old);
    return againMs;
  };

  const createSet = (deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet => {
    const { metadata, spec } = deployment;
    const hash = templateHash(spec.template);
    const labels = { ...spec.template.metadata?.labels, [hashLabel]: hash };
    const set: NewObject = {
      apiVersion: "apps/v1",
      kind: "ReplicaSet",
      metadata: {
        name: `${metadata.name}-${hash}`,
        ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
        labels,
        annotations: { ...inheritedAnnotations(deployment), [revisionAnnotation]: String(lastRevision(sets) + 1) },
        ownerReferences: [controllerReference(deployment)],
      },
      spec: {
        replicas: 0,
        ...(spec.minReadySeconds === undefined ? {} : { minReadySeconds: spec.minReadySeconds }),
        selector: { ...spec.selector, matchLabels: { ...spec.selector.matchLabels, [hashLabel]: hash } },
        template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
      },
    };
    return as<ReplicaSet>(store.create(resources.replicaSets, set));
  };

  /** The set of the present template is the newest revision, also when it comes back by an undo. */
  const noteRevision = (deployment: Deployment, next: ReplicaSet, sets: readonly ReplicaSet[]) => {
    const others = sets.filter(({ metadata }) => metadata.uid !== next.metadata.uid);
    const present = revisionOf(next);
    const wanted = present > lastRevision(others) ? present : lastRevision(others) + 1;
    const annotations = {
      ...next.metadata.annotations,
      ...inheritedAnnotations(deployment),
      [revisionAnnotation]: String(wanted),
    };
    if (canonical(annotations) !== canonical(next.metadata.annotations ?? {})) {
      const current = store.get(resources.replicaSets, next.metadata.namespace, next.metadata.name);
      if (current !== undefined) {
        store.update(resources.replicaSets, { ...current, metadata: { ...current.metadata, annotations } });
      }
    }
    if (deployment.metadata.annotations?.[revisionAnnotation] === String(wanted)) return;
    const current = store.get(resources.deployments, deployment.metadata.namespace, deployment.metadata.name);
    if (current === undefined) return;
    store.update(resources.deployments, {
      ...current,
      metadata: {
        ...current.metadata,
        annotations: { ...current.metadata.annotations, [revisionAnnotation]: String(wanted) },
      },
    });
  };

  const apply = (deployment: Deployment, sizes: Resize, sets: readonly ReplicaSet[]) => {
    for (const [name, replicas] of sizes) {
      const set = sets.find(({ metadata }) => metadata.name === name);
      const current = set && store.get(resources.replicaSets, set.metadata.namespace, name);
      if (set === undefined || current === undefined) continue;
      const before = set.spec.replicas ?? 0;
      store.update(resources.replicaSets, { ...current, spec: { ...set.spec, replicas } });
      const direction = replicas > before ? "up" : "down";
      events.record(
        deployment,
        "Normal",
        "ScalingReplicaSet",
        `Scaled ${direction} replica set ${name} from ${before} to ${replicas}`,
      );
    }
  };

  const step = (deployment: Deployment, next: ReplicaSet, old: readonly ReplicaSet[]): Resize => {
    const { spec } = deployment;
    const replicas = spec.replicas ?? 1;
    const active = old.filter((set) => (set.spec.replicas ?? 0) > 0);
    if (spec.paused === true) {
      // A paused rollout still scales: the newest set that runs takes up the difference.
      const others = active.reduce((sum, set) => sum + (set.spec.replicas ?? 0), 0);
      return new Map(
        [[next.metadata.name, Math.max(0, replicas - others)]].filter(
          ([, size]) => size !== (next.spec.replicas ?? 0),
        ) as [string, number][],
      );
    }
    if (spec.strategy?.type === "Recreate") {
      return recreateStep(sizeOf(next), active.map(sizeOf), replicas, countPods(old));
    }
    const limits = rollingLimits(deployment);
    return rollingStep(sizeOf(next), active.map(sizeOf), limits);
  };

  const countPods = (sets: readonly ReplicaSet[]) =>
    sets.reduce(
      (sum, set) =>
        sum +
        store
          .list(resources.pods, { namespace: set.metadata.namespace ?? "" })
          .map(as<Pod>)
          .filter((pod) => isControlledBy(pod, set)).length,
      0,
    );

  const writeStatus = (
    deployment: Deployment,
    next: ReplicaSet | undefined,
    old: readonly ReplicaSet[],
  ): number | void => {
    const fresh = (set: ReplicaSet) => {
      const object = store.get(resources.replicaSets, set.metadata.namespace, set.metadata.name);
      return object === undefined ? set : as<ReplicaSet>(object);
    };
    const newest = next === undefined ? undefined : fresh(next);
    const all = [...(newest === undefined ? [] : [newest]), ...old.map(fresh)];
    const sum = (field: "replicas" | "readyReplicas" | "availableReplicas") =>
      all.reduce((total, set) => total + (set.status?.[field] ?? 0), 0);
    const replicas = deployment.spec.replicas ?? 1;
    const available = sum("availableReplicas");
    const counts = {
      observedGeneration: deployment.metadata.generation ?? 1,
      replicas: sum("replicas"),
      updatedReplicas: newest?.status?.replicas ?? 0,
      readyReplicas: sum("readyReplicas"),
      availableReplicas: available,
      unavailableReplicas: Math.max(0, replicas - available, sum("replicas") - available),
    };
    const now = timestamp(clock);
    const isComplete = counts.updatedReplicas === replicas && counts.replicas === replicas && available >= replicas;
    const progressing = progressCondition(deployment, newest?.metadata.name ?? "", isComplete, counts);
    const isAvailable = available >= replicas - rollingLimits(deployment).maxUnavailable;
    const availability: Condition = {
      type: "Available",
      status: isAvailable ? "True" : "False",
      reason: isAvailable ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
      message: isAvailable ? "Deployment has minimum availability." : "Deployment does not have minimum availability.",
    };
    store.patchStatus(resources.deployments, deployment.metadata.namespace, deployment.metadata.name, (current) => {
      const before = as<Deployment>(current).status?.conditions ?? [];
      const conditions = [availability, progressing.condition].map((wanted) => {
        const earlier = before.find(({ type }) => type === wanted.type);
        const isSame = earlier?.status === wanted.status && earlier.reason === wanted.reason;
        return {
          ...wanted,
          lastUpdateTime: isSame && !progressing.hasMoved ? (earlier.lastUpdateTime ?? now) : now,
          lastTransitionTime: earlier?.status === wanted.status ? (earlier.lastTransitionTime ?? now) : now,
        };
      });
      return { ...current, status: { ...counts, conditions } };
    });
    return progressing.againMs;
  };

  /** Whether the rollout moves, is done, or has stood still for too long. */
  const progressCondition = (
    deployment: Deployment,
    set: string,
    isComplete: boolean,
    counts: { replicas: number; updatedReplicas: number; readyReplicas: number; availableReplicas: number },
  ): { condition: Condition; hasMoved: boolean; againMs: number | undefined } => {
    const before = deployment.status;
    const earlier = before?.conditions?.find(({ type }) => type === "Progressing");
    const hasMoved =
      counts.updatedReplicas > (before?.updatedReplicas ?? 0) ||
      counts.readyReplicas > (before?.readyReplicas ?? 0) ||
      counts.availableReplicas > (before?.availableReplicas ?? 0) ||
      counts.replicas < (before?.replicas ?? 0) ||
      deployment.metadata.generation !== before?.observedGeneration;
    const condition = (status: string, reason: string, message: string): Condition => ({
      type: "Progressing",
      status,
      reason,
      message,
    });
    if (isComplete) {
      const done = condition("True", "NewReplicaSetAvailable", `ReplicaSet "${set}" has successfully progressed.`);
      return { condition: done, hasMoved: false, againMs: undefined };
    }
    const limitMs = (deployment.spec.progressDeadlineSeconds ?? progressSecondsDefault) * 1000;
    const sinceMs =
      hasMoved || earlier?.lastUpdateTime === undefined ? clock.now() : Date.parse(earlier.lastUpdateTime);
    const leftMs = sinceMs + limitMs - clock.now();
    if (deployment.spec.paused === true) {
      return {
        condition: condition("Unknown", "DeploymentPaused", "Deployment is paused"),
        hasMoved: false,
        againMs: undefined,
      };
    }
    // What was complete and lost a pod is repaired, not rolled out.
    if (earlier?.reason === "NewReplicaSetAvailable" && counts.updatedReplicas === counts.replicas && !hasMoved) {
      return { condition: earlier, hasMoved: false, againMs: undefined };
    }
    if (leftMs <= 0) {
      const late = condition("False", "ProgressDeadlineExceeded", `ReplicaSet "${set}" has timed out progressing.`);
      return { condition: late, hasMoved: false, againMs: undefined };
    }
    return {
      condition: condition("True", "ReplicaSetUpdated", `ReplicaSet "${set}" is progressing.`),
      hasMoved,
      againMs: leftMs,
    };
  };

  const dropHistory = (deployment: Deployment, old: readonly ReplicaSet[]) => {
    const limit = deployment.spec.revisionHistoryLimit ?? historyDefault;
    const idle = old.filter((set) => (set.spec.replicas ?? 0) === 0 && (set.status?.replicas ?? 0) === 0);
    const excess = idle.toSorted((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, idle.length - limit));
    for (const { metadata } of excess) store.delete(resources.replicaSets, metadata.namespace, metadata.name);
  };

  return startController(context, {
    name: "deployment",
    reconcile,
    watches: [
      { id: resources.deployments, concerns: itself },
      { id: resources.replicaSets, concerns: ownerOf("Deployment") },
      {
        // Recreate waits for the last old pod to be gone.
        id: resources.pods,
        concerns: (pod) =>
          ownerOf("ReplicaSet")(pod).flatMap(([namespace, name]) => {
            const set = store.get(resources.replicaSets, namespace, name);
            return set === undefined ? [] : ownerOf("Deployment")(set);
          }),
      },
    ],
  });
}

const byAge = (a: ReplicaSet, b: ReplicaSet) =>
  revisionOf(a) - revisionOf(b) || a.metadata.name.localeCompare(b.metadata.name);
const revisionOf = ({ metadata }: ReplicaSet) => Number(metadata.annotations?.[revisionAnnotation] ?? 0);
const lastRevision = (sets: readonly ReplicaSet[]) => Math.max(0, ...sets.map(revisionOf));
const sizeOf = ({ metadata, spec, status }: ReplicaSet): SetSize => ({
  name: metadata.name,
  wanted: spec.replicas ?? 0,
  available: status?.availableReplicas ?? 0,
});

/** The set whose template is the deployment's, but for the label that names the template. */
function findSet({ spec }: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  const wanted = canonical(spec.template);
  return sets.toSorted(byAge).find((set) => {
    const { [hashLabel]: _, ...labels } = set.spec.template.metadata?.labels ?? {};
    return canonical({ ...set.spec.template, metadata: { ...set.spec.template.metadata, labels } }) === wanted;
  });
}

function inheritedAnnotations({ metadata }: Deployment): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata.annotations ?? {}).filter(([key]) => !ownAnnotations.has(key)));
}

export function rollingLimits({ spec }: Deployment): { replicas: number; maxSurge: number; maxUnavailable: number } {
  const replicas = spec.replicas ?? 1;
  if (spec.strategy?.type === "Recreate") return { replicas, maxSurge: 0, maxUnavailable: replicas };
  const { maxSurge = "25%", maxUnavailable = "25%" } = spec.strategy?.rollingUpdate ?? {};
  const surge = scaled(maxSurge, replicas, "up");
  const unavailable = scaled(maxUnavailable, replicas, "down");
  // Both zero would never move.
  return { replicas, maxSurge: surge, maxUnavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}
