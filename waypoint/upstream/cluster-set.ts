/** All clusters of this waypoint, as the control plane's Cluster and ClusterLoadAssignment resources say. */
import type { Rejection, XdsResource } from "#shared/xds/delta-client.ts";
import type { Cluster, Clusters } from "./clusters.ts";

/**
 * Fed by xDS in deltas, read by the request path. A resource compiles when it arrives; every mistake in it is reported and
 * the last good one stays in force. A cluster whose endpoints have not arrived yet makes requests wait, not fail.
 */
export class ClusterSet implements Clusters {
  /** Handler for `envoy.config.cluster.v3.Cluster`. */
  stageClusters(_resources: readonly XdsResource[], _removed: readonly string[]): readonly Rejection[] {
    throw new TypeError("on its way");
  }

  /** Handler for `envoy.config.endpoint.v3.ClusterLoadAssignment`. A removed one leaves its cluster without hosts. */
  applyAssignments(_resources: readonly XdsResource[], _removed: readonly string[]): readonly Rejection[] {
    throw new TypeError("on its way");
  }

  /** Names of the load assignments that EDS clusters want now. `onWanted` of the options says when this changes. */
  get wantedAssignments(): ReadonlySet<string> {
    throw new TypeError("on its way");
  }

  get(_name: string): Cluster | undefined {
    throw new TypeError("on its way");
  }
}
