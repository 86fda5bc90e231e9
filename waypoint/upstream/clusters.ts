/** What the request path needs of clusters. Kept up to date by xDS; a lookup is one Map access. */
import type { Duplex } from "node:stream";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { RequestHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Host } from "./host.ts";

export interface Clusters {
  get(name: string): Cluster | undefined;
}

export interface PickContext {
  /** For consistent hashing: undefined where no hash policy yielded a value. */
  readonly hash?: bigint | undefined;
  /** Hosts tried before (retries). */
  readonly tried?: ReadonlySet<Host> | undefined;
  /** Picks again at most so often when a host was tried before. Default 1 pick. */
  readonly attempts?: number;
  /** Original destination, for ORIGINAL_DST clusters, and host name for dynamic forward proxies. */
  readonly exchange?: Exchange | undefined;
  readonly originalDestination?: { readonly ip: string; readonly port: number } | undefined;
  /** `metadata_match` of the route. */
  readonly metadataMatch?: Readonly<Record<string, unknown>> | undefined;
}

export type Pick = { readonly kind: "host"; readonly host: Host } | { readonly kind: "none"; readonly why: string };

/** How an attempt went, for outlier detection and statistics. */
export type AttemptOutcome =
  | { readonly kind: "answered"; readonly status: number; readonly grpcStatus?: number | undefined }
  | { readonly kind: "reset" }
  | { readonly kind: "connect-failure" | "timeout" };

/** A counted place under a circuit breaker. */
export interface Permit {
  release(): void;
}

export interface Cluster {
  readonly name: string;
  /** `filter_metadata` of the cluster (service host, name, namespace under `istio`). */
  readonly metadata: ReadonlyMap<string, unknown>;
  pick(context: PickContext): Pick;
  report(host: Host, outcome: AttemptOutcome): void;
  /** Undefined where the circuit breaker is open. */
  admitRequest(): Permit | undefined;
  /** Undefined where the retry budget or `max_retries` is used up. */
  admitRetry(): Permit | undefined;
  /** Sends a request to a host over its pool. Failures arrive at the reader, never as an exception. */
  send(
    host: Host,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    options: SendOptions,
  ): UpstreamStream;
  /** A raw connection for TCP chains. @throws MeshError UPSTREAM_CONNECT_FAILED */
  connect(host: Host, signal: AbortSignal): Promise<Duplex>;
}

export interface SendOptions {
  /** The client's protocol, for clusters that use the same (`use_downstream_protocol_config`). */
  readonly downstreamProtocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";
}
