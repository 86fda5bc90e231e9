/** Connections of one cluster to its hosts, shared by requests. */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import type { RequestHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import type { SendOptions } from "#waypoint/upstream/clusters.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { ConnectOverflow, ConnectTimeout } from "./connect-error.ts";
import type { Connector } from "./connector.ts";
import { HostShelf, type ShelfOwner } from "./host-shelf.ts";
import { noCounts, type HttpPoolOptions, type PoolCounts } from "./pool-options.ts";
import type { OnBehalfOf } from "./transport.ts";

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

export const createHttpPool = (connector: Connector, options: HttpPoolOptions): HttpPool =>
  new SharedHttpPool(connector, options);

type Kind = HostShelf["protocol"];

/** What HTTP needs of ALPN, whatever a transport says. */
const alpnOf: Readonly<Record<Kind, readonly string[]>> = {
  "HTTP/1.1": ["http/1.1"],
  "HTTP/2": ["h2"],
  alpn: ["h2", "http/1.1"],
};

/** Everything of one host: nearly always one shelf, found without making a key. */
interface Bay {
  readonly shared: Map<Kind, HostShelf>;
  /** Under PROXY protocol a connection belongs to one client. */
  readonly owned: Map<string, HostShelf>;
}

class SharedHttpPool implements HttpPool, ShelfOwner {
  readonly clock: Clock;
  readonly options: HttpPoolOptions;
  readonly counts = noCounts();
  readonly #connector: Connector;
  readonly #bays = new Map<Host, Bay>();
  /** Also those whose host was removed. */
  readonly #shelves = new Set<HostShelf>();
  readonly #raw = new Set<Duplex>();
  readonly #closed = new AbortController();
  #isDraining = false;
  #sweepAtMs = Number.POSITIVE_INFINITY;
  #cancelSweep: (() => void) | undefined;

  constructor(connector: Connector, options: HttpPoolOptions) {
    this.#connector = connector;
    this.clock = connector.clock;
    this.options = options;
  }

  send(
    host: Host,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    options: SendOptions,
  ): UpstreamStream {
    return this.#shelfFor(host, options).send(head, endsWithHead, reader);
  }

  async connect(host: Host, signal: AbortSignal, onBehalfOf?: OnBehalfOf): Promise<Duplex> {
    const { counts, options } = this;
    if (counts.connections >= options.limits.maxConnections) {
      counts.connectionOverflows++;
      throw new ConnectOverflow(options.name);
    }
    counts.connections++;
    try {
      const both = AbortSignal.any([signal, this.#closed.signal]);
      const duplex = await this.#connector.connectHost(host, options.transport, both, { onBehalfOf });
      counts.connectionsMade++;
      this.#raw.add(duplex);
      duplex.once("close", () => {
        this.#raw.delete(duplex);
        counts.connections--;
      });
      return duplex;
    } catch (error) {
      counts.connections--;
      if (error instanceof ConnectTimeout) counts.connectTimeouts++;
      else counts.connectFailures++;
      throw error;
    }
  }

  removeHost(host: Host): void {
    const bay = this.#bays.get(host);
    if (bay === undefined) return;
    this.#bays.delete(host);
    for (const shelf of [...bay.shared.values(), ...bay.owned.values()]) shelf.drain();
  }

  drain(): void {
    this.#isDraining = true;
    for (const host of this.#bays.keys()) this.removeHost(host);
  }

  [Symbol.dispose](): void {
    this.#isDraining = true;
    this.#closed.abort(new Error("the pool was closed"));
    this.#cancelSweep?.();
    this.#bays.clear();
    for (const shelf of this.#shelves) shelf.destroy();
    for (const duplex of this.#raw) duplex.destroy();
  }

  // ---- for the shelves

  lookAt(atMs: number): void {
    if (atMs >= this.#sweepAtMs || this.#closed.signal.aborted) return;
    this.#cancelSweep?.();
    this.#sweepAtMs = atMs;
    this.#cancelSweep = this.clock.schedule(atMs - this.clock.now(), () => this.#sweep());
  }

  shelfEmpty(shelf: HostShelf): void {
    this.#shelves.delete(shelf);
    const bay = this.#bays.get(shelf.host);
    if (bay === undefined) return;
    for (const shelves of [bay.shared, bay.owned] as Map<unknown, HostShelf>[]) {
      for (const [key, known] of shelves) if (known === shelf) shelves.delete(key);
    }
    if (bay.shared.size + bay.owned.size === 0) this.#bays.delete(shelf.host);
  }

  dial({ host, protocol, onBehalfOf }: HostShelf, signal: AbortSignal): Promise<Duplex> {
    const { transport } = this.options;
    // What is configured counts, unless the answer decides how to go on.
    const isFree = transport.tls !== undefined && (protocol === "alpn" || transport.tls.alpn.length === 0);
    const alpn = isFree ? alpnOf[protocol] : undefined;
    return this.#connector.connectHost(host, transport, signal, { onBehalfOf, alpn, isForCodec: true });
  }

  #sweep(): void {
    this.#sweepAtMs = Number.POSITIVE_INFINITY;
    const nowMs = this.clock.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const shelf of this.#shelves) nextMs = Math.min(nextMs, shelf.sweep(nowMs));
    if (nextMs < Number.POSITIVE_INFINITY) this.lookAt(nextMs);
  }

  #shelfFor(host: Host, { downstreamProtocol, connection }: SendOptions): HostShelf {
    const kind = this.#kindFor(downstreamProtocol);
    let bay = this.#bays.get(host);
    if (bay === undefined) this.#bays.set(host, (bay = { shared: new Map(), owned: new Map() }));
    if (this.options.transport.proxyProtocol !== undefined && connection !== undefined) {
      const { source, destination } = connection;
      const key = `${kind} ${source.ip} ${source.port} ${destination.ip} ${destination.port}`;
      return bay.owned.get(key) ?? this.#newShelf(bay.owned, key, host, kind, connection);
    }
    return bay.shared.get(kind) ?? this.#newShelf(bay.shared, kind, host, kind, undefined);
  }

  #newShelf<Key>(
    shelves: Map<Key, HostShelf>,
    key: Key,
    host: Host,
    kind: Kind,
    onBehalfOf: OnBehalfOf | undefined,
  ): HostShelf {
    const shelf = new HostShelf(this, host, kind, onBehalfOf);
    shelves.set(key, shelf);
    this.#shelves.add(shelf);
    if (this.#isDraining) shelf.drain();
    return shelf;
  }

  #kindFor(downstream: SendOptions["downstreamProtocol"]): Kind {
    const { protocol, transport } = this.options;
    if (protocol === "downstream") return downstream === "HTTP/2" ? "HTTP/2" : "HTTP/1.1";
    // Without TLS nobody negotiates.
    return protocol === "alpn" && transport.tls === undefined ? "HTTP/1.1" : protocol;
  }
}
