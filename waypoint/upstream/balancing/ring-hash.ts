import { hash64, murmurHash2 } from "../hash.ts";
import { hashKeyOf, type BalancerConfig, type Candidate, type Picker, type Share } from "./picker.ts";

type Config = Extract<BalancerConfig, { readonly kind: "ring-hash" }>;

/**
 * Each host has as many places on a ring of 64-bit numbers as its weight says; a request goes to the first place at or
 * after its hash. The places are those that Envoy computes, so that a mixed fleet agrees.
 */
export class RingHash<T extends Candidate> implements Picker<T> {
  /** Sorted; with `#owners` it forms the ring. */
  readonly #places: BigUint64Array;
  readonly #owners: readonly T[];

  constructor(shares: readonly Share<T>[], config: Config) {
    const places = placesOf(shares, config);
    places.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0));
    this.#places = BigUint64Array.from(places, ({ hash }) => hash);
    this.#owners = places.map(({ host }) => host);
  }

  pick(hash: bigint, attempt: number): T | undefined {
    const size = this.#owners.length;
    if (size === 0) return undefined;
    return this.#owners[(this.#firstAtOrAfter(hash) + attempt) % size];
  }

  /** For tests and dumps: where the ring puts whom. */
  entries(): readonly { readonly hash: bigint; readonly host: T }[] {
    return this.#owners.map((host, index) => ({ host, hash: this.#places[index] as bigint }));
  }

  #firstAtOrAfter(hash: bigint): number {
    const places = this.#places;
    let low = 0;
    let high = places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((places[middle] as bigint) < hash) low = middle + 1;
      else high = middle;
    }
    return low === places.length ? 0 : low;
  }
}

/** The ring is as large as gives the lightest host whole places. Running sums spread what rounding leaves. */
function placesOf<T extends Candidate>(shares: readonly Share<T>[], config: Config) {
  const places: { readonly hash: bigint; readonly host: T }[] = [];
  if (shares.length === 0) return places;
  const least = shares.reduce((min, { share }) => Math.min(min, share), 1);
  const scale = Math.min(Math.ceil(least * config.minRing) / least, config.maxRing);
  const hashOf = config.hashFunction === "xxhash" ? hash64 : murmurHash2;
  let current = 0;
  let target = 0;
  for (const { host, share } of shares) {
    const key = hashKeyOf(host, config.hashing);
    target += scale * share;
    for (let index = 0; current < target; index++, current++) places.push({ host, hash: hashOf(`${key}_${index}`) });
  }
  return places;
}
