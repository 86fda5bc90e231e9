import type { Clock } from "#shared/clock/clock.ts";

/**
 * Lets work in flight finish. Work enters a scope; once draining has begun its signal says so (stop accepting, say
 * goodbye), and past the deadline the other signal says to end at once.
 */
export class Drain {
  readonly #clock: Clock;
  readonly #began = new AbortController();
  readonly #forced = new AbortController();
  readonly #idle = new Set<() => void>();
  #inside = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Aborts when draining begins. */
  get began(): AbortSignal {
    return this.#began.signal;
  }

  /** Aborts when time is up: what is left must end now. */
  get forced(): AbortSignal {
    return this.#forced.signal;
  }

  get inside(): number {
    return this.#inside;
  }

  /** A drain waits for the returned scope to be left. */
  enter(): Disposable {
    this.#inside += 1;
    let isInside = true;
    return {
      [Symbol.dispose]: () => {
        if (!isInside) return;
        isInside = false;
        this.#inside -= 1;
        if (this.#inside === 0) for (const wake of this.#idle) wake();
      },
    };
  }

  /** Ends when everything has left, or after the deadline and the shorter time that forced work gets to leave. */
  async drain(deadlineMs: number, forcedLeaveMs = 1_000): Promise<"finished" | "forced"> {
    this.#began.abort(new Error("draining"));
    if (await this.#isIdleWithin(deadlineMs)) return "finished";
    this.force();
    await this.#isIdleWithin(forcedLeaveMs);
    return "forced";
  }

  /** Ends everything at once. */
  force(): void {
    this.#began.abort(new Error("draining"));
    this.#forced.abort(new Error("the drain deadline passed"));
  }

  #isIdleWithin(limitMs: number): Promise<boolean> {
    if (this.#inside === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const settle = (isIdle: boolean) => {
        this.#idle.delete(wake);
        cancel();
        resolve(isIdle);
      };
      const wake = () => settle(true);
      const cancel = this.#clock.schedule(limitMs, () => settle(false));
      this.#idle.add(wake);
    });
  }
}
