/** The PROXY protocol's headers, by which the next hop learns who the client is. */
import { ipToBytes, isIpv6, type Ip } from "#shared/net/ip.ts";
import type { OnBehalfOf } from "./transport.ts";

const signature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
/** Version 2, command LOCAL or PROXY; address family and TCP. */
const [local, proxy, tcp4, tcp6] = [0x20, 0x21, 0x11, 0x21];

/** @param onBehalfOf undefined: the connection is our own */
export function proxyHeader(version: "v1" | "v2", onBehalfOf: OnBehalfOf | undefined): Buffer {
  return version === "v1" ? textHeader(onBehalfOf) : binaryHeader(onBehalfOf);
}

function textHeader(onBehalfOf: OnBehalfOf | undefined): Buffer {
  if (onBehalfOf === undefined) return Buffer.from("PROXY UNKNOWN\r\n");
  const { source, destination } = onBehalfOf;
  const is6 = isIpv6(source.ip) || isIpv6(destination.ip);
  const [from, to] = [written(source.ip, is6), written(destination.ip, is6)];
  return Buffer.from(`PROXY ${is6 ? "TCP6" : "TCP4"} ${from} ${to} ${source.port} ${destination.port}\r\n`);
}

function binaryHeader(onBehalfOf: OnBehalfOf | undefined): Buffer {
  if (onBehalfOf === undefined) return Buffer.concat([signature, Buffer.from([local, 0, 0, 0])]);
  const { source, destination } = onBehalfOf;
  const is6 = isIpv6(source.ip) || isIpv6(destination.ip);
  const length = is6 ? 36 : 12;
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const head = Buffer.from([proxy, is6 ? tcp6 : tcp4, 0, length]);
  return Buffer.concat([signature, head, octetsOf(source.ip, is6), octetsOf(destination.ip, is6), ports]);
}

/** Both addresses have to be of one family; an IPv4 address has a form of 16 octets too (RFC 4291 §2.5.5.2). */
const written = (ip: Ip, is6: boolean): string => (is6 && !isIpv6(ip) ? `::ffff:${ip}` : ip);

const mapped = Buffer.from("00000000000000000000ffff", "hex");

function octetsOf(ip: Ip, is6: boolean): Uint8Array {
  return is6 && !isIpv6(ip) ? Buffer.concat([mapped, ipToBytes(ip)]) : ipToBytes(ip);
}
