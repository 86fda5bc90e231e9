/** Ranges of addresses, tested on canonical text without making anything for IPv4. */
import type { CidrRange } from "#shared/proto/gen/envoy/config/core/v3/address_pb.js";
import { compileCidr } from "#shared/net/cidr.ts";
import { tryIp, type Ip } from "#shared/net/ip.ts";
import type { Problem } from "./string-matcher.ts";

export type IpTest = (ip: Ip) => boolean;

export function compileRange(range: CidrRange, path: string, problem: Problem): IpTest {
  const base = tryIp(range.addressPrefix);
  const longest = base?.includes(":") === true ? 128 : 32;
  const length = range.prefixLen ?? 0;
  if (base === undefined || length > longest) {
    problem(path, `"${range.addressPrefix}/${length}" is not a range of addresses`);
    return () => false;
  }
  if (longest === 128) return compileCidr({ base, length });
  const mask = length === 0 ? 0 : (0xffff_ffff << (32 - length)) >>> 0;
  const wanted = (ipv4Number(base) & mask) >>> 0;
  return (ip) => {
    const value = ipv4Number(ip);
    return value >= 0 && (value & mask) >>> 0 === wanted;
  };
}

/** -1 for IPv6. */
function ipv4Number(ip: Ip): number {
  let value = 0;
  let octet = 0;
  for (let index = 0; index < ip.length; index++) {
    const code = ip.charCodeAt(index);
    if (code === 0x2e) {
      value = value * 256 + octet;
      octet = 0;
    } else if (code >= 0x30 && code <= 0x39) octet = octet * 10 + (code - 0x30);
    else return -1;
  }
  return value * 256 + octet;
}
