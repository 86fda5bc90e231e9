/**
 * Asks DNS questions, run inside a pod; prints JSON. What failed is in the JSON, not in the exit status.
 *
 *   node e2e/support/dns-client.ts ask NAME [--type A] [--server IP] [--tcp] [--payload BYTES]   one question, one message
 *   node e2e/support/dns-client.ts lookup NAME                                  as applications do: the C library's way
 *   node e2e/support/dns-client.ts steady NAME --seconds S [--every MS] [--keep]    one after the other; all from one socket
 *   node e2e/support/dns-client.ts flood NAME --seconds S                       as many as leave the socket
 */
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import process from "node:process";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { decode, encode, streamEncode, type Packet, type RecordType } from "dns-packet";

/** What came back. */
export interface DnsReply {
  /** `NOERROR`, `NXDOMAIN` …; `timeout`, or the error's code, where nothing came. */
  readonly result: string;
  readonly authoritative: boolean;
  readonly truncated: boolean;
  readonly answers: readonly {
    readonly name: string;
    readonly type: string;
    readonly ttl: number;
    readonly data: unknown;
  }[];
  readonly ms: number;
}

export interface LookupOutcome {
  /** Sorted; empty where the name is not known. */
  readonly addresses: readonly string[];
  readonly error: string;
}

/** A stream of questions. */
export interface SteadyOutcome {
  readonly done: number;
  readonly failed: number;
  readonly failures: readonly string[];
  readonly medianMs: number;
  readonly slowestMs: number;
}

export interface FloodOutcome {
  readonly sent: number;
  readonly answered: number;
}

interface Asked {
  readonly name: string;
  readonly type: string;
  readonly server: string;
  readonly tcp: boolean;
  /** undefined: no EDNS. */
  readonly payload: number | undefined;
  readonly seconds: number;
  readonly everyMs: number;
  readonly keep: boolean;
}

/** As the C library waits. */
const timeoutMs = 6_000;

function question({ name, type, payload }: Asked, id: number): Packet {
  const additionals =
    payload === undefined ? [] : [{ type: "OPT", name: ".", udpPayloadSize: payload, flags: 0, options: [] }];
  return {
    type: "query",
    id,
    flags: 0x100,
    questions: [{ name, type: type as RecordType }],
    additionals: additionals as unknown as NonNullable<Packet["additionals"]>,
  };
}

type Decoded = Packet & { readonly rcode: string; readonly flag_aa: boolean; readonly flag_tc: boolean };

function replyOf(bytes: Buffer, startedMs: number): DnsReply {
  const { rcode, flag_aa: authoritative, flag_tc: truncated, answers = [] } = decode(bytes) as unknown as Decoded;
  return {
    result: rcode,
    authoritative,
    truncated,
    answers: answers.map((answer) => {
      const { name, type, ttl = 0, data } = answer as { name: string; type: string; ttl?: number; data: unknown };
      return { name, type, ttl, data };
    }),
    ms: performance.now() - startedMs,
  };
}

const nothing = (result: string, startedMs: number): DnsReply => ({
  result,
  authoritative: false,
  truncated: false,
  answers: [],
  ms: performance.now() - startedMs,
});

const family = (server: string) => (server.includes(":") ? "udp6" : "udp4");

async function connected(server: string): Promise<Socket> {
  const socket = createSocket(family(server));
  await new Promise<void>((resolve) => socket.connect(53, server, resolve));
  return socket;
}

function askOn(socket: Socket, asked: Asked): Promise<DnsReply> {
  const startedMs = performance.now();
  return new Promise<DnsReply>((resolve) => {
    const timer = setTimeout(() => resolve(nothing("timeout", startedMs)), timeoutMs);
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(nothing(error.code ?? error.message, startedMs)));
    socket.once("message", (bytes) => {
      clearTimeout(timer);
      resolve(replyOf(bytes, startedMs));
    });
    socket.send(encode(question(asked, 1)));
  }).finally(() => socket.removeAllListeners());
}

async function askByDatagram(asked: Asked): Promise<DnsReply> {
  const socket = await connected(asked.server);
  try {
    return await askOn(socket, asked);
  } finally {
    socket.close();
  }
}

function askByStream(asked: Asked): Promise<DnsReply> {
  const startedMs = performance.now();
  const socket = connect({ host: asked.server, port: 53 });
  let bytes: Buffer = Buffer.alloc(0);
  return new Promise<DnsReply>((resolve) => {
    socket.setTimeout(timeoutMs, () => resolve(nothing("timeout", startedMs)));
    socket.on("connect", () => socket.write(streamEncode(question(asked, 1))));
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(nothing(error.code ?? error.message, startedMs)));
    socket.on("close", () => resolve(nothing("closed", startedMs)));
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0))
        resolve(replyOf(bytes.subarray(2), startedMs));
    });
  }).finally(() => socket.destroy());
}

const ask = (asked: Asked): Promise<DnsReply> => (asked.tcp ? askByStream(asked) : askByDatagram(asked));

async function lookUp({ name }: Asked): Promise<LookupOutcome> {
  try {
    const found = await lookup(name, { all: true });
    return { addresses: [...new Set(found.map(({ address }) => address))].toSorted(), error: "" };
  } catch (error) {
    return { addresses: [], error: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

async function steady(asked: Asked): Promise<SteadyOutcome> {
  const endsMs = performance.now() + asked.seconds * 1_000;
  const times: number[] = [];
  const failures = new Set<string>();
  let failed = 0;
  const kept = asked.keep ? await connected(asked.server) : undefined;
  process.stdout.write("{}\n"); // under way
  while (performance.now() < endsMs) {
    const { result, ms } = await (kept === undefined ? ask(asked) : askOn(kept, asked));
    times.push(ms);
    if (result !== "NOERROR") {
      failed++;
      failures.add(`${new Date(Date.now() - ms).toISOString()} ${result}`);
    }
    if (asked.everyMs > 0) await pause(asked.everyMs);
  }
  const sorted = times.toSorted((a, b) => a - b);
  return {
    done: times.length - failed,
    failed,
    failures: [...failures],
    medianMs: sorted[sorted.length >> 1] ?? 0,
    slowestMs: sorted.at(-1) ?? 0,
  };
}

async function flood(asked: Asked): Promise<FloodOutcome> {
  const socket = await connected(asked.server);
  const message = encode(question(asked, 1));
  const outcome = { sent: 0, answered: 0 };
  socket.on("message", () => outcome.answered++);
  socket.on("error", () => undefined);
  process.stdout.write("{}\n"); // under way
  const endsMs = performance.now() + asked.seconds * 1_000;
  while (performance.now() < endsMs) {
    for (let index = 0; index < 64; index++) socket.send(message, () => undefined);
    outcome.sent += 64;
    await turn();
  }
  await pause(1_000); // for the last answers
  socket.close();
  return outcome;
}

const commands: Readonly<Record<string, (asked: Asked) => Promise<unknown>>> = { ask, lookup: lookUp, steady, flood };

/** The pod's first name server. */
const ownServer = (): string =>
  /^nameserver (\S+)/mu.exec(readFileSync("/etc/resolv.conf", "utf8"))?.[1] ?? "127.0.0.1";

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      type: { type: "string", default: "A" },
      server: { type: "string" },
      tcp: { type: "boolean", default: false },
      payload: { type: "string" },
      seconds: { type: "string", default: "1" },
      every: { type: "string", default: "0" },
      keep: { type: "boolean", default: false },
    },
  });
  const [command = "", name = ""] = positionals;
  const run = commands[command];
  if (run === undefined) throw new Error(`Unknown command "${command}": one of ${Object.keys(commands).join(", ")}`);
  const outcome = await run({
    name,
    type: values.type,
    server: values.server ?? ownServer(),
    tcp: values.tcp,
    payload: values.payload === undefined ? undefined : Number(values.payload),
    seconds: Number(values.seconds),
    everyMs: Number(values.every),
    keep: values.keep,
  });
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
  process.exit(0);
}
