/** Names of clusters, which are those of filter chains too: one place that says how they are written. */
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { ClusterProtocol, EnvoyContext } from "./context.ts";

/** `inbound-vip`: a service that the waypoint serves. `outbound`: any other destination. */
export type Direction = "inbound-vip" | "outbound";

/** The destination of a route that nothing in the mesh is. */
export const unknownService = "UnknownService";

/** Carries connections to the workload that they were opened to. */
export const encapCluster = "encap";

/** Where tunnels to endpoints begin, in Envoy's own words an internal listener. */
export const connectOriginate = "connect_originate";

export function clusterName(
  direction: Direction,
  port: number,
  protocol: ClusterProtocol,
  subset: string,
  hostname: string,
): string {
  if (direction === "outbound") return `outbound|${port}|${subset}|${hostname}`;
  return `inbound-vip|${port}|${protocol}${subset === "" ? "" : `/${subset}`}|${hostname}`;
}

/** The cluster for a port of a service as this waypoint sees it. `subset` is empty for the whole service. */
export function clusterOf(
  context: EnvoyContext,
  service: ServiceInfo,
  port: PortInfo,
  protocol: ClusterProtocol,
  subset: string,
): string {
  const direction = context.serves(service) ? "inbound-vip" : "outbound";
  return clusterName(direction, port.port, protocol, subset, service.hostname);
}
