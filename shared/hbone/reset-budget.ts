import type { Clock } from "#shared/clock/clock.ts";

/** A burst of a second's worth of short connections, then this many a second. */
const burst = 2_000;
const perSecond = 500;

/**
 * How often one client may open a stream and reset it before it was answered, which frees its place at once while we
 * have already begun to work for it (CVE-2023-44487). Streams that are reset after their answer do not count: that is
 * how the connections of applications end that close by a reset, and there may be thousands of those a second.
 */
export class ResetBudget {
  readonly #clock: Clock;
  #left = burst;
  #countedMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#countedMs = clock.now();
  }

  /** Counts one; false where it is one too many. */
  take(): boolean {
    const nowMs = this.#clock.now();
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#countedMs) / 1_000) * perSecond);
    this.#countedMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
