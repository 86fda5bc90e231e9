import { as, resources, type Condition, type Job, type Pod } from "../kinds.ts";
import { itself, ownerOf, startController, timestamp, type Controller, type ControllerContext } from "./controller.ts";
import { createPod, deletePod, isActive, isControlledBy } from "./owned-pods.ts";

const backoffLimitDefault = 6;
/** Between a failed pod and the next: 10 s, doubled, to six minutes, as in Kubernetes. */
const firstRetryMs = 10_000;
const lastRetryMs = 360_000;

export function startJobs(context: ControllerContext): Controller {
  const { store, clock, events } = context;

  const reconcile = (namespace: string, name: string): number | void => {
    const object = store.get(resources.jobs, namespace, name);
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return;
    const job = as<Job>(object);
    const pods = store
      .list(resources.pods, { namespace })
      .map(as<Pod>)
      .filter((pod) => isControlledBy(pod, job));
    const finished = job.status?.conditions?.find(
      ({ type, status }) => (type === "Complete" || type === "Failed") && status === "True",
    );
    if (finished !== undefined) return removeLater(job, finished);
    const active = pods.filter(isActive);
    const succeeded = pods.filter(({ status }) => status?.phase === "Succeeded");
    const failed = pods.filter(({ status }) => status?.phase === "Failed");
    const { parallelism = 1, completions, backoffLimit = backoffLimitDefault, suspend = false } = job.spec;
    const wanted = completions ?? (succeeded.length > 0 ? succeeded.length : parallelism);
    let condition: Condition | undefined;
    let againMs: number | undefined;
    if (failed.length > backoffLimit) {
      condition = {
        type: "Failed",
        status: "True",
        reason: "BackoffLimitExceeded",
        message: "Job has reached the specified backoff limit",
      };
      for (const pod of active) deletePod(store, pod);
      events.record(job, "Warning", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    } else if (succeeded.length >= wanted && active.length === 0) {
      condition = {
        type: "Complete",
        status: "True",
        reason: "CompletionsReached",
        message: "Reached expected number of succeeded pods",
      };
      events.record(job, "Normal", "Completed", "Job completed");
    } else if (suspend) for (const pod of active) deletePod(store, pod);
    else
      againMs = fill(job, { active: active.length, wanted: Math.min(parallelism, wanted - succeeded.length), failed });
    const now = timestamp(clock);
    store.patchStatus(resources.jobs, namespace, name, (current) => ({
      ...current,
      status: {
        startTime: job.status?.startTime ?? now,
        active: condition === undefined ? active.length : 0,
        ready: active.filter(({ status }) =>
          status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True"),
        ).length,
        succeeded: succeeded.length,
        failed: failed.length,
        ...(condition === undefined
          ? {}
          : { conditions: [{ ...condition, lastProbeTime: now, lastTransitionTime: now }] }),
        ...(condition?.type === "Complete" ? { completionTime: now } : {}),
      },
    }));
    return againMs;
  };

  const fill = (
    job: Job,
    { active, wanted, failed }: { active: number; wanted: number; failed: readonly Pod[] },
  ): number | undefined => {
    if (active >= wanted) return undefined;
    const lastEndMs = Math.max(0, ...failed.map((pod) => endOf(pod)));
    const delayMs = failed.length === 0 ? 0 : Math.min(lastRetryMs, firstRetryMs * 2 ** (failed.length - 1));
    const waitMs = lastEndMs + delayMs - clock.now();
    if (waitMs > 0) return waitMs;
    for (let made = active; made < wanted; made++) {
      const labels = { "batch.kubernetes.io/job-name": job.metadata.name, "job-name": job.metadata.name };
      const pod = createPod(store, { owner: job, template: job.spec.template, labels });
      events.record(job, "Normal", "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    }
    return undefined;
  };

  const removeLater = (job: Job, finished: Condition): number | void => {
    const seconds = job.spec.ttlSecondsAfterFinished;
    if (seconds === undefined) return;
    const leftMs = Date.parse(finished.lastTransitionTime ?? "") + seconds * 1000 - clock.now();
    if (leftMs > 0) return leftMs;
    store.delete(resources.jobs, job.metadata.namespace, job.metadata.name, { propagation: "Background" });
  };

  return startController(context, {
    name: "job",
    reconcile,
    watches: [
      { id: resources.jobs, concerns: itself },
      { id: resources.pods, concerns: ownerOf("Job") },
    ],
  });
}

function endOf({ status, metadata }: Pod): number {
  const ends = (status?.containerStatuses ?? []).flatMap(({ state }) => state.terminated?.finishedAt ?? []);
  return Math.max(Date.parse(metadata.creationTimestamp), ...ends.map((end) => Date.parse(end)));
}
