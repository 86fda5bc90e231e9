/**
 * Speaks HTTP to a service as no client should, from inside a pod, and prints JSON of what came back.
 *
 *   node e2e/support/web-attacker.ts ambiguities --host H --port P    {@link Refusal}[]: each of a table of requests
 *   node e2e/support/web-attacker.ts floods      --host H --port P    {@link Flood}[]: HTTP/2, frame by frame
 *   node e2e/support/web-attacker.ts downgrade   --host H --port P    {@link Flood}[]: HTTP/2 that would be something else in HTTP/1.1
 *   node e2e/support/web-attacker.ts slow        --host H --port P --count N --seconds S    {@link Crowd}: heads without end
 *   node e2e/support/web-attacker.ts crowd       --host H --port P --count N --seconds S    {@link Crowd}: a request each, then nothing
 *   node e2e/support/web-attacker.ts endless     --host H --port P    {@link Refusal}[]: what only grows
 */
import { connect, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { frameTypes } from "#waypoint/http/http2-frames.ts";
import { ambiguities, harmless, next } from "#waypoint/http/testing/ambiguities.ts";
import { floods } from "#waypoint/http/testing/floods.ts";
import { flag, frame, hello, literal, RawPeer, request } from "#waypoint/http/testing/raw-http2.ts";

export interface Refusal {
  readonly why: string;
  /** Of the answers that came, in their order. */
  readonly statuses: readonly number[];
  /** The other side closed the connection. */
  readonly isClosed: boolean;
  /** Requests that the server should have seen of it. */
  readonly wanted: { readonly status?: number; readonly requests: number };
}

export interface Flood {
  readonly why: string;
  /** Of the GOAWAY, or what else ended it. */
  readonly ending: string;
}

export interface Crowd {
  readonly connected: number;
  /** Answered with 200. */
  readonly answered: number;
  readonly open: number;
}

interface Target {
  readonly host: string;
  readonly port: number;
}

const patienceMs = 8_000;
const connectionsAtATime = 100;

/** Sends and reads until the other side closes. */
function exchange(target: Target, bytes: Iterable<string | Buffer>): Promise<{ text: string; isClosed: boolean }> {
  return new Promise((resolve) => {
    const socket = connect(target);
    let text = "";
    const finish = (isClosed: boolean) => {
      resolve({ text, isClosed });
      socket.destroy();
    };
    const timer = setTimeout(() => finish(false), patienceMs);
    socket.on("data", (chunk: Buffer) => (text = (text + chunk.toString("latin1")).slice(0, 1_000_000)));
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      finish(true);
    });
    socket.once("connect", () => void feed(socket, bytes));
  });
}

/** As fast as it is taken. */
async function feed(socket: Socket, chunks: Iterable<string | Uint8Array>): Promise<void> {
  for (const chunk of chunks) {
    if (socket.destroyed || socket.readableEnded) return;
    const taken = typeof chunk === "string" ? socket.write(chunk, "latin1") : socket.write(chunk);
    if (!taken) {
      await new Promise((resolve) => {
        socket.once("drain", resolve);
        socket.once("close", resolve);
        socket.once("end", resolve);
      });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const statusesIn = (text: string): readonly number[] =>
  [...text.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, status]) => Number(status));

/** Where HTTP/2 is spoken too its preface is none of them; where routes decide, none is there for CONNECT. */
const tried = ambiguities
  .filter(([why]) => !why.includes("preface"))
  .map(([why, bytes, status = 400]) => [why, bytes, why === "CONNECT" ? 404 : status] as const);

/** No route that looks at paths leads to `*`. */
const ordinary = harmless.filter(([why]) => why !== "OPTIONS *");

async function tryAmbiguities(target: Target): Promise<readonly Refusal[]> {
  const odd = tried.map(([why, bytes, status]) => ({ why, bytes, wanted: { status, requests: 0 } }));
  const fine = ordinary.map(([why, bytes, seen]) => ({ why, bytes, wanted: { requests: seen.length + 1 } }));
  const results: Refusal[] = [];
  for (let at = 0; at < odd.length + fine.length; at += 10) {
    const batch = [...odd, ...fine].slice(at, at + 10).map(async ({ why, bytes, wanted }): Promise<Refusal> => {
      const { text, isClosed } = await exchange(target, [bytes + next]);
      return { why, statuses: statusesIn(text), isClosed, wanted };
    });
    results.push(...(await Promise.all(batch)));
  }
  return results;
}

function* endlessly(first: string, piece: string, count: number): Generator<string> {
  yield first;
  for (let made = 0; made < count; made++) yield piece;
}

/** Each would be some hundred megabytes, were it read. */
async function tryEndless(target: Target): Promise<readonly Refusal[]> {
  const start = "POST /endless HTTP/1.1\r\nHost: b\r\n";
  const cases: readonly (readonly [why: string, first: string, piece: string, status: number])[] = [
    ["a target", "GET /", "a".repeat(16_384), 414],
    ["a field", `${start}X-A: `, "a".repeat(16_384), 431],
    ["fields", start, `X-A: 1\r\n`.repeat(1_000), 431],
    ["a chunk extension", `${start}Transfer-Encoding: chunked\r\n\r\n1;`, "a".repeat(16_384), 400],
    ["a chunk size", `${start}Transfer-Encoding: chunked\r\n\r\n`, "0".repeat(16_384), 400],
    ["trailers", `${start}Transfer-Encoding: chunked\r\n\r\n0\r\n`, `X-A: 1\r\n`.repeat(1_000), 431],
    ["empty lines", "", "\r\n".repeat(8_000), 400],
  ];
  const results: Refusal[] = [];
  for (const [why, first, piece, status] of cases) {
    const { text, isClosed } = await exchange(target, endlessly(first, piece, 20_000));
    results.push({ why, statuses: statusesIn(text), isClosed, wanted: { status, requests: 0 } });
  }
  return results;
}

async function tryFlood(target: Target, why: string, chunks: Iterable<Uint8Array>): Promise<Flood> {
  const socket = connect(target);
  const peer = new RawPeer(socket);
  peer.write(hello());
  const gone = peer.goaway().catch((error: unknown) => `closed: ${String(error)}`.slice(0, 100));
  const tooLong = new Promise<string>((resolve) => setTimeout(resolve, 2 * patienceMs, "still there"));
  void feed(socket, chunks);
  const ending = await Promise.race([gone, tooLong]);
  socket.destroy();
  return { why, ending };
}

async function tryFloods(target: Target): Promise<readonly Flood[]> {
  const results: Flood[] = [];
  for (const [why, { chunks }] of Object.entries(floods)) results.push(await tryFlood(target, why, chunks()));
  return results;
}

const requestLine = (path: string, authority = "b", method = "GET") =>
  [
    literal(":method", method),
    literal(":scheme", "http"),
    literal(":path", path),
    literal(":authority", authority),
  ] as const;
const evil = "\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n";

// prettier-ignore
const downgrades: readonly (readonly [why: string, fields: readonly Uint8Array[], body?: string])[] = [
  ["a line break in a value",       [...requestLine("/"), literal("x-user", `a${evil}`)]],
  ["a bare LF in a value",          [...requestLine("/"), literal("x-user", "a\nx: 1")]],
  ["NUL in a value",                [...requestLine("/"), literal("x-user", "a\0b")]],
  ["a line break in a name",        [...requestLine("/"), literal("x\r\ny", "a")]],
  ["a colon in a name",             [...requestLine("/"), literal("x: 1", "a")]],
  ["a space in a name",             [...requestLine("/"), literal("x y", "a")]],
  ["capitals in a name",            [...requestLine("/"), literal("X-User", "a")]],
  ["a line break in the path",      [...requestLine(`/ HTTP/1.1${evil}`)]],
  ["a space in the path",           [...requestLine("/a HTTP/1.1")]],
  ["a path that is none",           [...requestLine("a")]],
  ["no path",                       [...requestLine("")]],
  ["a line break in the authority", [...requestLine("/", `b${evil}`)]],
  ["a space in the authority",      [...requestLine("/", "b c")]],
  ["a path in the authority",       [...requestLine("/", "b/c")]],
  ["user information",              [...requestLine("/", "a@b")]],
  ["a line break in the method",    [...requestLine("/", "b", `GET / HTTP/1.1${evil}`)]],
  ["a space in the method",         [...requestLine("/", "b", "GET /x")]],
  ["a second path",                 [...requestLine("/"), literal(":path", "/b")]],
  ["a pseudo-header behind others", [...requestLine("/"), literal("x", "a"), literal(":path", "/b")]],
  ["an unknown pseudo-header",      [...requestLine("/"), literal(":x", "a")]],
  ["Transfer-Encoding",             [...requestLine("/", "b", "POST"), literal("transfer-encoding", "chunked")], "0\r\n\r\n"],
  ["Connection",                    [...requestLine("/"), literal("connection", "keep-alive, x")]],
  ["Upgrade",                       [...requestLine("/"), literal("upgrade", "websocket")]],
  ["TE that is not trailers",       [...requestLine("/"), literal("te", "chunked")]],
  ["a length too short",            [...requestLine("/", "b", "POST"), literal("content-length", "1")], "hello"],
  ["a length too long",             [...requestLine("/", "b", "POST"), literal("content-length", "10")], "hello"],
  ["two lengths",                   [...requestLine("/", "b", "POST"), literal("content-length", "5"), literal("content-length", "6")], "hello"],
  ["a length that is none",         [...requestLine("/", "b", "POST"), literal("content-length", "+5")], "hello"],
  ["a Host that is another",        [...requestLine("/"), literal("host", "c")]],
];

/** Each on a connection of its own; refusals come as a reset, an end of the connection, or an answer. */
async function tryDowngrades(target: Target): Promise<readonly Flood[]> {
  const results: Flood[] = [];
  for (const [why, fields, body] of downgrades) {
    const socket = connect(target);
    const peer = new RawPeer(socket);
    const block = Buffer.concat(fields);
    peer.write(hello(), request(1, block, body === undefined ? flag.endStream : 0));
    if (body !== undefined) peer.write(frame(frameTypes.data, flag.endStream, 1, Buffer.from(body)));
    const tooLong = new Promise<string>((resolve) => setTimeout(resolve, patienceMs, "nothing"));
    const over = "the connection ended";
    const ending = await Promise.race([
      peer.resetOf(1).catch(() => over),
      peer.goaway().catch(() => over),
      peer.section(1).then(
        ({ status }) => status,
        () => over,
      ),
      tooLong,
    ]);
    results.push({ why, ending });
    socket.destroy();
  }
  return results;
}

/** Many connections at once, each with `first` sent and `again` every second. */
async function gather(target: Target, count: number, waitMs: number, first: string, again: string): Promise<Crowd> {
  const sockets: Socket[] = [];
  let [connected, answered] = [0, 0];
  const started = performance.now();
  for (let made = 0; made < count; made += connectionsAtATime) {
    const batch = Array.from({ length: Math.min(connectionsAtATime, count - made) }, () => connect(target));
    await Promise.all(
      batch.map((socket) => {
        sockets.push(socket);
        return new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, patienceMs);
          const settle = () => {
            clearTimeout(timer);
            resolve();
          };
          socket.on("error", settle);
          socket.on("close", settle);
          socket.once("data", (chunk: Buffer) => {
            if (chunk.toString("latin1").startsWith("HTTP/1.1 200 ")) answered++;
            settle();
          });
          socket.once("connect", () => {
            connected++;
            socket.write(first);
            if (again !== "") settle();
          });
        });
      }),
    );
  }
  console.log(JSON.stringify({ connected, answered, open: sockets.filter((socket) => !socket.destroyed).length }));
  while (performance.now() - started < waitMs) {
    if (again !== "") for (const socket of sockets) if (socket.writable) socket.write(again);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    if (sockets.every(({ destroyed }) => destroyed)) break;
  }
  const open = sockets.filter((socket) => !socket.destroyed).length;
  for (const socket of sockets) socket.destroy();
  return { connected, answered, open };
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "80" },
      count: { type: "string", default: "100" },
      seconds: { type: "string", default: "20" },
    },
  });
  const target = { host: values.host, port: Number(values.port) };
  const [count, waitMs] = [Number(values.count), Number(values.seconds) * 1_000];
  const head = "GET /crowd HTTP/1.1\r\nHost: b\r\n";
  const attacks: Readonly<Record<string, () => Promise<unknown>>> = {
    ambiguities: () => tryAmbiguities(target),
    endless: () => tryEndless(target),
    floods: () => tryFloods(target),
    downgrade: () => tryDowngrades(target),
    slow: () => gather(target, count, waitMs, head, "X-A: 1\r\n"),
    crowd: () => gather(target, count, waitMs, `${head}\r\n`, ""),
  };
  const attack = attacks[positionals[0] ?? ""];
  if (attack === undefined) throw new Error(`unknown attack "${positionals[0] ?? ""}"`);
  console.log(JSON.stringify(await attack()));
  process.exit(0);
}
