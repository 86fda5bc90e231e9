import { as, resources, type Pod } from "../kinds.ts";
import { itself, startController, type Controller, type ControllerContext } from "./controller.ts";
import { isTerminating } from "./owned-pods.ts";

/** How long the pods of a node that was deleted may wait for it to come back, as in Kubernetes. */
const quarantineMs = 40_000;

/**
 * Removes what no kubelet will ever remove: pods on their way out whose node does not exist, and all pods of a node that
 * was deleted. Pods that were written for a node that never was stay until somebody deletes them.
 */
export function startPodGarbage(context: ControllerContext): Controller {
  const { store, clock } = context;
  const deletedAtMs = new Map<string, number>();

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.pods, namespace, name);
    if (object === undefined) return;
    const pod = as<Pod>(object);
    const { nodeName } = pod.spec;
    if (nodeName === undefined || store.get(resources.nodes, undefined, nodeName) !== undefined) return;
    if (!isTerminating(pod)) {
      const sinceMs = deletedAtMs.get(nodeName);
      if (sinceMs === undefined) return;
      const leftMs = sinceMs + quarantineMs - clock.now();
      if (leftMs > 0) return leftMs;
    }
    const { uid } = pod.metadata;
    store.delete(resources.pods, namespace, name, { gracePeriodSeconds: 0, preconditions: { uid } });
  };

  const forget = store.watch(
    resources.nodes,
    ({ type, object }) => {
      if (type === "DELETED") deletedAtMs.set(object.metadata.name, clock.now());
      else deletedAtMs.delete(object.metadata.name);
    },
    { replay: true },
  );
  const controller = startController(context, {
    name: "pod-garbage",
    reconcile,
    watches: [
      { id: resources.pods, concerns: itself },
      {
        id: resources.nodes,
        concerns: ({ metadata }) =>
          store
            .list(resources.pods)
            .filter((pod) => as<Pod>(pod).spec.nodeName === metadata.name)
            .flatMap(itself),
      },
    ],
  });
  return {
    close: () => {
      forget();
      controller.close();
    },
  };
}
