/**
 * Addresses for ServiceEntries that have none: one IPv4 and one IPv6 address for each host. The choice is a hash of
 * namespace, name and host, so that a control plane without memory chooses the same again; what a status already says of
 * a host is kept, whatever it is, and of two that claim one address the older entry keeps it.
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

/**
 * Per `namespace/name` of entries that want addresses: IPv4 then IPv6 for each host, in order of the hosts. Empty for
 * those that want none any more.
 */
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
  const keyOf = ({ meta }: ServiceEntry): string => `${meta.namespace}/${meta.name}`;
  const isFree = (value: string, owner: string): boolean => v4.isFree(value, owner) && v6.isFree(value, owner);
  const claim = (value: string, owner: string): void => {
    v4.claim(value, owner);
    v6.claim(value, owner);
  };
  // What users have written is theirs, and what is kept comes before what is new.
  for (const entry of entries) for (const address of entry.addresses) claim(address, keyOf(entry));
  const kept = new Map<ServiceEntry, readonly HostAddress[]>();
  for (const entry of eldestFirst) {
    const hosts = hostsInNeed(entry);
    const owner = keyOf(entry);
    const known = entry.allocated.filter(
      ({ host, value }) => hosts.includes(host) && addressBytes(value) !== undefined,
    );
    // Where one is another's, all are chosen anew.
    if (!known.every(({ value }) => isFree(value, owner))) continue;
    for (const { value } of known) claim(value, owner);
    kept.set(entry, known);
  }
  const allocated = new Map<string, readonly HostAddress[]>();
  if (options.autoAllocateIps) {
    for (const entry of entries) if (entry.allocated.length > 0) allocated.set(keyOf(entry), []);
  }
  for (const entry of eldestFirst) {
    const owner = keyOf(entry);
    const hosts = hostsInNeed(entry);
    if (hosts.length === 0) continue;
    allocated.set(
      owner,
      hosts.flatMap((host) => {
        const known = (kept.get(entry) ?? []).filter((each) => each.host === host);
        if (known.length > 0) return known;
        const seed = hash(`${owner}/${host}`);
        return [v4.take(seed, owner), v6.take(seed, owner)]
          .filter((value) => value !== undefined)
          .map((value) => ({ host, value }));
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
  /** Who has an address. */
  private readonly used = new Map<string, string>();

  constructor(prefix: string) {
    const range = rangeBytes(prefix);
    if (range === undefined) throw new TypeError(`Cannot read "${prefix}" as a range for automatic addresses`);
    this.range = range;
    this.base = masked(range);
    this.size = 2 ** Math.min(32, this.base.length * 8 - range.length);
  }

  /** Whether nobody else has an address. One of another range is nobody's. */
  isFree(value: string, owner: string): boolean {
    const text = this.within(value);
    return text === undefined || (this.used.get(text) ?? owner) === owner;
  }

  /** Marks an address as used, where it is of this range. */
  claim(value: string, owner: string): void {
    const text = this.within(value);
    if (text !== undefined) this.used.set(text, owner);
  }

  /** As text of one form; undefined where it is not of this range. */
  private within(value: string): string | undefined {
    const bytes = addressBytes(value);
    if (bytes?.length !== this.base.length) return undefined;
    const start = masked({ address: bytes, length: this.range.length });
    return start.every((octet, index) => octet === this.base[index]) ? ipFromBytes(bytes) : undefined;
  }

  /** A free address near the seed; undefined where the range is full. The first and the last stay free. */
  take(seed: number, owner: string): string | undefined {
    const usable = this.size - 2;
    for (let step = 0; step < usable; step++) {
      const text = this.addressAt(1 + ((seed + step) % usable));
      if (text === undefined || this.used.has(text)) continue;
      this.used.set(text, owner);
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
