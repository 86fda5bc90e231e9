/**
 * A pod, a client and a host joined by veth pairs, in network namespaces of this process's own. To be run inside
 * `unshare -nm`, so that everything goes when the process does.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { parseIp, tryIp, type Ip } from "#shared/net/ip.ts";
import { originalDestination } from "#shared/sockets/original-destination.ts";
import {
  connectInNamespace,
  listenInNamespace,
  openNamespace,
  type ConnectTarget,
  type Endpoint,
  type ListenOptions,
  type NetworkNamespace,
} from "#ztunnel/inpod/netns-sockets.ts";

export const mark = 0x539;

export interface Place {
  readonly netns: NetworkNamespace;
  readonly v4: Ip;
  readonly v6: Ip;
}

export interface World {
  readonly pod: Place;
  readonly client: Place;
}

const sh = (script: string) => execFileSync("sh", ["-ec", script], { stdio: ["ignore", "inherit", "inherit"] });

export function buildWorld(): World {
  sh("mount -t tmpfs tmpfs /run; ip link set lo up");
  mkdirSync("/run/netns");
  writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
  writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  return { pod: addPlace("pod", 1), client: addPlace("client", 2) };
}

function addPlace(name: string, index: number): Place {
  const inside = `ip netns exec ${name}`;
  sh(`
    ip netns add ${name}
    ip link add to-${name} type veth peer name eth0 netns ${name}
    ip addr add 10.77.${index}.1/24 dev to-${name}
    ip addr add fd77:${index}::1/64 dev to-${name} nodad
    ip link set to-${name} up
    ${inside} ip link set lo up
    ${inside} ip addr add 10.77.${index}.2/24 dev eth0
    ${inside} ip addr add fd77:${index}::2/64 dev eth0 nodad
    ${inside} ip link set eth0 up
    ${inside} ip route add default via 10.77.${index}.1
    ${inside} ip -6 route add default via fd77:${index}::1
  `);
  return {
    netns: openNamespace(`/run/netns/${name}`),
    v4: parseIp(`10.77.${index}.2`),
    v6: parseIp(`fd77:${index}::2`),
  };
}

/** Serves `port` in the namespace, and keeps what it saw of each connection. */
export async function serve(
  netnsFd: number | undefined,
  options: ListenOptions,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const { fd } = listenInNamespace(netnsFd, options);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    onConnection(socket);
  });
  server.listen({ fd });
  await new Promise((resolve) => server.once("listening", resolve));
  return server;
}

/** An application: answers with the address that it was called from. */
export const serveApplication = (netnsFd: number | undefined, port: number): Promise<Server> =>
  serve(netnsFd, { address: "::", port }, (socket) => {
    socket.end(tryIp(socket.remoteAddress ?? "") ?? "unknown");
  });

/** Calls, and reads to the end. */
export async function call(netnsFd: number | undefined, target: ConnectTarget): Promise<string> {
  const socket = connectInNamespace(netnsFd, target, 3_000);
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

/** What stands in ztunnel's place: passes captured bytes on as ztunnel does, and remembers what it captured. */
export interface Relay {
  readonly outbound: Endpoint[];
  readonly inbound: Endpoint[];
  direct: number;
  close(): void;
}

export async function startRelay({ netns }: Place): Promise<Relay> {
  const relay: Relay = {
    outbound: [],
    inbound: [],
    direct: 0,
    close: () => servers.forEach((server) => server.close()),
  };
  const listener = { address: "::", mark, reusePort: true, transparent: "required" } as const;
  const pass = (from: Socket, to: Endpoint, sourceIp?: Ip) => {
    const upstream = connectInNamespace(netns.fd, { ...to, mark, sourceIp }, 3_000);
    upstream.on("error", () => from.destroy());
    from.pipe(upstream);
    upstream.pipe(from);
  };
  const servers: Server[] = [
    await serve(netns.fd, { ...listener, port: 15_001 }, (socket) => {
      const destination = originalDestination(socket)!;
      relay.outbound.push(destination);
      pass(socket, destination);
    }),
    await serve(netns.fd, { ...listener, port: 15_006 }, (socket) => {
      const destination = originalDestination(socket)!;
      relay.inbound.push(destination);
      pass(socket, destination, tryIp(socket.remoteAddress ?? ""));
    }),
    await serve(netns.fd, { ...listener, port: 15_008 }, (socket) => {
      relay.direct += 1;
      socket.end("hbone");
    }),
  ];
  return relay;
}
