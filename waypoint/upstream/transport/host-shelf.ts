/** Connections to one host that requests may share, and the requests that wait for one. */
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { Http1ClientConnection, type Http1ClientOwner } from "#waypoint/http/http1-client.ts";
import { Http2ClientConnection, type Http2ClientOwner } from "#waypoint/http/http2-client.ts";
import type { RequestHead, ResetReason, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { reasonOfConnectError } from "./connect-error.ts";
import { PendingRequest } from "./pending-request.ts";
import type { HttpPoolOptions, PoolCounts, PoolLimits } from "./pool-options.ts";
import type { OnBehalfOf } from "./transport.ts";

/** What a shelf needs of its pool. */
export interface ShelfOwner {
  readonly clock: Clock;
  readonly options: HttpPoolOptions;
  readonly counts: PoolCounts;
  dial(shelf: HostShelf, signal: AbortSignal): Promise<Duplex>;
  /** There is nothing on it any more. */
  shelfEmpty(shelf: HostShelf): void;
  /** A connection has become idle, or old enough to be looked at at that time. */
  lookAt(atMs: number): void;
}

/** Streams that a server's HTTP/2 connection is trusted to take before it was ever heard. */
const assumedStreams = 100;

class Http1Connection extends Http1ClientConnection {
  readonly madeMs: number;
  idleSinceMs = 0;

  constructor(duplex: Duplex, owner: Http1ClientOwner, limits: PoolLimits, madeMs: number) {
    const { maxResponseHeaderBytes: maxHeadBytes, maxResponseHeaders: maxHeaders } = limits;
    super(duplex, owner, {
      ...(maxHeadBytes !== undefined && { maxHeadBytes }),
      ...(maxHeaders !== undefined && { maxHeaders }),
      ...(limits.headerCase !== undefined && { headerCase: limits.headerCase }),
    });
    this.madeMs = madeMs;
  }
}

class Http2Connection extends Http2ClientConnection {
  readonly madeMs: number;
  idleSinceMs = 0;

  constructor(
    duplex: Duplex,
    owner: Http2ClientOwner,
    clock: Clock,
    limits: PoolLimits,
    streamsBeforeSettings: number,
  ) {
    const { maxResponseHeaderBytes, maxResponseHeaders, maxConcurrentStreams, http2KeepAlive } = limits;
    super(duplex, owner, clock, {
      maxConcurrentStreams,
      streamsBeforeSettings,
      keepAlive: http2KeepAlive,
      ...(maxResponseHeaderBytes !== undefined && { maxHeaderBytes: maxResponseHeaderBytes }),
      ...(maxResponseHeaders !== undefined && { maxHeaders: maxResponseHeaders }),
    });
    this.madeMs = clock.now();
  }
}

export class HostShelf implements Http1ClientOwner, Http2ClientOwner {
  readonly host: Host;
  /** For whom its connections are made; undefined: for everybody. */
  readonly onBehalfOf: OnBehalfOf | undefined;
  /** `alpn`: the first connection will tell. */
  protocol: "HTTP/1.1" | "HTTP/2" | "alpn";
  readonly #owner: ShelfOwner;
  /** HTTP/1.1 connections without a request; the one used last is taken first, so that others may grow old. */
  readonly #idle: Http1Connection[] = [];
  readonly #http1 = new Set<Http1Connection>();
  readonly #http2 = new Set<Http2Connection>();
  readonly #pending = new Set<PendingRequest>();
  #connecting = 0;
  /** Streams that the host took on its last HTTP/2 connection. */
  #streamsKnown = assumedStreams;
  #isDraining = false;
  readonly #closed = new AbortController();
  readonly #onGone = (request: PendingRequest): void => this.#forgetPending(request);

  constructor(
    owner: ShelfOwner,
    host: Host,
    protocol: "HTTP/1.1" | "HTTP/2" | "alpn",
    onBehalfOf: OnBehalfOf | undefined,
  ) {
    this.#owner = owner;
    this.host = host;
    this.protocol = protocol;
    this.onBehalfOf = onBehalfOf;
  }

  send(head: RequestHead, endsWithHead: boolean, reader: ResponseReader): UpstreamStream {
    if (this.protocol === "HTTP/2") {
      for (const connection of this.#http2) {
        if (connection.hasRoom && (head.upgrade === undefined || connection.hasExtendedConnect)) {
          return this.#sendHttp2(connection, head, endsWithHead, reader);
        }
      }
    } else {
      for (;;) {
        const connection = this.#idle.pop();
        if (connection === undefined) break;
        if (connection.isUsable) return this.#sendHttp1(connection, head, endsWithHead, reader);
      }
    }
    return this.#enqueue(new PendingRequest(head, endsWithHead, reader, this.#onGone));
  }

  /** No connection stays longer than its requests need it. */
  drain(): void {
    this.#isDraining = true;
    for (const connection of this.#idle.splice(0)) connection.close();
    for (const connection of this.#http2) connection.close();
    this.#reportIfEmpty();
  }

  destroy(): void {
    this.#isDraining = true;
    this.#closed.abort(new Error("the pool was closed"));
    this.#failPending("local-reset", "the pool was closed");
    for (const connection of this.#http1) connection.destroy();
    for (const connection of this.#http2) connection.destroy();
  }

  /** Closes what was idle for too long or is too old. Returns when to look again. */
  sweep(nowMs: number): number {
    const { idleTimeoutMs, maxConnectionDurationMs } = this.#owner.options.limits;
    let nextMs = Number.POSITIVE_INFINITY;
    const dueMs = ({ idleSinceMs, madeMs }: Http1Connection | Http2Connection, isIdle: boolean) =>
      Math.min(
        isIdle && idleTimeoutMs > 0 ? idleSinceMs + idleTimeoutMs : Number.POSITIVE_INFINITY,
        maxConnectionDurationMs > 0 ? madeMs + maxConnectionDurationMs : Number.POSITIVE_INFINITY,
      );
    for (const connection of [...this.#http1, ...this.#http2]) {
      const isIdle = connection instanceof Http1Connection ? connection.isIdle : connection.size === 0;
      const atMs = dueMs(connection, isIdle);
      if (atMs <= nowMs) connection.close();
      else nextMs = Math.min(nextMs, atMs);
    }
    return nextMs;
  }

  // ---- requests and connections come together

  #sendHttp1(
    connection: Http1Connection,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
  ): UpstreamStream {
    const stream = connection.send(head, endsWithHead, reader);
    const { maxRequestsPerConnection } = this.#owner.options.limits;
    if (maxRequestsPerConnection > 0 && connection.exchanges >= maxRequestsPerConnection) connection.close();
    return stream;
  }

  #sendHttp2(
    connection: Http2Connection,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
  ): UpstreamStream {
    const stream = connection.send(head, endsWithHead, reader);
    const { maxRequestsPerConnection } = this.#owner.options.limits;
    if (maxRequestsPerConnection > 0 && connection.requests >= maxRequestsPerConnection) connection.close();
    return stream;
  }

  #enqueue(request: PendingRequest): PendingRequest {
    const { counts, options } = this.#owner;
    if (counts.pending >= options.limits.maxPendingRequests) {
      counts.pendingOverflows++;
      // A turn later: who sends has to get hold of the stream first.
      process.nextTick(() => request.fail("overflow", "too many requests wait for a connection"));
      return request;
    }
    this.#pending.add(request);
    counts.pending++;
    this.#grow();
    return request;
  }

  /** Makes another connection where those that come will not do. */
  #grow(): void {
    const { counts, options } = this.#owner;
    const perConnection =
      this.protocol === "HTTP/1.1" ? 1 : Math.min(this.#streamsKnown, options.limits.maxConcurrentStreams);
    while (this.#pending.size > this.#connecting * perConnection) {
      const hasNone = this.#connecting + this.#http1.size + this.#http2.size === 0;
      if (counts.connections >= options.limits.maxConnections && !hasNone) {
        counts.connectionOverflows++;
        return;
      }
      void this.#make();
    }
  }

  async #make(): Promise<void> {
    const { counts } = this.#owner;
    this.#connecting++;
    counts.connections++;
    try {
      const duplex = await this.#owner.dial(this, this.#closed.signal);
      this.#connecting--;
      if (this.#closed.signal.aborted) {
        counts.connections--;
        duplex.destroy();
        return;
      }
      counts.connectionsMade++;
      this.#attach(duplex);
    } catch (error) {
      this.#connecting--;
      counts.connections--;
      const reason = reasonOfConnectError(error);
      if (reason === "connect-timeout") counts.connectTimeouts++;
      else counts.connectFailures++;
      // Everybody who waits: a host that takes no connection has nothing to wait for, others may.
      this.#failPending(reason, explain(error));
    }
    this.#reportIfEmpty();
  }

  #attach(duplex: Duplex): void {
    const { clock, options } = this.#owner;
    if (this.protocol === "alpn") {
      const isHttp2 = duplex instanceof TLSSocket && duplex.alpnProtocol === "h2";
      this.protocol = isHttp2 ? "HTTP/2" : "HTTP/1.1";
    }
    const { maxConnectionDurationMs } = options.limits;
    if (maxConnectionDurationMs > 0) this.#owner.lookAt(clock.now() + maxConnectionDurationMs);
    if (this.protocol === "HTTP/2") {
      const connection = new Http2Connection(duplex, this, clock, options.limits, this.#streamsKnown);
      this.#http2.add(connection);
      this.connectionHasRoom(connection);
    } else {
      const connection = new Http1Connection(duplex, this, options.limits, clock.now());
      this.#http1.add(connection);
      this.#useNow(connection);
    }
    if (this.#pending.size > 0) this.#grow();
  }

  #nextPending(): PendingRequest | undefined {
    for (const request of this.#pending) {
      this.#forgetPending(request);
      return request;
    }
    return undefined;
  }

  #forgetPending(request: PendingRequest): void {
    if (this.#pending.delete(request)) this.#owner.counts.pending--;
  }

  #failPending(reason: ResetReason, detail: string): void {
    // Those who come again while they are told wait anew.
    for (const request of [...this.#pending].filter((known) => this.#pending.delete(known))) {
      this.#owner.counts.pending--;
      request.fail(reason, detail);
    }
  }

  // ---- HTTP/1.1

  /** Gives the connection to who waits, or lays it aside. */
  #useNow(connection: Http1Connection): void {
    const request = this.#nextPending();
    if (request !== undefined) {
      request.begin((head, endsWithHead, reader) => this.#sendHttp1(connection, head, endsWithHead, reader));
      return;
    }
    if (this.#isDraining) {
      connection.close();
      return;
    }
    this.#idle.push(connection);
    const { idleTimeoutMs } = this.#owner.options.limits;
    if (idleTimeoutMs === 0) return;
    connection.idleSinceMs = this.#owner.clock.now();
    this.#owner.lookAt(connection.idleSinceMs + idleTimeoutMs);
  }

  connectionIdle(connection: Http1ClientConnection): void {
    this.#useNow(connection as Http1Connection);
  }

  // ---- HTTP/2

  connectionHasRoom(connection: Http2ClientConnection): void {
    if (connection.hasSettings) this.#streamsKnown = Math.max(1, Math.min(assumedStreams, connection.maxStreams));
    while (connection.hasRoom && this.#pending.size > 0) {
      const request = this.#nextPendingFor(connection);
      if (request === undefined) break;
      const known = connection as Http2Connection;
      request.begin((head, endsWithHead, reader) => this.#sendHttp2(known, head, endsWithHead, reader));
    }
    if (connection.size > 0) return;
    if (this.#isDraining) connection.close();
    const { idleTimeoutMs } = this.#owner.options.limits;
    if (idleTimeoutMs === 0) return;
    const nowMs = this.#owner.clock.now();
    (connection as Http2Connection).idleSinceMs = nowMs;
    this.#owner.lookAt(nowMs + idleTimeoutMs);
  }

  /** A request to switch protocols waits until the server has said whether it knows how. */
  #nextPendingFor(connection: Http2ClientConnection): PendingRequest | undefined {
    for (const request of this.#pending) {
      if (request.head.upgrade !== undefined) {
        if (!connection.hasSettings) continue;
        if (!connection.hasExtendedConnect) {
          this.#failUpgrades("the upstream takes no upgrades over HTTP/2");
          continue;
        }
      }
      this.#forgetPending(request);
      return request;
    }
    return undefined;
  }

  #failUpgrades(why: string): void {
    for (const request of this.#pending) {
      if (request.head.upgrade === undefined) continue;
      this.#forgetPending(request);
      request.fail("protocol-error", why);
    }
  }

  connectionDraining(connection: Http2ClientConnection): void {
    // It counts until it is closed, but nobody looks at it any more.
    if (this.#pending.size > 0 && !connection.hasRoom) this.#grow();
  }

  // ---- either

  connectionClosed(connection: Http1ClientConnection | Http2ClientConnection): void {
    const { counts } = this.#owner;
    counts.connections--;
    if (connection instanceof Http1Connection) {
      this.#http1.delete(connection);
      const at = this.#idle.lastIndexOf(connection);
      if (at >= 0) this.#idle.splice(at, 1);
    } else {
      this.#http2.delete(connection as Http2Connection);
      // It never came to say what it knows; the next one would not either.
      if (!(connection as Http2Connection).hasSettings) this.#failUpgrades("the upstream closed the connection");
    }
    if (this.#pending.size > 0) this.#grow();
    this.#reportIfEmpty();
  }

  #reportIfEmpty(): void {
    if (this.#pending.size + this.#connecting + this.#http1.size + this.#http2.size === 0) this.#owner.shelfEmpty(this);
  }
}
