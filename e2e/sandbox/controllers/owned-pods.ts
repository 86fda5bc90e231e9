import { createHash } from "node:crypto";
import type { Clock } from "#shared/clock/clock.ts";
import { fromSelectorObject, matchesLabels } from "../apiserver/selectors.ts";
import type { NewObject, ObjectMeta, ObjectStore, OwnerReference } from "../apiserver/object-store.ts";
import { as, resources, toObject, type LabelSelectorSpec, type Pod, type PodTemplate } from "../kinds.ts";

export interface Owner {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

export const controllerReference = ({ apiVersion, kind, metadata }: Owner): OwnerReference => ({
  apiVersion,
  kind,
  name: metadata.name,
  uid: metadata.uid,
  controller: true,
  blockOwnerDeletion: true,
});

export const isControlledBy = ({ metadata }: { metadata: ObjectMeta }, owner: Owner): boolean =>
  metadata.ownerReferences?.some(({ controller, uid }) => controller === true && uid === owner.metadata.uid) === true;

const hasController = ({ metadata }: Pod) =>
  metadata.ownerReferences?.some(({ controller }) => controller === true) === true;

export const selects = (selector: LabelSelectorSpec, labels: Readonly<Record<string, string>> | undefined): boolean =>
  matchesLabels(fromSelectorObject(selector), labels);

/**
 * The pods of a controller. A pod that has the labels but no controller becomes its own; one of its own that has lost
 * the labels is let go (what people do to look at a misbehaving pod in peace).
 */
export function claimPods(
  store: ObjectStore,
  owner: Owner & { readonly spec: { readonly selector: LabelSelectorSpec } },
): Pod[] {
  const { namespace } = owner.metadata;
  const pods = store.list(resources.pods, namespace === undefined ? {} : { namespace }).map(as<Pod>);
  return pods.flatMap((pod) => {
    const matches = selects(owner.spec.selector, pod.metadata.labels);
    if (isControlledBy(pod, owner)) return matches ? [pod] : release(store, pod, owner);
    const isFree =
      matches && !hasController(pod) && !isTerminating(pod) && owner.metadata.deletionTimestamp === undefined;
    return isFree ? [adopt(store, pod, owner)] : [];
  });
}

function adopt(store: ObjectStore, pod: Pod, owner: Owner): Pod {
  const ownerReferences = [...(pod.metadata.ownerReferences ?? []), controllerReference(owner)];
  return as<Pod>(store.update(resources.pods, toObject({ ...pod, metadata: { ...pod.metadata, ownerReferences } })));
}

function release(store: ObjectStore, pod: Pod, owner: Owner): [] {
  if (isTerminating(pod)) return [];
  const ownerReferences = (pod.metadata.ownerReferences ?? []).filter(({ uid }) => uid !== owner.metadata.uid);
  store.update(resources.pods, toObject({ ...pod, metadata: { ...pod.metadata, ownerReferences } }));
  return [];
}

export const isTerminating = ({ metadata }: Pod): boolean => metadata.deletionTimestamp !== undefined;

export const isFinished = ({ status }: Pod): boolean => status?.phase === "Succeeded" || status?.phase === "Failed";

/** Pods that count: neither over nor on their way out. */
export const isActive = (pod: Pod): boolean => !isTerminating(pod) && !isFinished(pod);

export const isReady = ({ status }: Pod): boolean =>
  status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") === true;

/** How long until a ready pod counts as available; 0 when it does. Undefined while it is not ready. */
export function availableInMs(pod: Pod, minReadySeconds: number, clock: Clock): number | undefined {
  if (!isReady(pod)) return undefined;
  const since = pod.status?.conditions?.find(({ type }) => type === "Ready")?.lastTransitionTime ?? "";
  return Math.max(0, Date.parse(since) + minReadySeconds * 1000 - clock.now());
}

/** What to delete first: unscheduled, then pending, then unready, then the newest. */
export function byDispensability(a: Pod, b: Pod): number {
  return (
    rank(a) - rank(b) ||
    -a.metadata.creationTimestamp.localeCompare(b.metadata.creationTimestamp) ||
    a.metadata.name.localeCompare(b.metadata.name)
  );
}

function rank(pod: Pod): number {
  if (pod.spec.nodeName === undefined) return 0;
  if (pod.status?.phase !== "Running") return 1;
  return isReady(pod) ? 3 : 2;
}

export interface PodWish {
  readonly owner: Owner;
  readonly template: PodTemplate;
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly spec?: Readonly<Record<string, unknown>>;
}

export function createPod(store: ObjectStore, { owner, template, name, labels, annotations, spec }: PodWish): Pod {
  const { namespace } = owner.metadata;
  const meta = template.metadata ?? {};
  const pod: NewObject = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...(name === undefined ? { generateName: `${owner.metadata.name}-` } : { name }),
      ...(namespace === undefined ? {} : { namespace }),
      labels: { ...meta.labels, ...labels },
      annotations: { ...meta.annotations, ...annotations },
      ...(meta.finalizers === undefined ? {} : { finalizers: meta.finalizers }),
      ownerReferences: [controllerReference(owner)],
    },
    spec: { ...structuredClone(template.spec), ...spec },
  };
  return as<Pod>(store.create(resources.pods, pod));
}

export function deletePod(store: ObjectStore, { metadata }: Pod): void {
  store.delete(resources.pods, metadata.namespace, metadata.name, { preconditions: { uid: metadata.uid } });
}

/** A short name for a template: equal templates, equal names, whatever the order of their fields. */
export function templateHash(template: PodTemplate): string {
  const digest = createHash("sha256").update(canonical(template)).digest();
  const letters = "bcdfghjklmnpqrstvwxz2456789";
  return Array.from(digest.subarray(0, 10), (byte) => letters[byte % letters.length]).join("");
}

export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`)
    .join(",")}}`;
}

/** `25%` of a total, or a plain number. */
export function scaled(value: number | string | undefined, total: number, round: "up" | "down"): number {
  if (value === undefined) return 0;
  if (typeof value === "number") return value;
  const match = /^(\d+)%$/u.exec(value);
  if (match === null) return Number(value) || 0;
  const exact = (Number(match[1]) * total) / 100;
  return round === "up" ? Math.ceil(exact) : Math.floor(exact);
}
