import type { Controller, ControllerContext } from "./controller.ts";
import { startDaemonSets } from "./daemon-sets.ts";
import { startDeployments } from "./deployments.ts";
import { startEndpointSlices } from "./endpoint-slices.ts";
import { startJobs } from "./jobs.ts";
import { startPodGarbage } from "./pod-garbage.ts";
import { startReplicaSets } from "./replica-sets.ts";
import { startScheduler } from "./scheduler.ts";
import { startStatefulSets } from "./stateful-sets.ts";

/** Everything that makes declared objects come true, short of running containers. */
export function startControllers(context: ControllerContext): Controller {
  const controllers = [
    startScheduler(context),
    startReplicaSets(context),
    startDeployments(context),
    startDaemonSets(context),
    startStatefulSets(context),
    startJobs(context),
    startEndpointSlices(context),
    startPodGarbage(context),
  ];
  return {
    close: () => {
      for (const controller of controllers) controller.close();
    },
  };
}
