import { as, resources, toObject, type Pod, type ReplicaSet } from "../kinds.ts";
import { itself, ownerOf, startController, type Controller, type ControllerContext } from "./controller.ts";
import { availableInMs, byDispensability, claimPods, createPod, deletePod, isActive, isReady } from "./owned-pods.ts";

/** Creates at most this many pods at a go, so that a wrong template is noticed before it is repeated. */
const burst = 50;

export function startReplicaSets(context: ControllerContext): Controller {
  const { store, clock, events } = context;

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.replicaSets, namespace, name);
    if (object === undefined) return;
    const set = as<ReplicaSet>(object);
    const pods = claimPods(store, set).filter(isActive);
    let failure: unknown;
    if (set.metadata.deletionTimestamp === undefined) {
      try {
        adjust(set, pods);
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
    const againMs = writeStatus(set, pods);
    if (failure !== undefined) throw failure;
    return againMs;
  };

  const adjust = (set: ReplicaSet, pods: readonly Pod[]) => {
    const difference = (set.spec.replicas ?? 1) - pods.length;
    for (let made = 0; made < Math.min(difference, burst); made++) {
      const pod = createPod(store, { owner: set, template: set.spec.template });
      events.record(set, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    }
    for (const pod of pods.toSorted(byDispensability).slice(0, Math.max(0, -difference))) {
      deletePod(store, pod);
      events.record(set, "Normal", "SuccessfulDelete", `Deleted pod: ${pod.metadata.name}`);
    }
  };

  const writeStatus = (set: ReplicaSet, pods: readonly Pod[]): number | void => {
    const waits = pods.map((pod) => availableInMs(pod, set.spec.minReadySeconds ?? 0, clock));
    store.patchStatus(resources.replicaSets, set.metadata.namespace, set.metadata.name, (current) =>
      toObject({
        ...as<ReplicaSet>(current),
        status: {
          replicas: pods.length,
          fullyLabeledReplicas: pods.length,
          readyReplicas: pods.filter(isReady).length,
          availableReplicas: waits.filter((wait) => wait === 0).length,
          observedGeneration: set.metadata.generation ?? 1,
        },
      } as ReplicaSet),
    );
    const pending = waits.filter((wait) => wait !== undefined && wait > 0) as number[];
    return pending.length === 0 ? undefined : Math.min(...pending);
  };

  return startController(context, {
    name: "replicaset",
    reconcile,
    watches: [
      { id: resources.replicaSets, concerns: itself },
      {
        id: resources.pods,
        concerns: (object) => {
          const owners = ownerOf("ReplicaSet")(object);
          if (owners.length > 0) return owners;
          // An orphan, perhaps one that a set wants.
          const { namespace = "" } = object.metadata;
          return store
            .list(resources.replicaSets, { namespace })
            .map(({ metadata }) => [namespace, metadata.name] as const);
        },
      },
    ],
  });
}
