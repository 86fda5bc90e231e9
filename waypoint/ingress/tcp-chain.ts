/** A filter chain that ends in TCP, compiled. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { NetworkLayer } from "#waypoint/layers/network-layer.ts";
import type { TcpObserver } from "#waypoint/telemetry/observers.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";

export interface TcpChain {
  readonly kind: "tcp";
  readonly name: string;
  readonly networkLayers: readonly NetworkLayer[];
  /** Name of a cluster, drawn by weight where there are several. */
  readonly pickCluster: () => TcpTarget;
  readonly hash: (connection: DownstreamConnection) => bigint | undefined;
  /** Connections tried, each to another host where there is one. */
  readonly connectAttempts: number;
  /** Without a byte either way. 0 for ever. Milliseconds. */
  readonly idleTimeoutMs: number;
  /** 0 for ever. Milliseconds. */
  readonly maxDurationMs: number;
  readonly observers: readonly TcpObserver[];
  readonly clusters: Clusters;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface TcpTarget {
  readonly cluster: string;
  readonly metadataMatch: Readonly<Record<string, unknown>> | undefined;
}
