import { as, resources, type DaemonSet, type Node, type Pod } from "../kinds.ts";
import { itself, ownerOf, startController, type Controller, type ControllerContext } from "./controller.ts";
import { fitsNode } from "./node-fit.ts";
import {
  availableInMs,
  claimPods,
  createPod,
  deletePod,
  isFinished,
  isReady,
  isTerminating,
  scaled,
} from "./owned-pods.ts";
import { recordRevision, revisionLabel } from "./revisions.ts";
import { daemonStep, type DaemonNode } from "./rollout.ts";

/** One pod of a daemon set on each node that it may run on. */
export function startDaemonSets(context: ControllerContext): Controller {
  const { store, clock, events } = context;

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.daemonSets, namespace, name);
    if (object === undefined) return;
    const set = as<DaemonSet>(object);
    const nodes = store.list(resources.nodes).map(as<Node>);
    const eligible = nodes
      .filter((node) => fitsNode(set.spec.template.spec, node))
      .map(({ metadata }) => metadata.name);
    const pods = claimPods(store, set);
    if (set.metadata.deletionTimestamp !== undefined) {
      writeStatus(set, "", pods, eligible);
      return;
    }
    const hash = recordRevision(store, set);
    let failure: unknown;
    try {
      act(set, hash, pods, eligible);
    } catch (error) {
      failure = error;
      events.record(
        set,
        "Warning",
        "FailedCreate",
        `Error creating: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    const againMs = writeStatus(set, hash, claimPods(store, set), eligible);
    if (failure !== undefined) throw failure;
    return againMs;
  };

  const act = (set: DaemonSet, hash: string, pods: readonly Pod[], eligible: readonly string[]) => {
    const remove = (pod: Pod) => {
      if (isTerminating(pod)) return;
      deletePod(store, pod);
      events.record(set, "Normal", "SuccessfulDelete", `Deleted pod: ${pod.metadata.name}`);
    };
    // A daemon's pod that ended is replaced; one on a node where it no longer belongs goes.
    for (const pod of pods) if (isFinished(pod) || !eligible.includes(pod.spec.nodeName ?? "")) remove(pod);
    const living = pods.filter((pod) => !isFinished(pod));
    const views = eligible.map((node) => viewOf(set, node, living, hash));
    const { maxSurge, maxUnavailable } = limitsOf(set, eligible.length);
    const step =
      set.spec.updateStrategy?.type === "OnDelete"
        ? missingOnly(views)
        : daemonStep(views, { maxSurge, maxUnavailable });
    for (const node of step.remove) {
      for (const pod of living)
        if (pod.spec.nodeName === node && pod.metadata.labels?.[revisionLabel] !== hash) remove(pod);
    }
    for (const node of step.create) {
      const isLeaving = living.some((pod) => pod.spec.nodeName === node && isTerminating(pod));
      // Without a surge the old pod's ports and files must be free first.
      if (isLeaving && maxSurge === 0) continue;
      const pod = createPod(store, {
        owner: set,
        template: set.spec.template,
        labels: { [revisionLabel]: hash },
        spec: { nodeName: node },
      });
      events.record(set, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    }
  };

  const isAvailable = (set: DaemonSet, pod: Pod) => availableInMs(pod, set.spec.minReadySeconds ?? 0, clock) === 0;

  const viewOf = (set: DaemonSet, node: string, pods: readonly Pod[], hash: string): DaemonNode => {
    const here = pods.filter((pod) => pod.spec.nodeName === node && !isTerminating(pod));
    const state = (some: readonly Pod[]) =>
      some.length === 0 ? "none" : some.some((pod) => isAvailable(set, pod)) ? "available" : "unavailable";
    return {
      node,
      fresh: state(here.filter(({ metadata }) => metadata.labels?.[revisionLabel] === hash)),
      stale: state(here.filter(({ metadata }) => metadata.labels?.[revisionLabel] !== hash)),
    };
  };

  const writeStatus = (
    set: DaemonSet,
    hash: string,
    pods: readonly Pod[],
    eligible: readonly string[],
  ): number | void => {
    const isFresh = ({ metadata }: Pod) => metadata.labels?.[revisionLabel] === hash;
    // During a surge a node has two: the older one stands for the node until it goes.
    const onNode = eligible.map((node) =>
      pods
        .filter((pod) => pod.spec.nodeName === node && !isTerminating(pod) && !isFinished(pod))
        .toSorted((a, b) => Number(isFresh(a)) - Number(isFresh(b)))
        .at(0),
    );
    const count = (test: (pod: Pod) => boolean) => onNode.filter((pod) => pod !== undefined && test(pod)).length;
    const available = count((pod) => isAvailable(set, pod));
    store.patchStatus(resources.daemonSets, set.metadata.namespace, set.metadata.name, (current) => ({
      ...current,
      status: {
        desiredNumberScheduled: eligible.length,
        currentNumberScheduled: count(() => true),
        numberMisscheduled: pods.filter((pod) => !eligible.includes(pod.spec.nodeName ?? "")).length,
        numberReady: count(isReady),
        numberAvailable: available,
        numberUnavailable: eligible.length - available,
        updatedNumberScheduled: count(isFresh),
        observedGeneration: set.metadata.generation ?? 1,
      },
    }));
    const waits = pods.map((pod) => availableInMs(pod, set.spec.minReadySeconds ?? 0, clock));
    const pending = waits.filter((wait) => wait !== undefined && wait > 0) as number[];
    return pending.length === 0 ? undefined : Math.min(...pending);
  };

  return startController(context, {
    name: "daemonset",
    reconcile,
    watches: [
      { id: resources.daemonSets, concerns: itself },
      { id: resources.pods, concerns: ownerOf("DaemonSet") },
      { id: resources.nodes, concerns: () => store.list(resources.daemonSets).flatMap(itself) },
    ],
  });
}

const missingOnly = (views: readonly DaemonNode[]) => ({
  create: views.filter(({ fresh, stale }) => fresh === "none" && stale === "none").map(({ node }) => node),
  remove: [],
});

function limitsOf({ spec }: DaemonSet, nodes: number): { maxSurge: number; maxUnavailable: number } {
  const { maxSurge = 0, maxUnavailable = 1 } = spec.updateStrategy?.rollingUpdate ?? {};
  const surge = scaled(maxSurge, nodes, "up");
  const unavailable = scaled(maxUnavailable, nodes, "up");
  return { maxSurge: surge, maxUnavailable: surge === 0 ? Math.max(1, unavailable) : unavailable };
}
