import type { Meta } from "#controlplane/mesh/objects.ts";
import { revisionLabel } from "./annotations.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { TranslateOptions } from "./options.ts";

/** An object that names a revision belongs to the control plane of that revision only. */
export function isOfRevision(
  { labels }: Pick<Meta, "labels">,
  { revision }: Pick<TranslateOptions, "revision">,
): boolean {
  const wanted = labels.get(revisionLabel);
  return wanted === undefined || revision === "" || wanted === revision;
}

/**
 * Whether this control plane looks after a Gateway or a route: runs it, writes its status. Where the object names no
 * revision, its namespace may.
 */
export function isOwned(
  world: Pick<WorldView, "get">,
  meta: Pick<Meta, "labels" | "namespace">,
  options: Pick<TranslateOptions, "revision">,
): boolean {
  if (meta.labels.has(revisionLabel)) return isOfRevision(meta, options);
  const namespace = world.get("Namespace", "", meta.namespace)?.meta;
  // Empty is as good as absent there.
  return namespace === undefined || namespace.labels.get(revisionLabel) === "" || isOfRevision(namespace, options);
}
