/**
 * So many requests in any stretch of time of that length, wherever it begins: what a request takes comes back exactly one
 * window later. A caller who never stops asking gets the rate, no more and no less, from the first second on; buckets that
 * are refilled let twice as much pass at first.
 */
import type { Allowance } from "./allowance.ts";

/** So many are remembered one by one; further ones that come closer together than a 256th of the window, as one. */
const exactEntries = 256;
const resolution = 256;

export class SlidingWindow implements Allowance {
  readonly capacity: number;
  readonly #windowMs: number;
  /** When something was taken, and how much: oldest first, from `#head` on. */
  readonly #times: number[] = [];
  readonly #amounts: number[] = [];
  #head = 0;
  #taken = 0;
  /** Until then, what is taken joins the newest entry. */
  #openUntilMs = -Infinity;

  /** @param windowMs milliseconds */
  constructor(capacity: number, windowMs: number) {
    this.capacity = capacity;
    this.#windowMs = windowMs;
  }

  /** Entries in memory. */
  get size(): number {
    return this.#times.length;
  }

  tokens(nowMs: number): number {
    this.#release(nowMs);
    return this.capacity - this.#taken;
  }

  take(nowMs: number, cost = 1): boolean {
    if (this.tokens(nowMs) < cost) return false;
    this.#add(nowMs, cost);
    return true;
  }

  charge(nowMs: number, cost: number): void {
    this.#release(nowMs);
    this.#add(nowMs, cost);
  }

  untilFillMs(nowMs: number): number {
    this.#release(nowMs);
    const oldest = this.#times[this.#head];
    return oldest === undefined ? 0 : oldest + this.#windowMs - nowMs;
  }

  untilMs(nowMs: number, cost: number): number {
    let missing = cost - this.tokens(nowMs);
    if (missing <= 0) return 0;
    if (cost > this.capacity) return Infinity;
    for (let index = this.#head; index < this.#times.length; index++) {
      missing -= this.#amounts[index] as number;
      if (missing <= 0) return (this.#times[index] as number) + this.#windowMs - nowMs;
    }
    return Infinity;
  }

  #add(nowMs: number, cost: number): void {
    if (cost === 0) return;
    this.#taken += cost;
    const last = this.#times.length - 1;
    if (last - this.#head + 1 >= exactEntries && nowMs < this.#openUntilMs) {
      // What is kept as one comes back with the last of it: a little late, never early.
      this.#times[last] = this.#openUntilMs;
      this.#amounts[last] = (this.#amounts[last] as number) + cost;
      return;
    }
    this.#openUntilMs = nowMs + this.#windowMs / resolution;
    this.#times.push(nowMs);
    this.#amounts.push(cost);
  }

  #release(nowMs: number): void {
    while (this.#head < this.#times.length && (this.#times[this.#head] as number) + this.#windowMs <= nowMs) {
      this.#taken -= this.#amounts[this.#head] as number;
      this.#head++;
    }
    if (this.#head < 64 || this.#head * 2 < this.#times.length) return;
    this.#times.splice(0, this.#head);
    this.#amounts.splice(0, this.#head);
    this.#head = 0;
  }
}
