/** What a tunnel tells of the connection inside it, by the names under which Istio's configurations ask for it. */
import { hostPort } from "#shared/net/ip.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";

const keys = [
  "envoy.filters.listener.original_dst.local_ip",
  "envoy.filters.listener.original_dst.remote_ip",
  "io.istio.connect_authority",
  "io.istio.local_principal",
  "io.istio.peer_principal",
] as const;

export type FilterStateKey = (typeof keys)[number];

export const filterStateKeys: ReadonlySet<string> = new Set(keys);

/** The connection in the tunnel. */
export interface Tunnelled {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  /** As the client wrote it; undefined outside of tunnels. */
  readonly authority?: string | undefined;
  readonly peerPrincipal?: string | undefined;
  readonly localPrincipal?: string | undefined;
}

/** Undefined where nothing is known under that name. */
export function filterStateOf(tunnelled: Tunnelled, key: FilterStateKey): string | undefined {
  const { source, destination, authority, peerPrincipal, localPrincipal } = tunnelled;
  switch (key) {
    case "envoy.filters.listener.original_dst.local_ip":
      return hostPort(destination.ip, destination.port);
    case "envoy.filters.listener.original_dst.remote_ip":
      return hostPort(source.ip, source.port);
    case "io.istio.connect_authority":
      return authority;
    case "io.istio.local_principal":
      return localPrincipal;
    case "io.istio.peer_principal":
      return peerPrincipal;
  }
}
