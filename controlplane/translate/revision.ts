import type { Meta } from "#controlplane/mesh/objects.ts";
import { revisionLabel } from "./annotations.ts";
import type { TranslateOptions } from "./options.ts";

/** An object that names a revision belongs to the control plane of that revision only. */
export function isOfRevision(
  { labels }: Pick<Meta, "labels">,
  { revision }: Pick<TranslateOptions, "revision">,
): boolean {
  const wanted = labels.get(revisionLabel);
  return wanted === undefined || revision === "" || wanted === revision;
}
