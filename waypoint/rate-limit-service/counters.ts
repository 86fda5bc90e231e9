/** Where requests are counted: in this process, or in Redis for several. Windows are fixed, as the protocol's units are. */
import { createClient } from "redis";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";

export interface Addition {
  /** Names the limit, the caller and the window. */
  readonly key: string;
  readonly hits: number;
  /** Until the window ends. */
  readonly ttlSeconds: number;
}

export interface Counters extends AsyncDisposable {
  /** Adds to each and tells what is there then, in this order. @throws where it cannot be known */
  add(additions: readonly Addition[]): Promise<readonly number[]>;
}

/** About 400 bytes each. */
const mostCounters = 250_000;

export class MemoryCounters implements Counters {
  readonly #now: () => number;
  readonly #most: number;
  /** Those asked for last are last. */
  readonly #counts = new Map<string, { count: number; readonly endsMs: number }>();
  #sweptMs = 0;

  constructor(now: () => number = Date.now, most = mostCounters) {
    this.#now = now;
    this.#most = most;
  }

  add(additions: readonly Addition[]): Promise<readonly number[]> {
    const nowMs = this.#now();
    this.#sweep(nowMs);
    return Promise.resolve(additions.map((each) => this.#add(each, nowMs)));
  }

  get size(): number {
    return this.#counts.size;
  }

  #add({ key, hits, ttlSeconds }: Addition, nowMs: number): number {
    let counter = this.#counts.get(key);
    // Of ten thousand callers who come once, none takes the place of one who keeps coming.
    if (counter !== undefined) this.#counts.delete(key);
    if (counter === undefined || counter.endsMs <= nowMs) {
      if (hits === 0) return 0;
      counter = { count: 0, endsMs: nowMs + ttlSeconds * 1_000 };
      if (this.#counts.size >= this.#most) {
        const [oldest] = this.#counts.keys();
        if (oldest !== undefined) this.#counts.delete(oldest);
      }
    }
    this.#counts.set(key, counter);
    return (counter.count += hits);
  }

  /** Once in a while, what has ended; also where the clock was set back. */
  #sweep(nowMs: number): void {
    if (Math.abs(nowMs - this.#sweptMs) < 10_000) return;
    this.#sweptMs = nowMs;
    for (const [key, { endsMs }] of this.#counts) if (endsMs <= nowMs) this.#counts.delete(key);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#counts.clear();
    return Promise.resolve();
  }
}

/** An answer later than this helps nobody: callers wait some ten milliseconds. */
const redisTimeoutMs = 1_000;
const longestReconnectMs = 2_000;
/** While it says nothing for so long, nobody else is made to wait for it. */
const patienceMs = 300;
/** A Redis that says nothing for so long while it is asked gets a new connection. */
const silenceMs = 3_000;
/** Commands that wait for their answers: two for each counter. Beyond that it fails at once. */
const mostWaiting = 20_000;

type Client = ReturnType<typeof createClient>;

export class RedisCounters implements Counters {
  readonly #open: () => Client;
  #client: Client;
  /** When it was opened or said something last. */
  #heardMs = performance.now();
  #waiting = 0;
  /** Since when those who wait have heard nothing. */
  #silentSinceMs = 0;

  private constructor(open: () => Client) {
    this.#open = open;
    this.#client = open();
  }

  /**
   * Connects in the background, and again whenever the connection is lost; meanwhile every question fails at once.
   *
   * @param url `redis://[user:password@]host:port[/database]`, or `rediss://` with TLS
   * @throws MeshError CONFIG_INVALID where it is no such address
   */
  static open(url: string, log: Logger): RedisCounters {
    if (!URL.canParse(url) || !["redis:", "rediss:"].includes(new URL(url).protocol)) {
      throw new MeshError("CONFIG_INVALID", `Cannot use REDIS_URL="${url}": write redis://host:port`);
    }
    let isDown = false;
    return new RedisCounters(() => {
      const client = createClient({
        url,
        disableOfflineQueue: true,
        commandsQueueMaxLength: mostWaiting,
        socket: {
          connectTimeout: redisTimeoutMs,
          reconnectStrategy: (attempts) => Math.min(50 * 2 ** Math.min(attempts, 10), longestReconnectMs),
        },
      });
      client.on("error", (error: unknown) => {
        if (!isDown) log.warn({ error: explain(error) }, "Redis cannot be reached: requests get what onError says");
        isDown = true;
      });
      client.on("ready", () => {
        if (isDown) log.info({}, "Redis can be reached again");
        isDown = false;
      });
      client.connect().catch(() => {
        // Told above, and tried again.
      });
      return client as Client;
    });
  }

  async add(additions: readonly Addition[]): Promise<readonly number[]> {
    if (this.#waiting > 0 && performance.now() - this.#silentSinceMs > patienceMs) {
      throw new Error("Redis does not answer");
    }
    const multi = this.#client.multi();
    for (const { key, hits, ttlSeconds } of additions) multi.incrBy(key, hits).expire(key, ttlSeconds);
    const replies = await this.#inTime(multi.execAsPipeline());
    return additions.map((_, index) => {
      const count = Number((replies as readonly unknown[])[index * 2]);
      if (!Number.isFinite(count)) throw new Error("Redis answered with something that is no number");
      return count;
    });
  }

  /** The client's own deadline ends when a command has been written. */
  async #inTime<T>(replies: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>();
    if (this.#waiting++ === 0) this.#silentSinceMs = performance.now();
    const giveUp = () => {
      if (performance.now() - this.#heardMs > silenceMs) this.#renew();
      late.reject(new Error(`Redis did not answer within ${redisTimeoutMs} ms`));
    };
    // Where we had no time to look, an answer may have come: it is read between the two.
    const timer = setTimeout(() => setImmediate(giveUp), redisTimeoutMs);
    try {
      const found = await Promise.race([replies, late.promise]);
      this.#silentSinceMs = this.#heardMs = performance.now();
      return found;
    } finally {
      this.#waiting--;
      clearTimeout(timer);
    }
  }

  /** What waits on the old connection fails with it. */
  #renew(): void {
    const former = this.#client;
    this.#heardMs = performance.now();
    this.#client = this.#open();
    former.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const client = this.#client;
    const closed = client.isReady ? client.close() : undefined;
    const timer = setTimeout(() => client.destroy(), redisTimeoutMs);
    await closed?.catch(() => {
      // Gone already.
    });
    clearTimeout(timer);
    if (client.isOpen) client.destroy();
  }
}
