import type { Clock } from "./clock.ts";

/**
 * A clock that stands still until a test moves it. What waits for sockets, files or threads takes real time: a test waits
 * for what comes of that (`until`) before it moves the clock on.
 */
export class FakeClock implements Clock {
  #nowMs: number;
  readonly #due: { atMs: number; order: number; action: () => void }[] = [];
  #order = 0;

  constructor(startMs = 1_800_000_000_000) {
    this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const entry = {
      atMs: this.#nowMs + Math.max(delayMs, 0),
      order: this.#order++,
      action,
    };
    this.#due.push(entry);
    return () => {
      const index = this.#due.indexOf(entry);
      if (index >= 0) this.#due.splice(index, 1);
    };
  }

  /** How many actions wait for their time. */
  get pending(): number {
    return this.#due.length;
  }

  /** Moves time forward, running what falls due in order and letting promises settle after each. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    await settle();
    for (;;) {
      const next = this.#due.toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#due.splice(this.#due.indexOf(next), 1);
      this.#nowMs = next.atMs;
      next.action();
      await settle();
    }
    this.#nowMs = untilMs;
    await settle();
  }
}

/** A few turns of the event loop: enough for chains of promises, and for key generation on the thread pool to start. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) await new Promise((resolve) => setImmediate(resolve));
}
