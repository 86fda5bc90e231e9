/** What a cluster tells its pool, and what the pool tells its cluster. */
import type { HeaderCase } from "#waypoint/http/http1-write.ts";
import type { Transport } from "./transport.ts";

export interface HttpPoolOptions {
  /** Of the cluster; for messages. */
  readonly name: string;
  readonly transport: Transport;
  /**
   * `downstream`: what the client speaks (`use_downstream_protocol_config`). `alpn`: what the server chooses in the TLS
   * handshake, HTTP/1.1 without an answer (`auto_config`).
   */
  readonly protocol: "HTTP/1.1" | "HTTP/2" | "downstream" | "alpn";
  readonly limits: PoolLimits;
}

/** All of them for the cluster as a whole, but those per connection. Read at each use: may be replaced by setters of its owner. */
export interface PoolLimits {
  /** Circuit breaker: beyond, requests wait. Like Envoy, a host without any connection may have one all the same. */
  readonly maxConnections: number;
  /** Circuit breaker: requests that wait for a connection; beyond, reset `overflow`. */
  readonly maxPendingRequests: number;
  /** 0: without bound; 1: no reuse. */
  readonly maxRequestsPerConnection: number;
  /** Streams at once on one HTTP/2 connection; the peer's own limit may be lower. */
  readonly maxConcurrentStreams: number;
  /** How long a connection stays without a request. 0: for ever. Milliseconds. */
  readonly idleTimeoutMs: number;
  /** Age at which a connection takes no more requests. 0: none. Milliseconds. */
  readonly maxConnectionDurationMs: number;
  /** PING on HTTP/2 connections; undefined: none. */
  readonly http2KeepAlive?: { readonly intervalMs: number; readonly timeoutMs: number } | undefined;
  /** Bytes and fields that an answer's head may have. Default 60 KiB, 100. */
  readonly maxResponseHeaderBytes?: number | undefined;
  readonly maxResponseHeaders?: number | undefined;
  /** How HTTP/1.1 writes names. Default `lower`. */
  readonly headerCase?: HeaderCase | undefined;
}

/** As Envoy does without configuration. */
export const poolLimitsDefault: PoolLimits = {
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequestsPerConnection: 0,
  maxConcurrentStreams: 2 ** 31 - 1,
  idleTimeoutMs: 3_600_000,
  maxConnectionDurationMs: 0,
};

/** Kept by the pool, for circuit breakers and statistics. Monotonic but for the first two. */
export interface PoolCounts {
  /** Connections that stand or are being made; raw ones for TCP chains included. */
  connections: number;
  /** Requests that wait for a connection. */
  pending: number;
  connectionsMade: number;
  connectFailures: number;
  connectTimeouts: number;
  connectionOverflows: number;
  pendingOverflows: number;
}

export const noCounts = (): PoolCounts => ({
  connections: 0,
  pending: 0,
  connectionsMade: 0,
  connectFailures: 0,
  connectTimeouts: 0,
  connectionOverflows: 0,
  pendingOverflows: 0,
});
