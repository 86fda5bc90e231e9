/** What translation finds out about a world on its way, for those who go on from there. */
import type { Workload } from "#shared/proto/gen/workload/workload_pb.js";
import type { Labels } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { TranslateOptions } from "./options.ts";
import type { ServiceInfo } from "./services.ts";
import type { Waypoints } from "./waypoints.ts";

/** A workload as it is served, with what its message does not carry. */
export interface CollectedWorkload {
  readonly workload: Workload;
  readonly labels: Labels;
  /** Going away: nothing new is sent to it. */
  readonly isTerminating: boolean;
}

export interface Collected {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  /** That of this cluster. */
  readonly network: string;
  readonly waypoints: Waypoints;
  /** Every service that is published. */
  readonly services: readonly ServiceInfo[];
  /** Every workload of this network that is served. */
  readonly workloads: readonly CollectedWorkload[];
}
