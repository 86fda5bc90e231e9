import { ApiError, conflict, notFound } from "./api-error.ts";
import type { Clock } from "#shared/clock/clock.ts";
import type { KubeObject, MemoryObjectStore } from "./object-store.ts";
import { ids } from "./resources.ts";
import { child, objectsOf, textOf, type JsonObject } from "./schema.ts";
import { readDeleteOptions } from "./write-objects.ts";

const success: JsonObject = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 };

/** `pods/<name>/binding`: what a scheduler writes. */
export function bindPod(pod: KubeObject, body: JsonObject, store: MemoryObjectStore, clock: Clock): JsonObject {
  const node = textOf(child(body, "target"), "name") ?? "";
  if (node === "") throw new ApiError("BadRequest", 'Binding "" is invalid: target.name: Required value');
  const { name, namespace } = pod.metadata;
  if (textOf(child(pod, "spec"), "nodeName") !== undefined) {
    throw conflict(
      ids.pods,
      name,
      `pod ${name} is already assigned to node "${String(child(pod, "spec")["nodeName"])}"`,
    );
  }
  if (pod.metadata.deletionTimestamp !== undefined)
    throw conflict(ids.pods, name, `pod ${name} is being deleted, cannot be assigned to a host`);
  const bound = structuredClone(pod);
  bound["spec"] = { ...child(bound, "spec"), nodeName: node };
  store.update(ids.pods, bound);
  const lastTransitionTime = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
  store.patchStatus(ids.pods, namespace, name, (object) => {
    const status = child(object, "status");
    const others = objectsOf(status, "conditions").filter((condition) => condition["type"] !== "PodScheduled");
    const scheduled = { type: "PodScheduled", status: "True", lastProbeTime: null, lastTransitionTime };
    return { ...object, status: { ...status, conditions: [...others, scheduled] } };
  });
  return success;
}

/** `pods/<name>/eviction`: a delete that a disruption budget may refuse. */
export function evictPod(
  pod: KubeObject,
  body: JsonObject,
  query: URLSearchParams,
  store: MemoryObjectStore,
): JsonObject {
  const { namespace, name, labels = {} } = pod.metadata;
  const budgets = store.list(
    { group: "policy", resource: "poddisruptionbudgets" },
    namespace === undefined ? {} : { namespace },
  );
  const blocking = budgets.find((budget) => {
    const wanted = Object.entries(child(child(child(budget, "spec"), "selector"), "matchLabels"));
    const matches = wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value);
    return matches && child(budget, "status")["disruptionsAllowed"] === 0;
  });
  if (blocking !== undefined) {
    throw new ApiError("TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", {
      causes: [
        {
          reason: "DisruptionBudget",
          message: `The disruption budget ${blocking.metadata.name} does not allow evicting pods currently`,
        },
      ],
    });
  }
  store.delete(ids.pods, namespace, name, readDeleteOptions(child(body, "deleteOptions"), query));
  return success;
}

/** Which container a request means: the named one, the annotated default, or the only one. Throws when it is unclear. */
export function chooseContainer(pod: KubeObject, asked: string | null): string {
  const spec = child(pod, "spec");
  const named = (list: string) => objectsOf(spec, list).map((container) => textOf(container, "name") ?? "");
  const [containers, all] = [
    named("containers"),
    [...named("initContainers"), ...named("containers"), ...named("ephemeralContainers")],
  ];
  if (asked !== null && asked !== "") {
    if (all.includes(asked)) return asked;
    throw new ApiError("BadRequest", `container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  const preferred = pod.metadata.annotations?.["kubectl.kubernetes.io/default-container"];
  if (preferred !== undefined && all.includes(preferred)) return preferred;
  const [only, ...others] = containers;
  if (only !== undefined && others.length === 0) return only;
  throw new ApiError(
    "BadRequest",
    `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${all.join(" ")}]`,
  );
}

/** The pod of a request for its logs or a stream; it must have a node that runs it. */
export function runningPod(
  store: MemoryObjectStore,
  namespace: string | undefined,
  name: string | undefined,
): KubeObject {
  const pod = store.get(ids.pods, namespace, name ?? "");
  if (pod === undefined) throw notFound(ids.pods, name ?? "");
  if (textOf(child(pod, "spec"), "nodeName") === undefined) {
    throw new ApiError("BadRequest", `pod ${pod.metadata.name} does not have a host assigned`);
  }
  return pod;
}
