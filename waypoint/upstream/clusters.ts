/** What the request path needs of clusters. Kept up to date by xDS; a lookup is one Map access. */
import type { Duplex } from "node:stream";
import type { DownstreamConnection, Exchange } from "#waypoint/http/exchange.ts";
import type { RequestHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Host } from "./host.ts";
import type { RoutingPriority } from "./routing-priority.ts";

export type { RoutingPriority } from "./routing-priority.ts";

export interface Clusters {
  get(name: string): Cluster | undefined;
}

export interface PickContext {
  /** For consistent hashing ({@link Cluster.hashes}): undefined where no hash policy yielded a value; a random host then. */
  readonly hash?: bigint | undefined;
  /** Hosts tried before (retries). */
  readonly tried?: ReadonlySet<Host> | undefined;
  /** Picks in all while they fall on hosts tried before: `host_selection_retry_max_attempts` and one. Default 1. */
  readonly attempts?: number;
  /** Leaves out the priorities of hosts attempted so far, looked at anew after every so many attempts (`previous_priorities`). */
  readonly previousPriorities?: { readonly updateFrequency: number; readonly attempted: readonly Host[] } | undefined;
  /** For ORIGINAL_DST clusters that take their destination from a header, and the authority for dynamic forward proxies. */
  readonly exchange?: Exchange | undefined;
  /** For ORIGINAL_DST clusters. Default: the destination of the exchange's connection. */
  readonly originalDestination?: { readonly ip: string; readonly port: number } | undefined;
  /** For dynamic forward proxies where there is no exchange: server name and port. */
  readonly dynamicHost?: { readonly host: string; readonly port: number } | undefined;
  /** `ip:port` that a persistent session asks for; used where that host is in a state which the cluster allows. */
  readonly overrideHost?: string | undefined;
  /** `metadata_match` of the route. Clusters here have no subsets by metadata, so it chooses nothing, as in Envoy. */
  readonly metadataMatch?: Readonly<Record<string, unknown>> | undefined;
}

export type Pick =
  | { readonly kind: "host"; readonly host: Host }
  /** No healthy upstream (503 UH). */
  | { readonly kind: "none"; readonly why: string }
  /** Ask again after `ready`, which never rejects and has a deadline: endpoints are on their way, or a name is being resolved. */
  | { readonly kind: "wait"; readonly ready: Promise<void> };

/** How an attempt went, for outlier detection and statistics. A timeout on the way to a connection is a `connect-failure`. */
export type AttemptOutcome =
  | { readonly kind: "answered"; readonly status: number; readonly grpcStatus?: number | undefined }
  | { readonly kind: "reset" }
  | { readonly kind: "connect-failure" | "timeout" }
  /** A raw connection came about. {@link Cluster.connect} reports by itself; routers need not. */
  | { readonly kind: "connected" };

/** A counted place under a circuit breaker. */
export interface Permit {
  release(): void;
}

export interface Cluster {
  readonly name: string;
  /** `filter_metadata` of the cluster (service host, name, namespace under `istio`). */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** The internal listener that it stands for; undefined for clusters with hosts. */
  readonly internalListener?: string | undefined;
  /** Whether the balancer uses {@link PickContext.hash}: nobody needs to compute one otherwise. */
  readonly hashes: boolean;
  pick(context: PickContext): Pick;
  report(host: Host, outcome: AttemptOutcome): void;
  /** Undefined where the circuit breaker is open (503 UO, `x-envoy-overloaded: true`). Released once, when the request is over. */
  admitRequest(priority?: RoutingPriority): Permit | undefined;
  /** Undefined where the retry budget or `max_retries` is used up. */
  admitRetry(priority?: RoutingPriority): Permit | undefined;
  /** Sends a request to a host over its pool. Failures arrive at the reader, never as an exception. */
  send(
    host: Host,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    options: SendOptions,
  ): UpstreamStream;
  /** A raw connection for TCP chains. @throws MeshError UPSTREAM_CONNECT_FAILED */
  connect(host: Host, signal: AbortSignal, connection?: DownstreamConnection): Promise<Duplex>;
}

export interface SendOptions {
  /** The client's protocol, for clusters that use the same (`use_downstream_protocol_config`). */
  readonly downstreamProtocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";
  /** Whose request it is: what PROXY protocol upstream tells. */
  readonly connection?: DownstreamConnection | undefined;
  readonly priority?: RoutingPriority | undefined;
}
