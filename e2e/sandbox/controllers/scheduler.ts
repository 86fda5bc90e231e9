import { as, resources, toObject, type Node, type Pod } from "../kinds.ts";
import { itself, startController, timestamp, type Controller, type ControllerContext } from "./controller.ts";
import { placePod } from "./node-fit.ts";
import { isFinished, isTerminating } from "./owned-pods.ts";

/** A pod that fits nowhere is looked at again when nodes or pods change, and after this long at the latest. */
const retryMs = 5_000;

export function startScheduler(context: ControllerContext): Controller {
  const { store, clock, events } = context;

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.pods, namespace, name);
    if (object === undefined) return;
    const pod = as<Pod>(object);
    if (pod.spec.nodeName !== undefined || isTerminating(pod)) return;
    const placed = store
      .list(resources.pods)
      .map(as<Pod>)
      .filter((other) => other.spec.nodeName !== undefined && !isFinished(other));
    const placement = placePod(pod, { nodes: store.list(resources.nodes).map(as<Node>), placed });
    const bound = "node" in placement ? placement.node : undefined;
    if (bound !== undefined) {
      store.update(resources.pods, toObject({ ...pod, spec: { ...pod.spec, nodeName: bound } } as Pod));
      events.record(pod, "Normal", "Scheduled", `Successfully assigned ${namespace}/${name} to ${bound}`);
    }
    const scheduled = {
      type: "PodScheduled",
      status: bound === undefined ? "False" : "True",
      ...("refused" in placement ? { reason: "Unschedulable", message: placement.refused } : {}),
      lastProbeTime: null,
      lastTransitionTime: timestamp(clock),
    };
    store.patchStatus(resources.pods, namespace, name, (current) => {
      const { status = {} } = as<Pod>(current);
      const earlier = status.conditions?.find(({ type }) => type === "PodScheduled");
      if (earlier?.status === scheduled.status && earlier.message === scheduled.message) return current;
      const others = (status.conditions ?? []).filter(({ type }) => type !== "PodScheduled");
      return { ...current, status: { ...status, conditions: [...others, scheduled] } };
    });
    if ("node" in placement) return;
    events.record(pod, "Warning", "FailedScheduling", placement.refused);
    return retryMs;
  };

  return startController(context, {
    name: "scheduler",
    reconcile,
    watches: [
      { id: resources.pods, concerns: (object) => (as<Pod>(object).spec.nodeName === undefined ? itself(object) : []) },
      {
        id: resources.nodes,
        concerns: () =>
          store
            .list(resources.pods)
            .filter((object) => as<Pod>(object).spec.nodeName === undefined)
            .flatMap(itself),
      },
    ],
  });
}
