import { MersenneTwister } from "./mersenne-twister.ts";
import type { Candidate, Picker, PickerTools, Share } from "./picker.ts";

/**
 * Consistent hashing in which no host has more than a given percentage of the average load: a busy one hands on to others,
 * in an order that only the hash decides.
 */
export class BoundedLoad<T extends Candidate> implements Picker<T> {
  readonly #inner: { pick(hash: bigint, attempt: number): T | undefined };
  readonly #shares: readonly Share<T>[];
  readonly #shareOf: ReadonlyMap<T, number>;
  readonly #factor: number;
  readonly #tools: PickerTools;

  constructor(
    inner: { pick(hash: bigint, attempt: number): T | undefined },
    shares: readonly Share<T>[],
    factor: number,
    tools: PickerTools,
  ) {
    this.#inner = inner;
    this.#shares = shares;
    this.#shareOf = new Map(shares.map(({ host, share }) => [host, share]));
    this.#factor = factor;
    this.#tools = tools;
  }

  pick(hash: bigint, attempt: number): T | undefined {
    const first = this.#inner.pick(hash, attempt);
    if (first === undefined) return undefined;
    let leastLoad = this.#load(first, this.#shareOf.get(first) ?? 0);
    if (leastLoad <= 1) return first;
    let least = first;
    for (const { host, share } of shuffled(this.#shares, hash)) {
      if (host === first) continue;
      const load = this.#load(host, share);
      if (load <= 1) return host;
      if (load < leastLoad) {
        leastLoad = load;
        least = host;
      }
    }
    return least;
  }

  /** Above 1: too busy. */
  #load(host: T, share: number): number {
    const slots = Math.floor(((this.#tools.totalActive() + 1) * this.#factor + 99) / 100);
    return host.active / Math.max(Math.ceil(slots * share), 1);
  }
}

/** The same order for the same seed, in every process and in Envoy. */
function* shuffled<T>(items: readonly T[], seed: bigint): Generator<T> {
  const random = new MersenneTwister(Number(BigInt.asUintN(32, seed)));
  const order = items.map((_, index) => index);
  for (let at = 0; at < order.length; at++) {
    const other = at + below(random, order.length - at);
    const index = order[other] as number;
    order[other] = order[at] as number;
    order[at] = index;
    yield items[index] as T;
  }
}

function below(random: MersenneTwister, bound: number): number {
  const width = Math.floor(2 ** 32 / bound);
  for (;;) {
    const drawn = Math.floor(random.next() / width);
    if (drawn < bound) return drawn;
  }
}
