import type { ObjectStore } from "../apiserver/object-store.ts";
import { resources, type PodTemplate } from "../kinds.ts";
import { controllerReference, isControlledBy, templateHash, type Owner } from "./owned-pods.ts";

/** Label of pods, and of the revisions that they were made from. */
export const revisionLabel = "controller-revision-hash";

/** Revisions kept for `kubectl rollout undo`. */
const history = 10;

/**
 * Records the template as a ControllerRevision, which is what `kubectl rollout history` and `undo` read for daemon
 * sets and stateful sets, and answers its hash.
 */
export function recordRevision(
  store: ObjectStore,
  owner: Owner & { readonly spec: { readonly template: PodTemplate } },
): string {
  const { namespace, name } = owner.metadata;
  const hash = templateHash(owner.spec.template);
  const revisions = store
    .list(resources.controllerRevisions, namespace === undefined ? {} : { namespace })
    .filter((revision) => isControlledBy(revision, owner))
    .toSorted((a, b) => numberOf(a) - numberOf(b));
  const newest = numberOf(revisions.at(-1));
  const present = revisions.find(({ metadata }) => metadata.labels?.[revisionLabel] === hash);
  if (present === undefined) {
    store.create(resources.controllerRevisions, {
      apiVersion: "apps/v1",
      kind: "ControllerRevision",
      metadata: {
        name: `${name}-${hash}`,
        ...(namespace === undefined ? {} : { namespace }),
        labels: { ...owner.spec.template.metadata?.labels, [revisionLabel]: hash },
        ...(owner.metadata.annotations === undefined ? {} : { annotations: owner.metadata.annotations }),
        ownerReferences: [controllerReference(owner)],
      },
      data: { spec: { template: { $patch: "replace", ...structuredClone(owner.spec.template) } } },
      revision: newest + 1,
    });
    for (const { metadata } of revisions.slice(0, Math.max(0, revisions.length - history))) {
      store.delete(resources.controllerRevisions, metadata.namespace, metadata.name);
    }
  } else if (numberOf(present) < newest) {
    store.update(resources.controllerRevisions, { ...present, revision: newest + 1 });
  }
  return hash;
}

const numberOf = (revision: { [field: string]: unknown } | undefined) => Number(revision?.["revision"] ?? 0);
