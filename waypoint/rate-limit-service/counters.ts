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

/** About 100 bytes each. */
const maxCounters = 1_000_000;

export class MemoryCounters implements Counters {
  readonly #now: () => number;
  readonly #counts = new Map<string, { count: number; readonly endsMs: number }>();
  #sweptMs = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
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
    const known = this.#counts.get(key);
    if (known !== undefined && known.endsMs > nowMs) return (known.count += hits);
    if (this.#counts.size >= maxCounters) {
      const [oldest] = this.#counts.keys();
      if (oldest !== undefined) this.#counts.delete(oldest);
    }
    this.#counts.set(key, { count: hits, endsMs: nowMs + ttlSeconds * 1000 });
    return hits;
  }

  /** Once in a while, what has ended. */
  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptMs < 10_000) return;
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

export class RedisCounters implements Counters {
  readonly #client: ReturnType<typeof createClient>;

  private constructor(client: ReturnType<typeof createClient>) {
    this.#client = client;
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
    const client = createClient({
      url,
      disableOfflineQueue: true,
      commandOptions: { timeout: redisTimeoutMs },
      socket: {
        connectTimeout: redisTimeoutMs,
        reconnectStrategy: (attempts) => Math.min(50 * 2 ** Math.min(attempts, 10), longestReconnectMs),
      },
    });
    let isDown = false;
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
    return new RedisCounters(client as ReturnType<typeof createClient>);
  }

  async add(additions: readonly Addition[]): Promise<readonly number[]> {
    const multi = this.#client.multi();
    for (const { key, hits, ttlSeconds } of additions) multi.incrBy(key, hits).expire(key, ttlSeconds);
    const replies = (await multi.execAsPipeline()) as unknown as readonly unknown[];
    return additions.map((_, index) => Number(replies[index * 2]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#client.isReady) await this.#client.close();
    else this.#client.destroy();
  }
}
