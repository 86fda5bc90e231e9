/** Runs out when nothing was heard for a while. One timer at a time however often it is touched. */
import type { Clock } from "#shared/clock/clock.ts";

export class IdleTimer {
  readonly #clock: Clock;
  readonly #idleMs: number;
  readonly #onIdle: () => void;
  #lastMs: number;
  #cancel: () => void;

  constructor(clock: Clock, idleMs: number, onIdle: () => void) {
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#onIdle = onIdle;
    this.#lastMs = clock.now();
    this.#cancel = clock.schedule(idleMs, () => this.#look());
  }

  touch(): void {
    this.#lastMs = this.#clock.now();
  }

  cancel(): void {
    this.#cancel();
  }

  #look(): void {
    // A clock that was set back must not make it wait longer than once.
    const leftMs = Math.min(this.#lastMs + this.#idleMs - this.#clock.now(), this.#idleMs);
    if (leftMs <= 0) this.#onIdle();
    else this.#cancel = this.#clock.schedule(leftMs, () => this.#look());
  }
}
