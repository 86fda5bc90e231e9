/**
 * Latencies in logarithmic buckets: 64 per doubling, so that a percentile is within about 1 % of the truth in a few KiB,
 * however many values there are.
 */
export class Histogram {
  static readonly #perDoubling = 64;
  readonly #buckets = new Float64Array(48 * Histogram.#perDoubling);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @param value any positive number; its unit is the caller's */
  record(value: number): void {
    const index = Math.max(0, Math.floor(Math.log2(Math.max(value, 1)) * Histogram.#perDoubling));
    const last = this.#buckets.length - 1;
    const at = Math.min(index, last);
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
    this.#count++;
  }

  /** The value below which `share` (0 to 1) of all values lie; 0 where nothing was recorded. */
  percentile(share: number): number {
    if (this.#count === 0) return 0;
    let left = Math.max(1, Math.ceil(share * this.#count));
    for (let index = 0; index < this.#buckets.length; index++) {
      left -= this.#buckets[index] ?? 0;
      if (left <= 0) return 2 ** ((index + 0.5) / Histogram.#perDoubling);
    }
    return 2 ** (this.#buckets.length / Histogram.#perDoubling);
  }
}
