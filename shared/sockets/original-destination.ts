/** Where a connection that the kernel redirected to us was going. */
import type { Socket } from "node:net";
import { libc, linux } from "./libc.ts";
import { decodeAddress, type Endpoint } from "./socket-address.ts";

const addressBytes = new Uint8Array(28);
const addressLength = new Int32Array(1);

/** The address that a socket is bound to; undefined where the kernel does not say. */
export function localEndpoint(fd: number): Endpoint | undefined {
  addressLength[0] = addressBytes.length;
  return libc.getsockname(fd, addressBytes, addressLength) === 0 ? decodeAddress(addressBytes) : undefined;
}

function originalEndpoint(fd: number, level: number, length: number): Endpoint | undefined {
  addressLength[0] = length;
  const found = libc.getsockopt(fd, level, linux.SO_ORIGINAL_DST, addressBytes, addressLength) === 0;
  return found ? decodeAddress(addressBytes) : undefined;
}

/**
 * Where the application meant to connect before the rules sent it to us (the local address if they did not);
 * undefined where the socket is closed already.
 */
export function originalDestination(socket: Socket): Endpoint | undefined {
  const fd = (socket as unknown as { readonly _handle?: { readonly fd: number } | null })._handle?.fd;
  if (fd === undefined || fd < 0) return undefined;
  return originalEndpoint(fd, linux.SOL_IP, 16) ?? originalEndpoint(fd, linux.SOL_IPV6, 28) ?? localEndpoint(fd);
}
