/** Values by key, at most so many: the one not asked for longest makes room. */
interface Entry<V> {
  readonly key: string;
  readonly value: V;
  /** In the order of use. */
  older: Entry<V> | undefined;
  newer: Entry<V> | undefined;
}

export class BoundedTable<V> {
  readonly #max: number;
  readonly #entries = new Map<string, Entry<V>>();
  readonly #onEvicted: (() => void) | undefined;
  #oldest: Entry<V> | undefined;
  #newest: Entry<V> | undefined;

  constructor(max: number, onEvicted?: () => void) {
    this.#max = max;
    this.#onEvicted = onEvicted;
  }

  get size(): number {
    return this.#entries.size;
  }

  getOrMake(key: string, make: () => V): V {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (known !== this.#newest) {
        this.#unlink(known);
        this.#append(known);
      }
      return known.value;
    }
    if (this.#entries.size >= this.#max && this.#oldest !== undefined) {
      this.#entries.delete(this.#oldest.key);
      this.#unlink(this.#oldest);
      this.#onEvicted?.();
    }
    const made: Entry<V> = { key: ownCopy(key), value: make(), older: undefined, newer: undefined };
    this.#entries.set(made.key, made);
    this.#append(made);
    return made.value;
  }

  #append(entry: Entry<V>): void {
    entry.older = this.#newest;
    entry.newer = undefined;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }

  #unlink({ older, newer }: Entry<V>): void {
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
  }
}

/** A part of a text keeps the whole of it in memory: a key must not hold on to the request that it came with. */
function ownCopy(text: string): string {
  return wide.test(text)
    ? Buffer.from(text, "utf16le").toString("utf16le")
    : Buffer.from(text, "latin1").toString("latin1");
}
// oxlint-disable-next-line no-control-regex -- the range of Latin-1 begins there
const wide = /[^\u0000-\u00ff]/;
