import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { decode, encode, type Packet, type Answer as WireAnswer } from "dns-packet";
import { clusterDomain, resolveName, ttlSeconds, type Answer, type ClusterObjects } from "./cluster-names.ts";

export interface DnsServerOptions {
  readonly addresses: readonly string[];
  readonly port?: number;
  readonly objects: ClusterObjects;
}

export interface DnsServer {
  /** The port in use. */
  readonly port: number;
  close(): void;
}

/** Without EDNS a UDP answer may have this many octets (RFC 1035 section 4.2.1). */
const plainUdpBytes = 512;
/** What we send at most even if the asker offers more: as DNS flag day 2020 advises. */
const largestUdpBytes = 1232;
const tcpIdleMs = 10_000;
const maxTcpConnections = 200;

const rcodes = { noError: 0, formatError: 1, nameError: 3, notImplemented: 4 } as const;
const flags = {
  authoritative: 1 << 10,
  truncated: 1 << 9,
  recursionDesired: 1 << 8,
  recursionAvailable: 1 << 7,
} as const;

/** The packet's number fields that `dns-packet`'s types leave out. */
type Query = Packet & { readonly flags?: number; readonly opcode?: string };

/** The answer to one message, or undefined for what cannot be answered at all (not even its id can be read). */
export function answerMessage(message: Uint8Array, objects: ClusterObjects, maxBytes: number): Buffer | undefined {
  if (message.length < 12) return undefined;
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  let query: Query;
  try {
    query = decode(bytes) as Query;
  } catch {
    return header(bytes, rcodes.formatError);
  }
  if (query.type !== "query") return undefined; // answering answers makes loops
  if (query.opcode !== undefined && query.opcode !== "QUERY") return header(bytes, rcodes.notImplemented);
  const question = query.questions?.[0];
  if (question === undefined || query.questions?.length !== 1) return header(bytes, rcodes.formatError);
  const result = resolveName(question.name, question.type, objects);
  const isMissing = result.kind !== "found";
  const asked = (query.flags ?? 0) & flags.recursionDesired;
  const edns = query.additionals?.find((record) => record.type === "OPT");
  const limit = edns === undefined ? Math.min(maxBytes, plainUdpBytes) : Math.min(maxBytes, largestUdpBytes);
  const reply = (parts: { answers: readonly Answer[]; additionals: readonly Answer[]; isTruncated: boolean }) =>
    encode({
      type: "response",
      id: query.id ?? 0,
      flags:
        flags.authoritative |
        flags.recursionAvailable |
        asked |
        (parts.isTruncated ? flags.truncated : 0) |
        (isMissing ? rcodes.nameError : rcodes.noError),
      questions: [question],
      answers: parts.answers.map(onWire),
      authorities: result.answers.length === 0 ? [startOfAuthority()] : [],
      additionals: [...parts.additionals.map(onWire), ...(edns === undefined ? [] : [optRecord()])],
    });
  const whole = reply({ answers: result.answers, additionals: result.additionals, isTruncated: false });
  if (maxBytes > plainUdpBytes * 100 || whole.length <= limit) return whole;
  const withoutExtras = reply({ answers: result.answers, additionals: [], isTruncated: false });
  return withoutExtras.length <= limit ? withoutExtras : reply({ answers: [], additionals: [], isTruncated: true });
}

function header(query: Buffer, rcode: number): Buffer {
  const answer = Buffer.alloc(12);
  query.copy(answer, 0, 0, 2);
  answer.writeUInt16BE(0x8000 | (query.readUInt16BE(2) & 0x7900) | rcode, 2);
  return answer;
}

const onWire = (answer: Answer) => ({ ...answer, ttl: ttlSeconds, class: "IN" }) as WireAnswer;

/** Tells resolvers how long a "no" may be remembered. */
function startOfAuthority(): WireAnswer {
  return {
    type: "SOA",
    name: clusterDomain,
    ttl: ttlSeconds,
    class: "IN",
    data: {
      mname: `ns.dns.${clusterDomain}`,
      rname: `hostmaster.${clusterDomain}`,
      serial: 1,
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: ttlSeconds,
    },
  };
}

const optRecord = () =>
  ({
    type: "OPT",
    name: ".",
    udpPayloadSize: largestUdpBytes,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  }) as WireAnswer;

/** Serves UDP and TCP on every address. */
export async function startDnsServer({ addresses, port = 53, objects }: DnsServerOptions): Promise<DnsServer> {
  const closers: (() => void)[] = [];
  const close = () => {
    for (const closer of closers.splice(0)) closer();
  };
  let chosen = port;
  try {
    for (const address of addresses) {
      const tcp = await listenTcp(address, chosen, objects);
      closers.push(() => tcp.close());
      chosen = tcp.port;
      const udp = await listenUdp(address, chosen, objects);
      closers.push(() => udp.close());
    }
  } catch (error) {
    close();
    throw error;
  }
  return { port: chosen, close };
}

function listenUdp(address: string, port: number, objects: ClusterObjects): Promise<UdpSocket> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.on("message", (message, peer) => {
    const answer = answerMessage(message, objects, largestUdpBytes);
    if (answer !== undefined) socket.send(answer, peer.port, peer.address, () => undefined);
  });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, () => {
      socket.off("error", reject);
      socket.on("error", () => undefined); // a peer that went away: nobody to tell
      resolve(socket);
    });
  });
}

async function listenTcp(
  address: string,
  port: number,
  objects: ClusterObjects,
): Promise<{ port: number; close(): void }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    serveTcp(socket, objects);
  });
  server.maxConnections = maxTcpConnections;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, resolve);
  });
  const close = () => {
    server.close();
    for (const socket of open) socket.destroy();
  };
  return { port: (server.address() as { port: number }).port, close };
}

/** Messages with two octets of length before each (RFC 7766). */
function serveTcp(socket: Socket, objects: ClusterObjects): void {
  let pending = Buffer.alloc(0);
  socket.setTimeout(tcpIdleMs, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 2) {
      const length = pending.readUInt16BE(0);
      if (pending.length < 2 + length) return;
      const answer = answerMessage(pending.subarray(2, 2 + length), objects, 65_535);
      pending = pending.subarray(2 + length);
      if (answer === undefined) {
        socket.destroy();
        return;
      }
      const size = Buffer.alloc(2);
      size.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([size, answer]));
    }
  });
}
