/**
 * Changes that users make to what is run for their Gateway: keys of a ConfigMap, each a strategic merge patch of one
 * object, as Kubernetes merges them: maps by key, lists of named things by their name, `null` deletes, other lists are
 * replaced. Pure.
 */
import { parse } from "yaml";
import type { AppliedObject } from "./waypoint-objects.ts";

/** Keys of the ConfigMap, and the kind that each changes. */
const kindsByKey: Readonly<Record<string, string>> = {
  deployment: "Deployment",
  service: "Service",
  serviceAccount: "ServiceAccount",
  horizontalPodAutoscaler: "HorizontalPodAutoscaler",
  podDisruptionBudget: "PodDisruptionBudget",
};

/** Made only where a user asks for it, from this. */
const optionalKinds: Readonly<Record<string, (deployment: AppliedObject) => AppliedObject>> = {
  horizontalPodAutoscaler: ({ metadata }) => ({
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata,
    spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: metadata.name }, maxReplicas: 1 },
  }),
  podDisruptionBudget: ({ metadata, ["spec"]: spec }) => ({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata,
    spec: { selector: (spec as { readonly selector: unknown }).selector },
  }),
};

/** Lists whose items are merged by a key of theirs; by the name of the field. The first key that an item has counts. */
const mergeKeys: Readonly<Record<string, readonly string[]>> = {
  containers: ["name"],
  initContainers: ["name"],
  env: ["name"],
  volumes: ["name"],
  volumeMounts: ["mountPath"],
  volumeDevices: ["devicePath"],
  ports: ["containerPort", "port"],
  imagePullSecrets: ["name"],
  hostAliases: ["ip"],
  topologySpreadConstraints: ["topologyKey"],
  ownerReferences: ["uid"],
};

export type Overlaid =
  | { readonly objects: readonly AppliedObject[]; readonly problems: readonly [] }
  | { readonly objects: readonly AppliedObject[]; readonly problems: readonly [string, ...string[]] };

/** The objects as changed by `data`; where anything is wrong with it, as they were, and everything that is wrong. */
export function overlay(objects: readonly AppliedObject[], data: Readonly<Record<string, string>>): Overlaid {
  const problems: string[] = [];
  const changed = [...objects];
  for (const [key, text] of Object.entries(data)) {
    const kind = Object.hasOwn(kindsByKey, key) ? kindsByKey[key] : undefined;
    if (kind === undefined) {
      problems.push(`data.${key}: not known; write one of ${Object.keys(kindsByKey).join(", ")}`);
      continue;
    }
    const patch = readPatch(text);
    if (typeof patch === "string") {
      problems.push(`data.${key}: ${patch}`);
      continue;
    }
    problems.push(...identityChanges(patch).map((field) => `data.${key}: ${field} cannot be changed: leave it out`));
    let index = changed.findIndex((object) => object.kind === kind);
    if (index < 0) {
      const make = optionalKinds[key];
      const deployment = objects.find((object) => object.kind === "Deployment");
      if (make === undefined || deployment === undefined) continue;
      index = changed.push(make(deployment)) - 1;
    }
    changed[index] = merge(changed[index], patch, "") as AppliedObject;
  }
  const [first, ...more] = problems;
  return first === undefined ? { objects: changed, problems: [] } : { objects, problems: [first, ...more] };
}

type Plain = Readonly<Record<string, unknown>>;

const isPlain = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function readPatch(text: string): Plain | string {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 100 }) as unknown;
  } catch (thrown) {
    return `is not YAML: ${thrown instanceof Error ? (thrown.message.split("\n")[0] ?? "") : String(thrown)}`;
  }
  if (value === null || value === undefined) return {};
  return isPlain(value) ? value : "is not an object: write fields of the object to change";
}

/** What names an object, or says whose it is. */
function identityChanges(patch: Plain): readonly string[] {
  const metadata = isPlain(patch["metadata"]) ? patch["metadata"] : {};
  return [
    ...["apiVersion", "kind"].filter((field) => field in patch),
    ...["name", "namespace", "uid", "ownerReferences"]
      .filter((field) => field in metadata)
      .map((field) => `metadata.${field}`),
  ];
}

function merge(base: unknown, patch: unknown, field: string): unknown {
  if (isPlain(patch)) {
    if (patch["$patch"] === "replace") return withoutDirective(patch);
    const merged: Record<string, unknown> = isPlain(base) ? { ...base } : {};
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete merged[name];
      else if (!name.startsWith("$")) merged[name] = merge(merged[name], value, name);
    }
    return merged;
  }
  const keys = mergeKeys[field];
  if (Array.isArray(patch) && Array.isArray(base) && keys !== undefined) {
    return mergeList(base as readonly unknown[], patch as readonly unknown[], keys);
  }
  return patch;
}

function mergeList(base: readonly unknown[], patch: readonly unknown[], keys: readonly string[]): readonly unknown[] {
  const merged = [...base];
  for (const item of patch) {
    const key = isPlain(item) ? keys.find((each) => each in item) : undefined;
    const same = (other: unknown) => isPlain(item) && key !== undefined && isPlain(other) && other[key] === item[key];
    const index = merged.findIndex(same);
    if (isPlain(item) && item["$patch"] === "delete") {
      if (index >= 0) merged.splice(index, 1);
    } else if (index < 0) merged.push(item);
    else merged[index] = merge(merged[index], item, "");
  }
  return merged;
}

const withoutDirective = (patch: Plain): Plain =>
  Object.fromEntries(Object.entries(patch).filter(([name]) => name !== "$patch"));
