/** Connections of one cluster to its hosts, shared by requests. */
import type { Duplex } from "node:stream";
import type { RequestHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { SendOptions } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import type { HttpPoolOptions, PoolCounts } from "./pool-options.ts";
import type { OnBehalfOf } from "./transport.ts";
import type { Connector } from "./connector.ts";

/**
 * One for each version of a cluster: when configuration changes, the cluster makes another and calls {@link drain} on
 * this one.
 */
export interface HttpPool extends Disposable {
  readonly counts: Readonly<PoolCounts>;
  /** As `Cluster.send`. */
  send(
    host: Host,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    options: SendOptions,
  ): UpstreamStream;
  /** As `Cluster.connect`: a connection for one TCP chain, counted but never shared. @throws MeshError UPSTREAM_CONNECT_FAILED */
  connect(host: Host, signal: AbortSignal, onBehalfOf?: OnBehalfOf): Promise<Duplex>;
  /** The host is gone: what is idle closes, requests in flight end in peace. */
  removeHost(host: Host): void;
  /** The same for every host. Requests that come nevertheless are served. */
  drain(): void;
  /** Breaks everything. */
  [Symbol.dispose](): void;
}

export declare function createHttpPool(connector: Connector, options: HttpPoolOptions): HttpPool;
