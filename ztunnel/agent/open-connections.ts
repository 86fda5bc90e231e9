/**
 * TCP connections that a pod has from before it joins. Once rules redirect, the kernel takes their next packet for the
 * first of a new connection and hands it to ztunnel, who knows nothing of it; if that packet is the pod's own, its peer
 * is never told and waits for ever. So they are ended as the pod joins: both ends see a reset, and pools notice at once.
 */
import { hostPort, ipFromBytes, isLoopback, type Ip } from "#shared/net/ip.ts";
import { inNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { procNet } from "./namespace-addresses.ts";
import { hbonePort, inboundPlaintextPort, outboundPort } from "./redirect-rules.ts";
import { runProgram } from "./run-program.ts";

export interface OpenConnection {
  readonly local: Ip;
  readonly localPort: number;
  readonly remote: Ip;
  readonly remotePort: number;
}

/** What redirection would break: not what stays inside the pod, nor what tunnels and ztunnel itself have open. */
export function openConnections(netnsFd: number): readonly OpenConnection[] {
  const all = inNamespace(netnsFd, () => ["tcp", "tcp6"].flatMap((file) => connectionsOf(procNet(file))));
  const own = new Set(all.map(({ local }) => local));
  return all.filter(
    ({ local, localPort, remote }) => !isLoopback(local) && !own.has(remote) && !ztunnelPorts.has(localPort),
  );
}

const ztunnelPorts: ReadonlySet<number> = new Set([outboundPort, inboundPlaintextPort, hbonePort]);

/** Of the kernel's states those in which somebody may still wait: established, being opened, half closed. */
const waitingStates: ReadonlySet<string> = new Set(["01", "02", "04", "05", "08"]);

/** From `/proc/net/tcp` or `tcp6`, whose addresses are words of 32 bits in the machine's own order. */
export function connectionsOf(procNetTcp: string): readonly OpenConnection[] {
  return procNetTcp.split("\n").flatMap((line) => {
    const [, localEnd = "", remoteEnd = "", state = ""] = line.trim().split(/\s+/);
    if (!waitingStates.has(state)) return [];
    const [local, remote] = [endOf(localEnd), endOf(remoteEnd)];
    if (local === undefined || remote === undefined) return [];
    return [{ local: local.ip, localPort: local.port, remote: remote.ip, remotePort: remote.port }];
  });
}

function endOf(text: string): { readonly ip: Ip; readonly port: number } | undefined {
  const [words = "", port = ""] = text.split(":");
  const bytes = Buffer.from(words, "hex");
  if (isLittleEndian && bytes.length % 4 === 0) bytes.swap32();
  const ip = ipFromBytes(bytes);
  return ip && { ip, port: Number.parseInt(port, 16) };
}

const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** `ss` turns a filter into a program for the kernel whose jumps reach 64 KiB. */
const maxPerCall = 100;

/** In the language of `ss`. */
export const filterFor = (connections: readonly OpenConnection[]): string =>
  connections
    .map(
      ({ local, localPort, remote, remotePort }) =>
        `( src = ${hostPort(local, localPort)} and dst = ${hostPort(remote, remotePort)} )`,
    )
    .join(" or ");

/** As far as the kernel can: without INET_DIAG_DESTROY they are left to break by themselves. */
export async function endConnections(netnsFd: number, connections: readonly OpenConnection[]): Promise<void> {
  for (let at = 0; at < connections.length; at += maxPerCall) {
    const filter = filterFor(connections.slice(at, at + maxPerCall));
    await runProgram(netnsFd, "ss", ["-K", "-tnH", "-F", "-"], filter).catch(() => undefined);
  }
}
