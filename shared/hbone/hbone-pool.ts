import type { Clock } from "#shared/clock/clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import { HandshakeCutOff } from "#shared/tls/tls-client.ts";
import type { ExpectedPeer } from "#shared/tls/verify-peer.ts";
import { UnprocessedConnect, type ConnectHeaders, type HboneConnection, type Tunnel } from "./hbone-client.ts";

/** Connections are shared only between uses that agree in all of this. */
export interface TunnelKey {
  readonly source: SpiffeId;
  /** Lists in order. */
  readonly expected: ExpectedPeer;
  readonly address: { readonly ip: Ip; readonly port: number };
  /** Who the application's connection came from: two pods never share a tunnel. */
  readonly sourceIp: Ip;
}

export interface HbonePoolOptions {
  readonly clock: Clock;
  /** Makes a new connection for a key. */
  readonly dial: (key: TunnelKey) => Promise<HboneConnection>;
  /** Streams per connection. Default 100, as ztunnel's POOL_MAX_STREAMS_PER_CONNECTION. */
  readonly maxStreams?: number;
  /** How long a connection stays with no stream open. Default 300 s, as ztunnel's POOL_UNUSED_RELEASE_TIMEOUT. */
  readonly idleMs?: number;
  /** Connections held at most; beyond, the one used longest ago is retired. Default 500, as ztunnel. */
  readonly maxConnections?: number;
}

interface Pooled {
  readonly connection: HboneConnection;
  readonly shelf: Shelf;
  lastUsedMs: number;
}

/** Everything of one key. */
interface Shelf {
  readonly name: string;
  readonly key: TunnelKey;
  readonly pooled: Pooled[];
  readonly making: Making[];
}

/** A connection being made, and how many uses wait for it. */
interface Making {
  readonly connection: Promise<HboneConnection>;
  waiting: number;
}

/**
 * Tunnels to peers, shared by the connections of one pod. A first use makes the connection, everybody else who comes
 * meanwhile waits for the same one and shares its error too. Close it to break all tunnels at once.
 */
export class HbonePool implements Disposable {
  readonly #options: Required<HbonePoolOptions>;
  readonly #shelves = new Map<string, Shelf>();
  /** Least recently used first. */
  readonly #pooled = new Set<Pooled>();
  #cancelSweep: (() => void) | undefined;
  #closed = false;

  constructor(options: HbonePoolOptions) {
    this.#options = { maxStreams: 100, idleMs: 300_000, maxConnections: 500, ...options };
  }

  /** Connections that stand and may take streams. */
  get size(): number {
    return this.#pooled.size;
  }

  /**
   * Opens a tunnel on a pooled connection or a new one.
   *
   * @throws MeshError as the dialler, or as {@link HboneConnection.connect}
   */
  async open(key: TunnelKey, headers: ConnectHeaders): Promise<Tunnel> {
    try {
      return await (await this.#checkout(key)).connect(headers);
    } catch (error) {
      // The peer began to drain just now and did not look at this request: one more try, elsewhere.
      if (!(error instanceof UnprocessedConnect) || this.#closed) throw error;
      const connection = await this.#checkout(key);
      return connection.connect(headers);
    }
  }

  close(): void {
    this.#closed = true;
    this.#cancelSweep?.();
    for (const { connection } of this.#pooled) connection.destroy(poolClosed());
    this.#pooled.clear();
    this.#shelves.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A connection with room reserved for one stream. */
  async #checkout(key: TunnelKey): Promise<HboneConnection> {
    for (;;) {
      if (this.#closed) throw poolClosed();
      const shelf = this.#shelfFor(key);
      const ready = shelf.pooled.find(({ connection }) => connection.reserve());
      if (ready !== undefined) {
        this.#touch(ready);
        return ready.connection;
      }
      const making = shelf.making.find(({ waiting }) => waiting < this.#options.maxStreams) ?? this.#make(shelf);
      making.waiting++;
      const connection = await making.connection;
      if (connection.reserve()) return connection;
    }
  }

  #make(shelf: Shelf): Making {
    const done = () => {
      shelf.making.splice(shelf.making.indexOf(making), 1);
      this.#dropIfEmpty(shelf);
    };
    const making = { connection: this.#dial(shelf).finally(done), waiting: 0 };
    shelf.making.push(making);
    return making;
  }

  async #dial(shelf: Shelf): Promise<HboneConnection> {
    const connection = await this.#dialTwice(shelf.key);
    if (this.#closed) {
      connection.destroy(poolClosed());
      throw poolClosed();
    }
    if (!connection.hasRoom) {
      // Another one would be no better: everybody who waits hears of it.
      connection.destroy();
      throw new UnprocessedConnect(new Error("the peer allows none on a new connection"));
    }
    this.#add(shelf, connection);
    return connection;
  }

  /** A peer that is replaced resets who waits in its queue; the one that takes over listens at the same address. */
  async #dialTwice(key: TunnelKey): Promise<HboneConnection> {
    try {
      return await this.#options.dial(key);
    } catch (error) {
      if (!(error instanceof HandshakeCutOff) || this.#closed) throw error;
      return this.#options.dial(key);
    }
  }

  #shelfFor(key: TunnelKey): Shelf {
    const name = `${key.source}|${nameOf(key.expected)}|${key.address.ip} ${key.address.port}|${key.sourceIp}`;
    let shelf = this.#shelves.get(name);
    if (shelf === undefined) this.#shelves.set(name, (shelf = { name, key, pooled: [], making: [] }));
    return shelf;
  }

  #add(shelf: Shelf, connection: HboneConnection): void {
    const pooled: Pooled = { connection, shelf, lastUsedMs: this.#options.clock.now() };
    shelf.pooled.push(pooled);
    this.#pooled.add(pooled);
    connection.onClosed(() => this.#remove(pooled));
    connection.onStreamEnded(() => {
      if (connection.streams === 0) this.#scheduleSweep();
      pooled.lastUsedMs = this.#options.clock.now();
    });
    if (this.#pooled.size > this.#options.maxConnections) this.#retireOldest(pooled);
  }

  #touch(pooled: Pooled): void {
    // Moving to the end of the set keeps it in order of use; one connection needs no order.
    if (this.#pooled.size > 1) {
      this.#pooled.delete(pooled);
      this.#pooled.add(pooled);
    }
  }

  /** Retires the oldest without streams; if all have some, the oldest, which serves those to their end. */
  #retireOldest(newest: Pooled): void {
    const others = [...this.#pooled].filter((pooled) => pooled !== newest);
    const oldest = others.find(({ connection }) => connection.streams === 0) ?? others[0];
    if (oldest !== undefined) this.#retire(oldest);
  }

  #retire(pooled: Pooled): void {
    this.#remove(pooled);
    pooled.connection.retire();
  }

  #remove(pooled: Pooled): void {
    this.#pooled.delete(pooled);
    const { shelf } = pooled;
    const index = shelf.pooled.indexOf(pooled);
    if (index >= 0) shelf.pooled.splice(index, 1);
    this.#dropIfEmpty(shelf);
  }

  #dropIfEmpty(shelf: Shelf): void {
    if (shelf.pooled.length === 0 && shelf.making.length === 0 && this.#shelves.get(shelf.name) === shelf) {
      this.#shelves.delete(shelf.name);
    }
  }

  #scheduleSweep(delayMs = this.#options.idleMs): void {
    this.#cancelSweep ??= this.#options.clock.schedule(delayMs, () => this.#sweep());
  }

  /** Retires what was idle for long enough and comes back when the next one may be. */
  #sweep(): void {
    this.#cancelSweep = undefined;
    const nowMs = this.#options.clock.now();
    const idle = [...this.#pooled].filter(({ connection }) => connection.streams === 0);
    const due = idle.filter(({ lastUsedMs }) => nowMs - lastUsedMs >= this.#options.idleMs);
    for (const pooled of due) this.#retire(pooled);
    const waitMs = idle.filter((pooled) => !due.includes(pooled)).map(({ lastUsedMs }) => lastUsedMs - nowMs);
    if (waitMs.length > 0) this.#scheduleSweep(Math.min(...waitMs) + this.#options.idleMs);
  }
}

const nameOf = (expected: ExpectedPeer): string =>
  "trustDomains" in expected ? `any of ${expected.trustDomains.join(" ")}` : expected.join(" ");

const poolClosed = () => new MeshError("HBONE_CONNECT_FAILED", "The pod's tunnels were closed");
