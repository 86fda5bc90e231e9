/**
 * Addresses for ServiceEntries that have none: one IPv4 and one IPv6 address for each host. The choice is a hash of
 * namespace, name and host, so that a control plane without memory chooses the same again; what a status already
 * says is kept, and of two that claim one address the older entry keeps it.
 */
import { ipFromBytes } from "#shared/net/ip.ts";
import type { ServiceEntry } from "#controlplane/mesh/objects.ts";
import { autoAllocateLabel } from "./annotations.ts";
import { addressBytes, masked, rangeBytes, type Range } from "./address-bytes.ts";
import type { TranslateOptions } from "./options.ts";
import { isOlder } from "./status.ts";

export interface HostAddress {
  readonly host: string;
  readonly value: string;
}

/** Per `namespace/name` of entries that want addresses: IPv4 then IPv6 for each host, in order of the hosts. */
export type AutoVips = ReadonlyMap<string, readonly HostAddress[]>;

const isWildcard = (host: string): boolean => host.startsWith("*");

/** Whether automatic addresses of this entry are used at all. */
export function wantsAutoVips(entry: ServiceEntry, options: TranslateOptions): boolean {
  return (
    options.autoAllocateIps &&
    entry.resolution !== "NONE" &&
    entry.addresses.length === 0 &&
    entry.meta.labels.get(autoAllocateLabel)?.toLowerCase() !== "false"
  );
}

function hostsInNeed(entry: ServiceEntry): readonly string[] {
  return [...new Set(entry.hosts)].filter((host) => !isWildcard(host) || entry.resolution === "DYNAMIC_DNS");
}

export function allocateAutoVips(entries: readonly ServiceEntry[], options: TranslateOptions): AutoVips {
  const v4 = new Pool(options.autoAllocateIpv4);
  const v6 = new Pool(options.autoAllocateIpv6);
  const eldestFirst = entries
    .filter((entry) => wantsAutoVips(entry, options))
    .sort((a, b) => (isOlder(a.meta, b.meta) ? -1 : 1));
  // All that is kept comes first: a newcomer never takes the address of an older one.
  const kept = new Map(
    eldestFirst.map((entry) => [
      entry,
      hostsInNeed(entry).map((host) => {
        const values = entry.allocated.filter((each) => each.host === host).map(({ value }) => value);
        return { host, v4: values.find((value) => v4.claim(value)), v6: values.find((value) => v6.claim(value)) };
      }),
    ]),
  );
  const allocated = new Map<string, readonly HostAddress[]>();
  for (const entry of eldestFirst) {
    const key = `${entry.meta.namespace}/${entry.meta.name}`;
    allocated.set(
      key,
      (kept.get(entry) ?? []).flatMap((has) => {
        const seed = hash(`${key}/${has.host}`);
        return [has.v4 ?? v4.take(seed), has.v6 ?? v6.take(seed)]
          .filter((value) => value !== undefined)
          .map((value) => ({ host: has.host, value }));
      }),
    );
  }
  return allocated;
}

/** The addresses of one range and which of them are in use. Only the last 32 bits vary. */
class Pool {
  private readonly base: Uint8Array;
  private readonly range: Range;
  private readonly size: number;
  private readonly used = new Set<string>();

  constructor(prefix: string) {
    const range = rangeBytes(prefix);
    if (range === undefined) throw new TypeError(`Cannot read "${prefix}" as a range for automatic addresses`);
    this.range = range;
    this.base = masked(range);
    this.size = 2 ** Math.min(32, this.base.length * 8 - range.length);
  }

  /** Marks an address as used; false where it is not of this range or taken. */
  claim(value: string): boolean {
    const bytes = addressBytes(value);
    if (bytes?.length !== this.base.length) return false;
    if (!masked({ address: bytes, length: this.range.length }).every((octet, index) => octet === this.base[index])) {
      return false;
    }
    const text = ipFromBytes(bytes);
    if (text === undefined || this.used.has(text)) return false;
    this.used.add(text);
    return true;
  }

  /** A free address near the seed; undefined where the range is full. The first and the last stay free. */
  take(seed: number): string | undefined {
    const usable = this.size - 2;
    for (let step = 0; step < usable; step++) {
      const text = this.addressAt(1 + ((seed + step) % usable));
      if (text === undefined || this.used.has(text)) continue;
      this.used.add(text);
      return text;
    }
    return undefined;
  }

  private addressAt(offset: number): string | undefined {
    const bytes = Uint8Array.from(this.base);
    let rest = offset;
    for (let index = bytes.length - 1; rest > 0; index--) {
      bytes[index] = (bytes[index] ?? 0) + (rest % 256);
      rest = Math.floor(rest / 256);
    }
    return ipFromBytes(bytes);
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c_9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x0100_0193);
  return value >>> 0;
}
