/** Where the demo plays. */
import { nameOf, type Cluster, type PodName } from "#e2e/support/cluster.ts";
import type { Storyteller } from "./storyteller.ts";

export interface Stage {
  readonly story: Storyteller;
  readonly cluster: Cluster;
  /** Folder of the project. */
  readonly root: string;
  /** How the reader would call kubectl. */
  readonly kubectl: string;
}

export const samples = "manifests/samples/bookshop";

export async function podOf(cluster: Cluster, app: string): Promise<PodName> {
  return nameOf(await cluster.pod(app === "legacy-client" ? "legacy" : "bookshop", app));
}
