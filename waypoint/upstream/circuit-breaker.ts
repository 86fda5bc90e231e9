/** Bounds of one routing priority of a cluster: requests and retries in flight. Connections are counted by the pools. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Permit } from "./clusters.ts";

export interface Thresholds {
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  /** Replaces `maxRetries`. */
  readonly retryBudget: RetryBudget | undefined;
}

export interface RetryBudget {
  /** Percent of the requests. */
  readonly percent: number;
  readonly minConcurrency: number;
  /** 0: of the requests now in flight; otherwise of those that began within so many milliseconds. */
  readonly intervalMs: number;
}

/** As Envoy does without configuration. */
export const thresholdsDefault: Thresholds = {
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequests: 1024,
  maxRetries: 3,
  retryBudget: undefined,
};

/** What the connections of this priority say. */
export interface PoolGauge {
  readonly connections: number;
  readonly pending: number;
}

const noPool: PoolGauge = { connections: 0, pending: 0 };

export class CircuitBreaker {
  #thresholds: Thresholds;
  readonly #pool: () => PoolGauge;
  readonly #recent: RecentRequests;
  /** One object each, not one for each request: it only counts. */
  readonly #request: Permit = { release: () => this.#requests-- };
  readonly #retry: Permit = { release: () => this.#retries-- };
  #requests = 0;
  #retries = 0;
  /** Turned away since the start. */
  readonly overflows = { requests: 0, retries: 0 };

  constructor(thresholds: Thresholds, clock: Clock, pool: () => PoolGauge = () => noPool) {
    this.#thresholds = thresholds;
    this.#pool = pool;
    this.#recent = new RecentRequests(clock);
  }

  /** What is admitted already stays. */
  set thresholds(thresholds: Thresholds) {
    this.#thresholds = thresholds;
  }

  get thresholds(): Thresholds {
    return this.#thresholds;
  }

  get requests(): number {
    return this.#requests;
  }

  get retries(): number {
    return this.#retries;
  }

  admitRequest(): Permit | undefined {
    const { maxRequests, retryBudget } = this.#thresholds;
    if (this.#requests >= maxRequests && this.#requests - this.#waiting() >= maxRequests) {
      this.overflows.requests++;
      return undefined;
    }
    this.#requests++;
    if (retryBudget !== undefined && retryBudget.intervalMs > 0) this.#recent.add(retryBudget.intervalMs);
    return this.#request;
  }

  admitRetry(): Permit | undefined {
    if (this.#retries >= this.maxRetries) {
      this.overflows.retries++;
      return undefined;
    }
    this.#retries++;
    return this.#retry;
  }

  /** Retries that may be in flight now. */
  get maxRetries(): number {
    const { retryBudget, maxRetries } = this.#thresholds;
    if (retryBudget === undefined) return maxRetries;
    const { percent, minConcurrency, intervalMs } = retryBudget;
    const base = intervalMs > 0 ? this.#recent.count(intervalMs) : this.#requests;
    return Math.max(Math.floor((percent * base) / 100), minConcurrency);
  }

  /** Requests that wait because no connection may be added are under the other limit, that of pending ones. */
  #waiting(): number {
    const { connections, pending } = this.#pool();
    return connections >= this.#thresholds.maxConnections ? pending : 0;
  }
}

/** Requests begun within a sliding interval, to a tenth of it. */
class RecentRequests {
  readonly #clock: Clock;
  readonly #counts = new Float64Array(10);
  /** Number of the tenth that was counted last. */
  #tenth = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(intervalMs: number): void {
    this.#forget(intervalMs);
    const slot = this.#tenth % 10;
    this.#counts[slot] = (this.#counts[slot] as number) + 1;
  }

  count(intervalMs: number): number {
    this.#forget(intervalMs);
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  #forget(intervalMs: number): void {
    const now = Math.floor((this.#clock.now() * 10) / intervalMs);
    const passed = Math.min(now - this.#tenth, 10);
    for (let i = 1; i <= passed; i++) this.#counts[(this.#tenth + i) % 10] = 0;
    // After a longer pause, or with another interval, only the newest tenth counts.
    if (passed >= 10 || passed < 0) this.#counts.fill(0);
    this.#tenth = now;
  }
}
