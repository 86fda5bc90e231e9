/**
 * Earliest deadline first: each item comes round as often as its weight says, interleaved, in O(log n). A binary heap
 * whose top is picked, given its next deadline and sunk; the weight is asked again at every pick.
 */
export class EdfScheduler<T> {
  readonly #items: T[] = [];
  readonly #deadlines: number[] = [];
  /** Among equal deadlines, who was put in first comes first. */
  readonly #orders: number[] = [];
  #nextOrder = 0;
  #now = 0;

  constructor(items: readonly T[], weightOf: (item: T) => number) {
    for (const item of items) this.#add(item, weightOf(item));
  }

  /** Undefined where there is nothing to pick. */
  pick(weightOf: (item: T) => number): T | undefined {
    const item = this.#items[0];
    if (item === undefined) return undefined;
    this.#now = this.#deadlines[0] as number;
    this.#sink(item, this.#now + 1 / weightOf(item), this.#nextOrder++);
    return item;
  }

  #add(item: T, weight: number): void {
    let at = this.#items.length;
    const deadline = this.#now + 1 / weight;
    const order = this.#nextOrder++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#isBefore(parent, deadline, order)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, item, deadline, order);
  }

  /** Replaces the top. */
  #sink(item: T, deadline: number, order: number): void {
    const size = this.#items.length;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      const right = child + 1;
      if (right < size && this.#isBefore(right, this.#deadlines[child] as number, this.#orders[child] as number)) {
        child = right;
      }
      if (!this.#isBefore(child, deadline, order)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, item, deadline, order);
  }

  #isBefore(at: number, deadline: number, order: number): boolean {
    const other = this.#deadlines[at] as number;
    return other < deadline || (other === deadline && (this.#orders[at] as number) < order);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#items[from] as T, this.#deadlines[from] as number, this.#orders[from] as number);
  }

  #put(at: number, item: T, deadline: number, order: number): void {
    this.#items[at] = item;
    this.#deadlines[at] = deadline;
    this.#orders[at] = order;
  }
}
