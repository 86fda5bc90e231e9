/**
 * Token buckets as Envoy configures them: full at first, `tokensPerFill` more after every whole interval since then, never
 * more than `maxTokens`. So no interval, counted from the first request, lets more pass than was written; a bucket that
 * drips continuously would admit twice as much in the first one. Filled when looked at: no timers.
 */
import type { Allowance } from "./allowance.ts";

export interface BucketRate {
  /** At least 1. */
  readonly maxTokens: number;
  readonly tokensPerFill: number;
  /** Milliseconds. */
  readonly fillIntervalMs: number;
}

/**
 * `requests` in every `perMs`, and not more than `burst` at once. A burst below the rate spreads the requests: the
 * interval becomes so much shorter.
 */
export function bucketRate(requests: number, perMs: number, burst: number = requests): BucketRate {
  return burst >= requests
    ? { maxTokens: burst, tokensPerFill: requests, fillIntervalMs: perMs }
    : { maxTokens: burst, tokensPerFill: burst, fillIntervalMs: (perMs * burst) / requests };
}

export class TokenBucket implements Allowance {
  readonly rate: BucketRate;
  #tokens: number;
  /** When it was filled last: the first request's moment and a whole number of intervals. */
  #filledMs: number;

  /** @param nowMs of any clock that does not go back; always the same one */
  constructor(rate: BucketRate, nowMs: number) {
    this.rate = rate;
    this.#tokens = rate.maxTokens;
    this.#filledMs = nowMs;
  }

  get capacity(): number {
    return this.rate.maxTokens;
  }

  /** Tokens there are now. Below zero after {@link charge}. */
  tokens(nowMs: number): number {
    const { maxTokens, tokensPerFill, fillIntervalMs } = this.rate;
    const fills = Math.floor((nowMs - this.#filledMs) / fillIntervalMs);
    if (fills > 0) {
      this.#tokens = Math.min(maxTokens, this.#tokens + fills * tokensPerFill);
      this.#filledMs += fills * fillIntervalMs;
    }
    return this.#tokens;
  }

  /** Takes `cost` tokens where there are as many. */
  take(nowMs: number, cost = 1): boolean {
    if (this.tokens(nowMs) < cost) return false;
    this.#tokens -= cost;
    return true;
  }

  /** Takes `cost` tokens whether they are there or not: what a request cost is known when it is over. */
  charge(nowMs: number, cost: number): void {
    this.#tokens = this.tokens(nowMs) - cost;
  }

  /** Milliseconds until the next filling. */
  untilFillMs(nowMs: number): number {
    this.tokens(nowMs);
    return this.rate.fillIntervalMs - (nowMs - this.#filledMs);
  }

  /** Milliseconds until there are `cost` tokens; Infinity where there never are so many. */
  untilMs(nowMs: number, cost: number): number {
    const missing = cost - this.tokens(nowMs);
    if (missing <= 0) return 0;
    if (cost > this.rate.maxTokens) return Infinity;
    const fills = Math.ceil(missing / this.rate.tokensPerFill);
    return this.untilFillMs(nowMs) + (fills - 1) * this.rate.fillIntervalMs;
  }
}
