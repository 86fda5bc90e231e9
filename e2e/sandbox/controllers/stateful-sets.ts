import { as, resources, type Pod, type StatefulSet } from "../kinds.ts";
import { itself, ownerOf, startController, type Controller, type ControllerContext } from "./controller.ts";
import { claimPods, createPod, deletePod, isFinished, isReady, isTerminating } from "./owned-pods.ts";
import { recordRevision, revisionLabel } from "./revisions.ts";

/** Pods with stable names, one after the other. Volume claims are not modelled: the sandbox has no storage. */
export function startStatefulSets(context: ControllerContext): Controller {
  const { store, events } = context;

  const reconcile = (namespace: string, name: string): void => {
    const object = store.get(resources.statefulSets, namespace, name);
    if (object === undefined) return;
    const set = as<StatefulSet>(object);
    const pods = claimPods(store, set);
    const hash = set.metadata.deletionTimestamp === undefined ? recordRevision(store, set) : "";
    let failure: unknown;
    if (set.metadata.deletionTimestamp === undefined) {
      try {
        act(set, hash, pods);
      } catch (error) {
        failure = error;
        events.record(
          set,
          "Warning",
          "FailedCreate",
          `Error creating: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
    writeStatus(set, hash, claimPods(store, set));
    if (failure !== undefined) throw failure;
  };

  const act = (set: StatefulSet, hash: string, pods: readonly Pod[]) => {
    const replicas = set.spec.replicas ?? 1;
    const isParallel = set.spec.podManagementPolicy === "Parallel";
    const byOrdinal = new Map(pods.map((pod) => [ordinalOf(pod), pod]));
    for (let ordinal = 0; ordinal < replicas; ordinal++) {
      const pod = byOrdinal.get(ordinal);
      if (pod !== undefined && isFinished(pod) && !isTerminating(pod)) deletePod(store, pod);
      if (pod === undefined) makePod(set, hash, ordinal);
      if ((pod === undefined || !isReady(pod) || isTerminating(pod)) && !isParallel) return;
    }
    const extra = pods.filter((pod) => ordinalOf(pod) >= replicas).toSorted((a, b) => ordinalOf(b) - ordinalOf(a));
    for (const pod of isParallel ? extra : extra.slice(0, 1)) if (!isTerminating(pod)) deletePod(store, pod);
    if (extra.length > 0 || set.spec.updateStrategy?.type === "OnDelete") return;
    const partition = set.spec.updateStrategy?.rollingUpdate?.partition ?? 0;
    for (let ordinal = replicas - 1; ordinal >= partition; ordinal--) {
      const pod = byOrdinal.get(ordinal);
      if (pod === undefined || isTerminating(pod)) return;
      if (pod.metadata.labels?.[revisionLabel] !== hash) {
        deletePod(store, pod);
        return;
      }
      if (!isReady(pod)) return;
    }
  };

  const makePod = (set: StatefulSet, hash: string, ordinal: number) => {
    const name = `${set.metadata.name}-${ordinal}`;
    createPod(store, {
      owner: set,
      template: set.spec.template,
      name,
      labels: {
        [revisionLabel]: hash,
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": String(ordinal),
      },
      spec: { hostname: name, ...(set.spec.serviceName === undefined ? {} : { subdomain: set.spec.serviceName }) },
    });
    events.record(
      set,
      "Normal",
      "SuccessfulCreate",
      `create Pod ${name} in StatefulSet ${set.metadata.name} successful`,
    );
  };

  const writeStatus = (set: StatefulSet, hash: string, pods: readonly Pod[]) => {
    const living = pods.filter((pod) => !isFinished(pod));
    const ready = living.filter((pod) => isReady(pod) && !isTerminating(pod)).length;
    const updated = living.filter(({ metadata }) => metadata.labels?.[revisionLabel] === hash).length;
    store.patchStatus(resources.statefulSets, set.metadata.namespace, set.metadata.name, (current) => {
      const revision = `${set.metadata.name}-${hash}`;
      const isDone = updated === (set.spec.replicas ?? 1) && ready === updated;
      const before = (current["status"] ?? {}) as { currentRevision?: string };
      return {
        ...current,
        status: {
          observedGeneration: set.metadata.generation ?? 1,
          replicas: living.length,
          readyReplicas: ready,
          availableReplicas: ready,
          currentReplicas: isDone ? updated : living.length - updated,
          updatedReplicas: updated,
          currentRevision: isDone ? revision : (before.currentRevision ?? revision),
          updateRevision: revision,
          collisionCount: 0,
        },
      };
    });
  };

  return startController(context, {
    name: "statefulset",
    reconcile,
    watches: [
      { id: resources.statefulSets, concerns: itself },
      { id: resources.pods, concerns: ownerOf("StatefulSet") },
    ],
  });
}

const ordinalOf = ({ metadata }: Pod) => Number(/-(\d+)$/u.exec(metadata.name)?.[1] ?? -1);
