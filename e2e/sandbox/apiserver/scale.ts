import { ApiError } from "./api-error.ts";
import { readJsonPath } from "./json-path.ts";
import type { KubeObject } from "./object-store.ts";
import type { ScalePaths } from "./resources.ts";
import { child, isObject, numberOf, type JsonObject } from "./schema.ts";

/** The `autoscaling/v1` Scale of an object. */
export function toScale(object: KubeObject, paths: ScalePaths): KubeObject {
  const spec = readJsonPath(object, paths.specReplicasPath)[0];
  const status = readJsonPath(object, paths.statusReplicasPath)[0];
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), uid, resourceVersion, creationTimestamp },
    spec: { replicas: typeof spec === "number" ? spec : 0 },
    status: { replicas: typeof status === "number" ? status : 0, selector: selectorOf(object, paths) },
  };
}

function selectorOf(object: KubeObject, { labelSelectorPath }: ScalePaths): string {
  const given = labelSelectorPath === undefined ? undefined : readJsonPath(object, labelSelectorPath)[0];
  if (typeof given === "string") return given;
  const labels = child(child(child(object, "spec"), "selector"), "matchLabels");
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${String(value)}`)
    .join(",");
}

/** The object with the number of replicas that a Scale asks for. */
export function fromScale(object: KubeObject, scale: JsonObject, { specReplicasPath }: ScalePaths): KubeObject {
  const replicas = numberOf(child(scale, "spec"), "replicas") ?? 0;
  if (!Number.isInteger(replicas) || replicas < 0) {
    const message = `Invalid value: ${replicas}: must be greater than or equal to 0`;
    const name = object.metadata.name;
    throw new ApiError("Invalid", `Scale.autoscaling "${name}" is invalid: spec.replicas: ${message}`, {
      name,
      group: "autoscaling",
      kind: "Scale",
      causes: [{ reason: "FieldValueInvalid", message, field: "spec.replicas" }],
    });
  }
  const changed = structuredClone(object);
  const version = child(scale, "metadata")["resourceVersion"];
  if (typeof version === "string" && version !== "") changed.metadata.resourceVersion = version;
  let place: JsonObject = changed;
  const steps = specReplicasPath.split(".").filter((step) => step !== "");
  const last = steps.pop() ?? "replicas";
  for (const step of steps) {
    const next = place[step];
    place = isObject(next) ? next : (place[step] = {});
  }
  place[last] = replicas;
  return changed;
}
