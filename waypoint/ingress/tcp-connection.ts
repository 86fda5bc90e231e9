/** A client's connection on a TCP chain: policies, a host of a cluster, and bytes both ways. */
import type { Http2Stream } from "node:http2";
import type { Socket } from "node:net";
import { explain } from "#shared/errors/mesh-error.ts";
import { relay, type Relay, type RelayObserver } from "#shared/hbone/relay.ts";
import type { DownstreamConnection, ResponseFlag } from "#waypoint/http/exchange.ts";
import type { Swept, Sweeper } from "#waypoint/http/sweeper.ts";
import type { ConnectionRefusal } from "#waypoint/layers/network-layer.ts";
import type { TcpConnectionFacts } from "#waypoint/telemetry/observers.ts";
import type { Cluster } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { ConnectOverflow } from "#waypoint/upstream/transport/connect-error.ts";
import type { ChainFacts } from "./chain-match.ts";
import type { Chain } from "./compiled-listener.ts";
import { LayeredConnection } from "./network-layers.ts";
import type { ServedConnection } from "./served-connection.ts";
import type { TcpChain, TcpTarget } from "./tcp-chain.ts";

/** The client's side: a socket, or the stream of a tunnel. */
export type TcpEnd = Socket | Http2Stream;

/** One connection. Tells its observers once, and `onClosed` last. */
export class TcpConnection implements ServedConnection, TcpConnectionFacts, RelayObserver, Swept {
  readonly facts: ChainFacts;
  readonly connection: DownstreamConnection;
  readonly chain: string;
  readonly startedAtMs: number;
  readonly flags = new Set<ResponseFlag>();
  cluster = "";
  host: Host | undefined;
  terminationDetails = "";
  upstreamFailure = "";
  bytesReceived = 0;
  bytesSent = 0;
  #chain: TcpChain;
  readonly #downstream: TcpEnd;
  readonly #sweeper: Sweeper;
  readonly #onClosed: (run: TcpConnection) => void;
  #layered: LayeredConnection;
  readonly #connecting = new AbortController();
  #relay: Relay | undefined;
  #isOver = false;
  #beganTick: number;
  #activeTick: number;
  #bytesAtLastSweep = 0;

  constructor(
    chain: TcpChain,
    facts: ChainFacts,
    connection: DownstreamConnection,
    downstream: TcpEnd,
    { sweeper, onClosed }: { readonly sweeper: Sweeper; readonly onClosed: (run: TcpConnection) => void },
  ) {
    this.facts = facts;
    this.#chain = chain;
    this.chain = chain.name;
    this.connection = connection;
    this.#downstream = downstream;
    this.#sweeper = sweeper;
    this.#onClosed = onClosed;
    this.startedAtMs = chain.clock.now();
    this.#beganTick = this.#activeTick = sweeper.tick;
    this.#layered = new LayeredConnection(connection, chain.networkLayers);
  }

  start(): void {
    const downstream = this.#downstream;
    downstream.on("error", onLateError);
    downstream.once("close", this.#onGone);
    for (const observer of this.#chain.observers) observer.onOpen?.(this);
    if (this.#chain.idleTimeoutMs > 0 || this.#chain.maxDurationMs > 0) this.#sweeper.add(this);
    const refusal = this.#layered.ask();
    if (refusal instanceof Promise) void refusal.then((answer) => this.#admitted(answer));
    else this.#admitted(refusal);
  }

  /** Goes on, unless policies that have changed forbid it. */
  adopt(chain: Chain): boolean {
    if (chain === this.#chain) return true;
    if (chain.kind !== "tcp") return false;
    this.#chain = chain;
    this.#layered.end();
    this.#layered = new LayeredConnection(this.connection, chain.networkLayers);
    const refusal = this.#layered.ask();
    if (refusal instanceof Promise) void refusal.then((answer) => this.#askedAgain(answer));
    else this.#askedAgain(refusal);
    return true;
  }

  #askedAgain(refusal: ConnectionRefusal | undefined): void {
    if (refusal === undefined || this.#isOver) return;
    if (refusal.flag !== undefined) this.flags.add(refusal.flag);
    this.abort(refusal.details);
  }

  /** Nobody can tell when a TCP connection is between two matters: it goes on until it is aborted. */
  leave(): void {}

  drain(): void {}

  abort(why: string): void {
    if (this.#relay !== undefined) this.#relay.abort(new Error(why));
    else this.#close(why);
  }

  sweep(tick: number): void {
    const { idleTimeoutMs, maxDurationMs } = this.#chain;
    const bytes = this.bytesReceived + this.bytesSent;
    if (bytes !== this.#bytesAtLastSweep) this.#activeTick = tick;
    this.#bytesAtLastSweep = bytes;
    if (maxDurationMs > 0 && tick - this.#beganTick >= this.#sweeper.ticks(maxDurationMs)) {
      this.flags.add("DT");
      this.abort("max_duration_timeout");
    } else if (idleTimeoutMs > 0 && tick - this.#activeTick >= this.#sweeper.ticks(idleTimeoutMs)) {
      this.flags.add("SI");
      this.abort("idle_timeout");
    }
  }

  readonly #onGone = () => {
    if (this.#relay !== undefined) return;
    this.flags.add("DC");
    this.#close("downstream_remote_disconnect");
  };

  #admitted(refusal: ConnectionRefusal | undefined): void {
    if (this.#isOver) return;
    if (refusal !== undefined) {
      if (refusal.flag !== undefined) this.flags.add(refusal.flag);
      this.#close(refusal.details);
      return;
    }
    this.#connect().catch((error: unknown) => {
      this.#chain.log.error({ chain: this.chain, error: explain(error) }, "a connection failed unexpectedly");
      this.#close("internal_error");
    });
  }

  async #connect(): Promise<void> {
    const target = this.#chain.pickCluster();
    this.cluster = target.cluster;
    const cluster = this.#chain.clusters.get(target.cluster);
    if (cluster === undefined) {
      this.flags.add("NC");
      this.#close("cluster_not_found");
      return;
    }
    const tried = new Set<Host>();
    for (let attempt = 1; attempt <= this.#chain.connectAttempts; attempt++) {
      const host = await this.#pick(cluster, target, tried);
      if (this.#isOver) return;
      if (host === undefined) {
        this.flags.add("UH");
        this.#close("no_healthy_upstream");
        return;
      }
      tried.add(host);
      if (await this.#tryHost(cluster, host)) return;
      if (this.#isOver) return;
    }
    this.flags.add("UF");
    if (this.#chain.connectAttempts > 1) this.flags.add("URX");
    this.#close("upstream_connection_failure");
  }

  async #pick(cluster: Cluster, { metadataMatch }: TcpTarget, tried: ReadonlySet<Host>): Promise<Host | undefined> {
    const { connection } = this;
    const { serverName, destination } = connection;
    for (;;) {
      const pick = cluster.pick({
        hash: cluster.hashes ? this.#chain.hash(connection) : undefined,
        tried,
        originalDestination: destination,
        metadataMatch,
        ...(serverName !== undefined && {
          dynamicHost: { host: serverName, port: this.#layered.dynamicPort ?? destination.port },
        }),
      });
      if (pick.kind === "host") return pick.host;
      if (pick.kind === "none" || this.#isOver) return undefined;
      await pick.ready;
    }
  }

  /** Whether bytes flow now, or the connection is over. */
  async #tryHost(cluster: Cluster, host: Host): Promise<boolean> {
    this.host = host;
    try {
      const upstream = (await cluster.connect(host, this.#connecting.signal, this.connection)) as TcpEnd;
      if (this.#isOver) {
        upstream.destroy();
        return true;
      }
      this.#join(upstream, host);
      return true;
    } catch (error) {
      if (this.#isOver) return true;
      this.upstreamFailure = explain(error);
      if (!(error instanceof ConnectOverflow)) return false;
      this.flags.add("UO");
      this.#close("upstream_connection_overflow");
      return true;
    }
  }

  #join(upstream: TcpEnd, host: Host): void {
    host.active += 1;
    for (const observer of this.#chain.observers) observer.onConnected?.(this);
    this.#relay = relay({ downstream: this.#downstream, upstream }, this);
  }

  // What the relay tells.

  requestBytes(bytes: number): void {
    this.bytesReceived += bytes;
  }

  responseBytes(bytes: number): void {
    this.bytesSent += bytes;
  }

  ended(error: Error | undefined): void {
    if (this.host !== undefined) this.host.active -= 1;
    this.#close(error?.message ?? "");
  }

  /** A tunnel's answer has to be on its way before its stream is reset. */
  #end(downstream: TcpEnd): void {
    if ("rstCode" in downstream) setImmediate(() => downstream.destroy());
    else downstream.destroy();
  }

  #close(details: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.terminationDetails = details;
    this.#sweeper.delete(this);
    this.#connecting.abort();
    const downstream = this.#downstream;
    downstream.off("close", this.#onGone);
    if (!downstream.destroyed) this.#end(downstream);
    this.#layered.end();
    const durationMs = this.#chain.clock.now() - this.startedAtMs;
    for (const observer of this.#chain.observers) observer.onEnd(this, durationMs);
    this.#onClosed(this);
  }
}

/** Whoever is told of the end hears it from `close`. */
const onLateError = () => {};
