import type { Cidr } from "#shared/net/cidr.ts";
import { ipToBytes, type Ip } from "#shared/net/ip.ts";

/**
 * Ranges by network, family and prefix length, so that finding all that contain an address costs one look-up per
 * length in use, however many ranges there are.
 */
export class CidrIndex<T> {
  /** `network/4` or `network/6` → prefix length → masked base → values. */
  readonly #families = new Map<string, Map<number, Map<string, Set<T>>>>();

  add(network: string, { base, length }: Cidr, value: T): void {
    const family = familyKey(network, base);
    const lengths = this.#families.get(family) ?? new Map<number, Map<string, Set<T>>>();
    this.#families.set(family, lengths);
    const bases = lengths.get(length) ?? new Map<string, Set<T>>();
    lengths.set(length, bases);
    const masked = mask(ipToBytes(base), length);
    const values = bases.get(masked) ?? new Set<T>();
    bases.set(masked, values);
    values.add(value);
  }

  remove(network: string, { base, length }: Cidr, value: T): void {
    const family = familyKey(network, base);
    const lengths = this.#families.get(family);
    const bases = lengths?.get(length);
    const masked = mask(ipToBytes(base), length);
    const values = bases?.get(masked);
    values?.delete(value);
    if (values?.size === 0) bases?.delete(masked);
    if (bases?.size === 0) lengths?.delete(length);
    if (lengths?.size === 0) this.#families.delete(family);
  }

  /** Calls back with every value whose range contains the address. */
  forEachContaining(network: string, ip: Ip, visit: (value: T, length: number) => void): void {
    const lengths = this.#families.size === 0 ? undefined : this.#families.get(familyKey(network, ip));
    if (lengths === undefined) return;
    const bytes = ipToBytes(ip);
    for (const [length, bases] of lengths) {
      for (const value of bases.get(mask(bytes, length)) ?? []) visit(value, length);
    }
  }

  get isEmpty(): boolean {
    return this.#families.size === 0;
  }
}

const familyKey = (network: string, ip: Ip): string => `${network}/${ip.includes(":") ? 6 : 4}`;

function mask(bytes: Uint8Array, length: number): string {
  let text = "";
  for (let index = 0; index * 8 < length; index++) {
    const bits = Math.min(8, length - index * 8);
    text += String.fromCharCode((bytes[index] ?? 0) & (0xff << (8 - bits)) & 0xff);
  }
  return text;
}
