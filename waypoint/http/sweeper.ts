/** Coarse deadlines for many connections: one timer for all of them, none for a request. */
import type { Clock } from "#shared/clock/clock.ts";

export interface Swept {
  /** Looks whether something has taken too long. `tick` counts sweeps. */
  sweep(tick: number): void;
}

export class Sweeper {
  readonly tickMs: number;
  /** Of the last sweep; what happens now is stamped with it. */
  tick = 0;
  readonly #clock: Clock;
  readonly #members = new Set<Swept>();
  #isRunning = false;

  constructor(clock: Clock, tickMs = 250) {
    this.#clock = clock;
    this.tickMs = tickMs;
  }

  add(member: Swept): void {
    this.#members.add(member);
    this.#run();
  }

  delete(member: Swept): void {
    this.#members.delete(member);
  }

  /** A duration in ticks, never shorter than asked; 0 stays 0, which means none. */
  ticks(ms: number): number {
    return ms === 0 ? 0 : Math.ceil(ms / this.tickMs) + 1;
  }

  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#clock.schedule(this.tickMs, () => {
      this.#isRunning = false;
      this.tick++;
      for (const member of this.#members) member.sweep(this.tick);
      if (this.#members.size > 0) this.#run();
    });
  }
}
