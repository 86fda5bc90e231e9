/** How much a peer may make us work for nothing: points that honest work earns and idle frames cost. */
import type { Clock } from "#shared/clock/clock.ts";

export interface BudgetLimits {
  /** Points to begin with, and at most. */
  readonly burst: number;
  /** Points that come back each second by themselves. */
  readonly perSecond: number;
}

/**
 * Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, frames of unknown type): one point
 * each. A frame with data in either direction, and a request, earn more than its acknowledgements cost, so that busy
 * peers never run out, however eagerly they ping to measure (gRPC does).
 */
export const idleFrames: BudgetLimits = { burst: 2_000, perSecond: 200 };
export const earnedByFrame = 8;

/**
 * Streams that end by a reset, whoever sent it (CVE-2023-44487, CVE-2025-8671), or that are refused. Nothing earns
 * these back but time.
 */
export const brokenStreams: BudgetLimits = { burst: 1_000, perSecond: 100 };

export class Budget {
  readonly #limits: BudgetLimits;
  readonly #clock: Clock;
  #points: number;
  #countedAtMs = 0;

  constructor(limits: BudgetLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#points = limits.burst;
  }

  earn(points: number): void {
    if (this.#points < this.#limits.burst) this.#points += points;
  }

  /** False when there is nothing left. The clock is only looked at when points run low. */
  spend(): boolean {
    if (--this.#points >= this.#limits.burst / 2) return true;
    const nowMs = this.#clock.now();
    if (this.#countedAtMs === 0) this.#countedAtMs = nowMs;
    const regained = Math.floor(((nowMs - this.#countedAtMs) * this.#limits.perSecond) / 1_000);
    if (regained > 0) {
      this.#points = Math.min(this.#limits.burst, this.#points + regained);
      this.#countedAtMs = nowMs;
    }
    return this.#points >= 0;
  }
}
