/** Values by key, at most so many: the one not asked for longest makes room. */
export class BoundedTable<V> {
  readonly #max: number;
  readonly #values = new Map<string, V>();
  readonly #onEvicted: (() => void) | undefined;

  constructor(max: number, onEvicted?: () => void) {
    this.#max = max;
    this.#onEvicted = onEvicted;
  }

  get size(): number {
    return this.#values.size;
  }

  getOrMake(key: string, make: () => V): V {
    const known = this.#values.get(key);
    if (known !== undefined) {
      // A Map remembers the order of insertion. While there is plenty of room, order does not matter.
      if (this.#values.size * 2 > this.#max) {
        this.#values.delete(key);
        this.#values.set(key, known);
      }
      return known;
    }
    if (this.#values.size >= this.#max) {
      const [oldest] = this.#values.keys();
      if (oldest !== undefined) this.#values.delete(oldest);
      this.#onEvicted?.();
    }
    const made = make();
    this.#values.set(key, made);
    return made;
  }
}
