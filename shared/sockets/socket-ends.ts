import type { Socket } from "node:net";
import { tryIp } from "#shared/net/ip.ts";
import type { Endpoint } from "./socket-address.ts";

export interface SocketEnds {
  /** Who connected. */
  readonly peer: Endpoint;
  /** The address that it connected to, after redirection. */
  readonly local: Endpoint;
}

/** Both ends of a connected socket; undefined where it was reset between the kernel's accept and ours. */
export function endsOf(socket: Socket): SocketEnds | undefined {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  const peer = tryIp(unmapped(remoteAddress));
  const local = tryIp(unmapped(localAddress));
  if (peer === undefined || local === undefined || remotePort === undefined || localPort === undefined)
    return undefined;
  return { peer: { ip: peer, port: remotePort }, local: { ip: local, port: localPort } };
}

/** Sockets that take both families write IPv4 in a way that is dear to parse: two of them per connection. */
const mappedPrefix = "::ffff:";

function unmapped(address = ""): string {
  const isMapped = address.startsWith(mappedPrefix) && address.includes(".");
  return isMapped ? address.slice(mappedPrefix.length) : address;
}
