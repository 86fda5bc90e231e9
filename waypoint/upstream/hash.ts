/** xxHash64 as Envoy's consistent hashing uses it, over UTF-8 text. Unsigned 64 bit. */
import xxhash from "xxhash-wasm";

const { h64 } = await xxhash();

/** The hash of one value of a hash policy; also of a host's key (Maglev uses two seeds). */
export function hash64(text: string, seed = 0n): bigint {
  return h64(text, seed);
}

/** How Envoy joins the hash policies of a route: `combined` is undefined before the first that yields a value. */
export function combineHash(combined: bigint | undefined, next: bigint): bigint {
  if (combined === undefined) return next;
  return BigInt.asUintN(64, (combined << 1n) | (combined >> 63n)) ^ next;
}
