/**
 * Speaks HTTP to a service as no client should, from inside a pod, and prints JSON of what came back.
 *
 *   node e2e/support/web-attacker.ts ambiguities --host H --port P    {@link Refusal}[]: each of a table of requests
 *   node e2e/support/web-attacker.ts floods      --host H --port P    {@link Flood}[]: HTTP/2, frame by frame
 *   node e2e/support/web-attacker.ts slow        --host H --port P --count N --seconds S    {@link Crowd}: heads without end
 *   node e2e/support/web-attacker.ts crowd       --host H --port P --count N --seconds S    {@link Crowd}: a request each, then nothing
 *   node e2e/support/web-attacker.ts endless     --host H --port P    {@link Refusal}[]: what only grows
 */
import { connect, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { ambiguities, harmless, next } from "#waypoint/http/testing/ambiguities.ts";
import { floods } from "#waypoint/http/testing/floods.ts";
import { hello, RawPeer } from "#waypoint/http/testing/raw-http2.ts";

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

/** Where HTTP/2 is spoken too its preface is none of them. */
const tried = ambiguities.filter(([why]) => !why.includes("preface"));

async function tryAmbiguities(target: Target): Promise<readonly Refusal[]> {
  const odd = tried.map(([why, bytes, status = 400]) => ({ why, bytes, wanted: { status, requests: 0 } }));
  const fine = harmless.map(([why, bytes, seen]) => ({ why, bytes, wanted: { requests: seen.length + 1 } }));
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
    slow: () => gather(target, count, waitMs, head, "X-A: 1\r\n"),
    crowd: () => gather(target, count, waitMs, `${head}\r\n`, ""),
  };
  const attack = attacks[positionals[0] ?? ""];
  if (attack === undefined) throw new Error(`unknown attack "${positionals[0] ?? ""}"`);
  console.log(JSON.stringify(await attack()));
  process.exit(0);
}
