import type { Clock } from "#shared/clock/clock.ts";

export interface ReconcilerOptions {
  readonly clock: Clock;
  /** Brings one thing closer to what it should be; answers after how long to look again, if it must. Throwing: soon. */
  readonly reconcile: (key: string) => number | void;
  readonly onError: (key: string, error: unknown) => void;
}

const firstRetryMs = 100;
const lastRetryMs = 30_000;

/**
 * Runs `reconcile` for keys that something happened to. Many events for one key become one run; a run that fails is
 * repeated with back-off. The store is in process, so a run is synchronous and sees one consistent state.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #dirty = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, () => void>();
  #isScheduled = false;
  #isClosed = false;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  enqueue(key: string): void {
    if (this.#isClosed) return;
    this.#dirty.add(key);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#drain());
  }

  #drain(): void {
    this.#isScheduled = false;
    const keys = [...this.#dirty];
    this.#dirty.clear();
    for (const key of keys) if (!this.#isClosed) this.#run(key);
  }

  #run(key: string): void {
    this.#timers.get(key)?.();
    this.#timers.delete(key);
    try {
      const againMs = this.#options.reconcile(key);
      this.#failures.delete(key);
      if (typeof againMs === "number") this.#later(key, againMs);
    } catch (error) {
      const count = (this.#failures.get(key) ?? 0) + 1;
      this.#failures.set(key, count);
      this.#options.onError(key, error);
      this.#later(key, Math.min(lastRetryMs, firstRetryMs * 2 ** (count - 1)));
    }
  }

  #later(key: string, delayMs: number): void {
    this.#timers.set(
      key,
      this.#options.clock.schedule(delayMs, () => this.enqueue(key)),
    );
  }

  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    this.#dirty.clear();
  }
}
