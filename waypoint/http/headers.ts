/**
 * Header fields of one message, in order: a flat list of names and values, as they are read and written. Names are in
 * lower case (RFC 9113 §8.2.1), pseudo-headers are not in it. Messages carry a dozen fields: walking is faster than hashing.
 * Values are what is on the wire, one byte in each character (Latin-1): text that may have others goes through `toBytes`.
 */
export class Headers {
  /** name, value, name, value, … */
  readonly pairs: string[];
  /** Lower case → as it came, where that differs and a codec was told to keep it. */
  readonly spelling: ReadonlyMap<string, string> | undefined;

  constructor(pairs: string[] = [], spelling?: ReadonlyMap<string, string>) {
    this.pairs = pairs;
    this.spelling = spelling;
  }

  /** The first value. */
  get(name: string): string | undefined {
    const { pairs } = this;
    for (let i = 0; i < pairs.length; i += 2) if (pairs[i] === name) return pairs[i + 1];
    return undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** Every value, one for each line: matching never looks at a joined list. */
  all(name: string): readonly string[] {
    const { pairs } = this;
    const values: string[] = [];
    for (let i = 0; i < pairs.length; i += 2) if (pairs[i] === name) values.push(pairs[i + 1] as string);
    return values;
  }

  append(name: string, value: string): void {
    this.pairs.push(name, value);
  }

  /** Replaces every value; the first keeps its place. */
  set(name: string, value: string): void {
    const { pairs } = this;
    for (let i = 0; i < pairs.length; i += 2) {
      if (pairs[i] !== name) continue;
      pairs[i + 1] = value;
      this.#removeFrom(i + 2, name);
      return;
    }
    pairs.push(name, value);
  }

  /** Whether there was one. */
  delete(name: string): boolean {
    return this.#removeFrom(0, name);
  }

  /** Fields, counting repeated ones. */
  get size(): number {
    return this.pairs.length / 2;
  }

  clone(): Headers {
    return new Headers([...this.pairs], this.spelling);
  }

  *[Symbol.iterator](): Generator<readonly [name: string, value: string]> {
    const { pairs } = this;
    for (let i = 0; i < pairs.length; i += 2) yield [pairs[i] as string, pairs[i + 1] as string];
  }

  #removeFrom(from: number, name: string): boolean {
    const { pairs } = this;
    let kept = from;
    for (let i = from; i < pairs.length; i += 2) {
      if (pairs[i] === name) continue;
      if (kept !== i) {
        pairs[kept] = pairs[i] as string;
        pairs[kept + 1] = pairs[i + 1] as string;
      }
      kept += 2;
    }
    const found = kept < pairs.length;
    pairs.length = kept;
    return found;
  }
}
