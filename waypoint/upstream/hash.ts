/** xxHash64 as Envoy's consistent hashing uses it, over UTF-8 text. Unsigned 64 bit. */
import xxhash from "xxhash-wasm";

const hasher = await xxhash();

/** The hash of one value of a hash policy; also of a host's key (Maglev uses two seeds). */
export function hash64(text: string, seed = 0n): bigint {
  return hasher.h64(text, seed);
}

/** How Envoy joins the hash policies of a route: `combined` is undefined before the first that yields a value. */
export function combineHash(combined: bigint | undefined, next: bigint): bigint {
  if (combined === undefined) return next;
  return BigInt.asUintN(64, (combined << 1n) | (combined >> 63n)) ^ next;
}

const multiplier = 0xc6a4_a793_5bd1_e995n;
const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

/** MurmurHash2 of 64 bits with the seed of GNU's C++ library, which Envoy offers for rings made elsewhere. */
export function murmurHash2(text: string, seed = 0xc70f_6907n): bigint {
  const bytes = Buffer.from(text);
  const mix = (value: bigint): bigint => value ^ (value >> 47n);
  const whole = bytes.length - (bytes.length % 8);
  let hash = seed ^ wrap(BigInt(bytes.length) * multiplier);
  for (let at = 0; at < whole; at += 8) {
    hash = wrap((hash ^ wrap(mix(wrap(bytes.readBigUInt64LE(at) * multiplier)) * multiplier)) * multiplier);
  }
  if (whole < bytes.length) {
    let rest = 0n;
    for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8n) | BigInt(bytes[at] as number);
    hash = wrap((hash ^ rest) * multiplier);
  }
  return mix(wrap(mix(hash) * multiplier));
}
