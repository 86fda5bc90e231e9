/** Work by key: one at a time for each key, a few at a time in all; asked for again while it runs, it runs again. */
export class KeyedQueue {
  readonly #work: (key: string) => Promise<void>;
  readonly #limit: number;
  readonly #waiting = new Set<string>();
  readonly #running = new Set<string>();
  readonly #idle = new Set<() => void>();
  #isClosed = false;

  /** @param work must settle every failure itself */
  constructor(limit: number, work: (key: string) => Promise<void>) {
    this.#limit = limit;
    this.#work = work;
  }

  get size(): number {
    return this.#waiting.size + this.#running.size;
  }

  add(key: string): void {
    if (this.#isClosed) return;
    this.#waiting.add(key);
    this.#pump();
  }

  /** Resolves when nothing runs or waits. */
  idle(): Promise<void> {
    return this.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.add(resolve));
  }

  /** Takes nothing new, forgets what waits, and resolves when what runs has ended. */
  close(): Promise<void> {
    this.#isClosed = true;
    this.#waiting.clear();
    return this.idle();
  }

  #pump(): void {
    for (const key of this.#waiting) {
      if (this.#running.size >= this.#limit) return;
      if (this.#running.has(key)) continue;
      this.#waiting.delete(key);
      this.#running.add(key);
      void this.#run(key);
    }
    if (this.size > 0) return;
    for (const wake of this.#idle) wake();
    this.#idle.clear();
  }

  async #run(key: string): Promise<void> {
    try {
      await this.#work(key);
    } finally {
      this.#running.delete(key);
      this.#pump();
    }
  }
}
