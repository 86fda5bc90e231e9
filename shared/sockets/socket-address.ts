/** `struct sockaddr_in` and `sockaddr_in6` as bytes. Buffers are reused: the kernel copies them during the call. */
import { ipFromBytes, ipToBytes, isIpv6, type Ip } from "#shared/net/ip.ts";
import { linux } from "./libc.ts";

export interface Endpoint {
  readonly ip: Ip;
  readonly port: number;
}

const bytesV4 = new Uint8Array(16);
const bytesV6 = new Uint8Array(28);
new Uint16Array(bytesV4.buffer, 0, 1)[0] = linux.AF_INET; // the family is in the machine's byte order, the port is not
new Uint16Array(bytesV6.buffer, 0, 1)[0] = linux.AF_INET6;

/** Valid until the next call. */
export function encodeAddress(ip: Ip, port: number): Uint8Array {
  const v6 = isIpv6(ip);
  const bytes = v6 ? bytesV6 : bytesV4;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  if (v6) bytes.set(ipToBytes(ip), 8);
  else writeIpv4(ip, bytes, 4);
  return bytes;
}

/** Called for each new connection, so without splitting the text. */
function writeIpv4(ip: string, bytes: Uint8Array, at: number): void {
  let octet = 0;
  let place = at;
  for (let index = 0; index < ip.length; index++) {
    const code = ip.charCodeAt(index);
    if (code === 46) {
      bytes[place++] = octet;
      octet = 0;
    } else octet = octet * 10 + code - 48;
  }
  bytes[place] = octet;
}

/** The endpoint in `bytes`, mapped IPv6 as IPv4; undefined for another family. */
export function decodeAddress(bytes: Uint8Array): Endpoint | undefined {
  const family = new Uint16Array(bytes.buffer, bytes.byteOffset, 1)[0];
  const port = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
  if (family === linux.AF_INET) return { ip: `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}` as Ip, port };
  if (family !== linux.AF_INET6) return undefined;
  const ip = ipFromBytes(bytes.subarray(8, 24));
  return ip === undefined ? undefined : { ip, port };
}
