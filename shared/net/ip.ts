/**
 * IP addresses as canonical text (RFC 5952 for IPv6; an IPv4-mapped IPv6 address becomes IPv4), so that they are
 * compared and used as keys as plain strings, and as bytes (4 or 16) on the wire.
 */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { MeshError } from "#shared/errors/mesh-error.ts";

declare const brand: unique symbol;
/** Canonical text of one address. */
export type Ip = string & { readonly [brand]: "Ip" };

/** Canonical form, or undefined where `text` is no address. A zone (`%eth0`) is cut off. */
export function tryIp(text: string): Ip | undefined {
  const bare = text.includes("%") ? text.slice(0, text.indexOf("%")) : text;
  const family = isIP(bare);
  if (family === 4) return bare as Ip;
  if (family !== 6) return undefined;
  const address = ipaddr.IPv6.parse(bare);
  return (address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toRFC5952String()) as Ip;
}

/** @throws MeshError ADDRESS_MALFORMED quoting the text */
export function parseIp(text: string): Ip {
  const ip = tryIp(text);
  if (ip === undefined) throw new MeshError("ADDRESS_MALFORMED", `Cannot read "${text}" as an IP address`);
  return ip;
}

export const isIpv6 = (ip: Ip): boolean => ip.includes(":");

/** 4 or 16 octets. */
export function ipToBytes(ip: Ip): Uint8Array {
  return Uint8Array.from(ipaddr.parse(ip).toByteArray());
}

/** The address, or undefined where there are not 4 or 16 octets. Mapped addresses become IPv4. */
export function ipFromBytes(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return bytes.join(".") as Ip;
  if (bytes.length !== 16) return undefined;
  const address = new ipaddr.IPv6([...bytes]);
  return (address.isIPv4MappedAddress() ? address.toIPv4Address().toString() : address.toRFC5952String()) as Ip;
}

export function isLoopback(ip: Ip): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Splits `10.0.0.1:80`, `[fd00::1]:80` or `name:80`; undefined where host or port is missing or out of range. */
export function splitHostPort(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port >= 0 && port <= 65_535)) return undefined;
  if (match?.[1] !== undefined && isIP(match[1]) !== 6) return undefined;
  return { host, port };
}
