import { ipFromBytes, ipToBytes, tryIp, type Ip } from "./ip.ts";

/** A range of addresses; `base` is as written, not masked. */
export interface Cidr {
  readonly base: Ip;
  readonly length: number;
}

/** Reads `10.0.0.0/8`, `fd00::/8`, or one address; undefined where it is neither. */
export function tryCidr(text: string): Cidr | undefined {
  const [address = "", lengthText, ...more] = text.split("/");
  const base = tryIp(address);
  if (base === undefined || more.length > 0) return undefined;
  const longest = base.includes(":") ? 128 : 32;
  if (lengthText === undefined) return { base, length: longest };
  if (!/^\d{1,3}$/.test(lengthText) || Number(lengthText) > longest) return undefined;
  return { base, length: Number(lengthText) };
}

/** From octets and prefix length; undefined where either is out of range. */
export function cidrFromBytes(bytes: Uint8Array, length: number): Cidr | undefined {
  const base = ipFromBytes(bytes);
  if (base === undefined) return undefined;
  // A mapped IPv6 range is the IPv4 range behind its first 96 bits.
  const mapped = bytes.length === 16 && !base.includes(":");
  const own = mapped ? length - 96 : length;
  if (own < 0 || own > (base.includes(":") ? 128 : 32)) return undefined;
  return { base, length: own };
}

/** Compiles a range into a test on canonical addresses; families never match each other. */
export function compileCidr({ base, length }: Cidr): (ip: Ip) => boolean {
  const wanted = ipToBytes(base);
  const wholeBytes = length >> 3;
  const mask = 0xff & (0xff << (8 - (length & 7)));
  if (length === wanted.length * 8) return (ip) => ip === base;
  return (ip) => {
    if (ip.includes(":") !== base.includes(":")) return false;
    const bytes = ipToBytes(ip);
    for (let index = 0; index < wholeBytes; index++) if (bytes[index] !== wanted[index]) return false;
    return (length & 7) === 0 || ((bytes[wholeBytes] ?? 0) & mask) === ((wanted[wholeBytes] ?? 0) & mask);
  };
}

/** The range of `length` bits that an address is in, `10.1.0.0/16`. */
export function maskIp(ip: Ip, length: number): string {
  const bytes = ipToBytes(ip).map((byte, index) => byte & (0xff << (8 - Math.min(Math.max(length - index * 8, 0), 8))));
  return `${ipFromBytes(bytes) ?? ip}/${length}`;
}
