import type { Clock } from "#shared/clock/clock.ts";

/** Runs an action once for changes that come together: that long after the first of them. */
export class Settled implements Disposable {
  readonly #clock: Clock;
  readonly #delayMs: number;
  readonly #action: () => void;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, delayMs: number, action: () => void) {
    this.#clock = clock;
    this.#delayMs = delayMs;
    this.#action = action;
  }

  changed(): void {
    this.#cancel ??= this.#clock.schedule(this.#delayMs, () => {
      this.#cancel = undefined;
      this.#action();
    });
  }

  [Symbol.dispose](): void {
    this.#cancel?.();
  }
}
