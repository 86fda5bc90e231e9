import { hash64 } from "../hash.ts";
import { hashKeyOf, type BalancerConfig, type Candidate, type Picker, type Share } from "./picker.ts";

type Config = Extract<BalancerConfig, { readonly kind: "maglev" }>;

/**
 * A table in which each host has as many slots as its weight says, found by its own permutation, so that few slots change
 * owner when hosts come and go. Same slots as Envoy's.
 */
export class Maglev<T extends Candidate> implements Picker<T> {
  readonly #hosts: readonly T[];
  /** Index into `#hosts` for each slot. */
  readonly #slots: Uint32Array;
  readonly #size: bigint;

  constructor(shares: readonly Share<T>[], config: Config) {
    const keyed = shares.map(({ host, share }) => ({ host, share, key: hashKeyOf(host, config.hashing) }));
    keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    this.#hosts = keyed.map(({ host }) => host);
    this.#size = BigInt(config.tableSize);
    this.#slots = fill(keyed, config.tableSize);
  }

  pick(hash: bigint, attempt: number): T | undefined {
    if (this.#hosts.length === 0) return undefined;
    const retried = attempt === 0 ? hash : hash ^ (2n ** 64n - BigInt(attempt));
    return this.#hosts[this.#slots[Number(retried % this.#size)] as number];
  }

  /** For tests and dumps. */
  table(): readonly T[] {
    return Array.from(this.#slots, (index) => this.#hosts[index] as T);
  }
}

function fill(keyed: readonly { readonly key: string; readonly share: number }[], tableSize: number): Uint32Array {
  const free = 0xffff_ffff;
  const slots = new Uint32Array(tableSize).fill(free);
  if (keyed.length === 0) return slots;
  const size = BigInt(tableSize);
  const heaviest = keyed.reduce((max, { share }) => Math.max(max, share), 0);
  const builders = keyed.map(({ key, share }) => ({
    share,
    slot: Number(hash64(key) % size),
    skip: Number(hash64(key, 1n) % (size - 1n)) + 1,
    target: 0,
  }));
  let filled = 0;
  for (let round = 1; filled < tableSize; round++) {
    for (let index = 0; index < builders.length && filled < tableSize; index++) {
      const builder = builders[index] as (typeof builders)[number];
      // The heaviest host claims a slot in every round, one of a third of its weight in every third.
      if (round * builder.share < builder.target) continue;
      builder.target += heaviest;
      while (slots[builder.slot] !== free) builder.slot = (builder.slot + builder.skip) % tableSize;
      slots[builder.slot] = index;
      builder.slot = (builder.slot + builder.skip) % tableSize;
      filled++;
    }
  }
  return slots;
}
