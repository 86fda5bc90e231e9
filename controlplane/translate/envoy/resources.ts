/** Everything that a waypoint is told over xDS, but for addresses: pure, from one context. */
import { create } from "@bufbuild/protobuf";
import { ClusterSchema, type Cluster } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  ClusterLoadAssignmentSchema,
  type ClusterLoadAssignment,
} from "#shared/proto/gen/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema, type Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { destinationCluster, encap, ownDestinations, type BuiltCluster } from "./clusters.ts";
import type { EnvoyContext } from "./context.ts";
import { mainListener } from "./listeners.ts";

export interface EnvoyResources {
  readonly listeners: readonly Listener[];
  readonly clusters: readonly Cluster[];
  readonly endpoints: readonly ClusterLoadAssignment[];
  /** What was asked for and cannot be done, one sentence each. */
  readonly problems: readonly string[];
}

export function envoyResources(context: EnvoyContext): EnvoyResources {
  const { listener, destinations, problems } = mainListener(context);
  const built = new Map<string, BuiltCluster>();
  const add = (each: BuiltCluster): void => {
    if (!built.has(each.cluster.name)) built.set(each.cluster.name, each);
  };
  for (const service of context.served) {
    for (const destination of ownDestinations(context, service)) add(destinationCluster(context, destination));
  }
  for (const destination of destinations) add(destinationCluster(context, destination));
  if (context.attached.length > 0) add(encap(context));
  const clusters = [...built.values()];
  return {
    listeners: [create(ListenerSchema, listener)],
    clusters: clusters.map(({ cluster }) => create(ClusterSchema, cluster)),
    endpoints: clusters.flatMap(({ assignment }) =>
      assignment === undefined ? [] : [create(ClusterLoadAssignmentSchema, assignment)],
    ),
    problems: [...new Set([...problems, ...clusters.flatMap((each) => each.problems)])],
  };
}
