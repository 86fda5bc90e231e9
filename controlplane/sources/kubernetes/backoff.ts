/** Delays between tries: each about twice the one before, spread so that clients do not return in step. */
export class Backoff {
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #random: () => number;
  #failures = 0;

  constructor(firstMs: number, longestMs: number, random: () => number = Math.random) {
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
    this.#random = random;
  }

  /** Between half and the whole of the delay that is due. */
  nextMs(): number {
    const dueMs = Math.min(this.#firstMs * 2 ** Math.min(this.#failures, 30), this.#longestMs);
    this.#failures++;
    return dueMs * (0.5 + this.#random() / 2);
  }

  reset(): void {
    this.#failures = 0;
  }
}
