/** Destinations of routes as clusters of a waypoint. */
import { inspection } from "#controlplane/translate/protocol.ts";
import { clusterName, clusterOf, unknownService } from "../cluster-names.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import type { PortInfo } from "#controlplane/translate/services.ts";
import type { Target } from "./route-entry.ts";

export interface ResolvedTarget {
  readonly cluster: string;
  /** undefined: nothing in the mesh is meant, and the cluster is none. */
  readonly destination: Destination | undefined;
}

/** @param arrivedAt the port of the service whose traffic is routed */
export function resolveTarget(context: EnvoyContext, target: Target, arrivedAt: number): ResolvedTarget {
  const { hostname, subset } = target;
  if (hostname === undefined) return { cluster: unknownService, destination: undefined };
  const service = context.findService(hostname, context.waypoint.namespace);
  const [only, ...others] = service?.ports ?? [];
  const number = target.port ?? (only !== undefined && others.length === 0 ? only.port : arrivedAt);
  const port = service?.ports.find((each) => each.port === number);
  if (service === undefined || port === undefined) {
    return { cluster: clusterName("outbound", number, "http", subset, hostname), destination: undefined };
  }
  const protocol = protocolOf(port);
  return {
    cluster: clusterOf(context, service, port, protocol, subset),
    destination: { service, port, subset, protocol },
  };
}

const protocolOf = ({ protocol }: PortInfo): "http" | "tcp" => (inspection(protocol) === "tcp" ? "tcp" : "http");
