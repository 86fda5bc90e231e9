/** Addresses and ranges as octets on the wire. An IPv4-mapped IPv6 address stays one of 16 octets, as Istio sends it. */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** 4 or 16 octets; undefined where `text` is no address. A zone (`%eth0`) is cut off. */
export function addressBytes(text: string): Uint8Array | undefined {
  const zone = text.indexOf("%");
  const bare = zone < 0 ? text : text.slice(0, zone);
  switch (isIP(bare)) {
    case 4:
      return zone < 0 ? Uint8Array.from(bare.split("."), Number) : undefined;
    case 6:
      return Uint8Array.from(ipaddr.IPv6.parse(bare).toByteArray());
    default:
      return undefined;
  }
}

export interface Range {
  readonly address: Uint8Array;
  readonly length: number;
}

/** A range, or one address as a range of its full length. The address is not masked. */
export function rangeBytes(text: string): Range | undefined {
  const slash = text.indexOf("/");
  const address = addressBytes(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  if (slash < 0) return { address, length: address.length * 8 };
  if (text.includes("%")) return undefined;
  const length = text.slice(slash + 1);
  if (!/^(?:0|[1-9]\d{0,2})$/.test(length) || Number(length) > address.length * 8) return undefined;
  return { address, length: Number(length) };
}

/** With the bits behind the prefix cleared. */
export function masked({ address, length }: Range): Uint8Array {
  return address.map((octet, index) => {
    const kept = Math.min(8, Math.max(0, length - index * 8));
    return octet & (0xff << (8 - kept));
  });
}
