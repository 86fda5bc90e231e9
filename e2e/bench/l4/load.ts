/**
 * The load generator of `npm run bench`: one program, both ends.
 *
 *   node e2e/bench/l4/load.ts serve    --port 9000                     echo on 9000, sink on 9001, source on 9002; again from 9100
 *   node e2e/bench/l4/load.ts bulk     --host H --port P --connections N --direction up|down --seconds S
 *   node e2e/bench/l4/load.ts pingpong --host H --port P --connections N --size 1024 --seconds S
 *   node e2e/bench/l4/load.ts connect  --host H --port P --workers N --seconds S
 *   node e2e/bench/l4/load.ts idle     --host H --port P --connections N --seconds S
 *
 * Every client command prints one JSON line. Exit status 1 means that connections failed.
 */
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { Histogram } from "#e2e/bench/histogram.ts";

interface Target {
  readonly host: string;
  readonly port: number;
}

/** What every command reports; fields that a command does not measure are absent. */
export interface LoadResult {
  readonly errors: number;
  readonly seconds: number;
  readonly gigabitsPerSecond?: number;
  readonly gigabytes?: number;
  readonly operations?: number;
  /** Also what was moved before measuring began: CPU read around the whole command is divided by these. */
  readonly gigabytesInAll?: number;
  readonly operationsInAll?: number;
  readonly perSecond?: number;
  readonly p50Us?: number;
  readonly p99Us?: number;
  /** Connects only: the rate of the first second, before ports in TIME_WAIT pile up. */
  readonly firstSecondPerSecond?: number;
  readonly laterPerSecond?: number;
  readonly open?: number;
}

/**
 * Distance of a second set of the same ports. A closed connection blocks its ports for a minute: whoever measures twice
 * in a row does so on different ones.
 */
export const secondSet = 100;

const chunkBytes = 128 * 1024;
const nowUs = (): number => performance.now() * 1_000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** One read buffer per connection, so that bulk bytes cost no garbage. */
function dial(target: Target, onData: (bytes: number) => void): Socket {
  const buffer = Buffer.allocUnsafe(chunkBytes);
  const socket = connect({
    ...target,
    noDelay: true,
    onread: {
      buffer,
      callback: (bytes) => {
        onData(bytes);
        return true;
      },
    },
  });
  socket.on("error", () => undefined);
  return socket;
}

const opened = (socket: Socket): Promise<boolean> =>
  new Promise((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("close", () => resolve(false));
  });

function serve(port: number): void {
  const handlers: ((socket: Socket) => void)[] = [
    (socket) => socket.on("data", (chunk) => socket.write(chunk)),
    (socket) => socket.resume(),
    (socket) => pump(socket, () => true),
  ];
  handlers.forEach((handle, offset) => {
    createServer({ noDelay: true }, (socket) => {
      socket.on("error", () => socket.destroy());
      handle(socket);
    }).listen({ port: port + offset, host: "::", backlog: 4096 });
  });
  console.log("serving");
}

/** Writes as fast as the other end reads, while `wanted` says so. */
function pump(socket: Socket, wanted: () => boolean): void {
  const chunk = Buffer.alloc(chunkBytes, 0x61);
  const go = () => {
    while (wanted() && !socket.destroyed && socket.write(chunk));
  };
  socket.on("drain", go);
  go();
}

async function bulk(target: Target, connections: number, up: boolean, seconds: number): Promise<LoadResult> {
  let bytes = 0;
  let running = true;
  let errors = 0;
  const sockets = Array.from({ length: connections }, () =>
    dial({ host: target.host, port: target.port + (up ? 1 : 2) }, (count) => (bytes += count)),
  );
  for (const ok of await Promise.all(sockets.map(opened))) if (!ok) errors++;
  const written = () => sockets.reduce((sum, socket) => sum + socket.bytesWritten - socket.writableLength, 0);
  if (up) for (const socket of sockets) pump(socket, () => running);
  await pause(300); // slow start and first allocations are not what is measured
  const [startUs, startBytes] = [nowUs(), up ? written() : bytes];
  await pause(seconds * 1_000);
  const inAll = up ? written() : bytes;
  const [tookS, moved] = [(nowUs() - startUs) / 1e6, inAll - startBytes];
  running = false;
  for (const socket of sockets) socket.destroy();
  return {
    errors,
    seconds: tookS,
    gigabytes: moved / 1e9,
    gigabytesInAll: inAll / 1e9,
    gigabitsPerSecond: (moved * 8) / 1e9 / tookS,
  };
}

async function pingpong(target: Target, connections: number, size: number, seconds: number): Promise<LoadResult> {
  const message = Buffer.alloc(size, 0x62);
  const latencies = new Histogram();
  let running = true;
  let counting = false;
  let errors = 0;
  let operationsInAll = 0;
  const sockets = Array.from({ length: connections }, () => {
    let sentUs = 0;
    let missing = 0;
    const socket = dial(target, (count) => {
      missing -= count;
      if (missing > 0) return;
      operationsInAll++;
      if (counting) latencies.record(nowUs() - sentUs);
      if (running) ask();
    });
    const ask = () => {
      missing = size;
      sentUs = nowUs();
      socket.write(message);
    };
    socket.once("connect", ask);
    socket.on("close", () => {
      if (running) errors++;
    });
    return socket;
  });
  await Promise.all(sockets.map(opened));
  await pause(500);
  counting = true;
  const startUs = nowUs();
  await pause(seconds * 1_000);
  counting = false;
  running = false;
  const tookS = (nowUs() - startUs) / 1e6;
  for (const socket of sockets) socket.destroy();
  return {
    errors,
    seconds: tookS,
    operations: latencies.count,
    operationsInAll,
    perSecond: latencies.count / tookS,
    p50Us: latencies.percentile(0.5),
    p99Us: latencies.percentile(0.99),
  };
}

async function connects(target: Target, workers: number, seconds: number): Promise<LoadResult> {
  const message = Buffer.alloc(64, 0x63);
  const latencies = new Histogram();
  const startUs = nowUs();
  const endUs = startUs + seconds * 1e6;
  let errors = 0;
  let inFirstSecond = 0;
  const once = (): Promise<void> =>
    new Promise((resolve) => {
      const beganUs = nowUs();
      let missing = message.length;
      let answered = false;
      const socket = connect({ ...target, noDelay: true }, () => socket.write(message));
      socket.setTimeout(10_000, () => socket.destroy());
      socket.on("error", () => undefined);
      socket.on("data", (chunk) => {
        missing -= chunk.length;
        if (missing > 0) return;
        answered = true;
        socket.end();
      });
      socket.on("close", () => {
        if (answered) {
          latencies.record(nowUs() - beganUs);
          if (nowUs() - startUs < 1e6) inFirstSecond++;
        } else errors++;
        resolve();
      });
    });
  await Promise.all(
    Array.from({ length: workers }, async () => {
      while (nowUs() < endUs) await once();
    }),
  );
  const tookS = (nowUs() - startUs) / 1e6;
  return {
    errors,
    seconds: tookS,
    operations: latencies.count,
    perSecond: latencies.count / tookS,
    firstSecondPerSecond: inFirstSecond,
    laterPerSecond: tookS > 1 ? (latencies.count - inFirstSecond) / (tookS - 1) : 0,
    p50Us: latencies.percentile(0.5),
    p99Us: latencies.percentile(0.99),
  };
}

async function idle(target: Target, connections: number, seconds: number): Promise<LoadResult> {
  const sockets: Socket[] = [];
  let errors = 0;
  const startUs = nowUs();
  for (let made = 0; made < connections; made += 50) {
    const batch = Array.from({ length: Math.min(50, connections - made) }, () => connect({ ...target, noDelay: true }));
    for (const socket of batch) socket.on("error", () => undefined);
    for (const ok of await Promise.all(batch.map(opened))) if (!ok) errors++;
    sockets.push(...batch);
  }
  console.log(JSON.stringify({ open: sockets.length - errors }));
  await pause(seconds * 1_000);
  // Each must still carry a byte there and back.
  const alive = await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<boolean>((resolve) => {
          socket.once("data", () => resolve(true));
          socket.once("close", () => resolve(false));
          if (socket.destroyed) resolve(false);
          else socket.write("x");
        }),
    ),
  );
  const open = alive.filter(Boolean).length;
  for (const socket of sockets) socket.destroy();
  return { errors: connections - open, seconds: (nowUs() - startUs) / 1e6, open };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "9000" },
      connections: { type: "string", default: "1" },
      workers: { type: "string", default: "16" },
      size: { type: "string", default: "1024" },
      seconds: { type: "string", default: "3" },
      direction: { type: "string", default: "up" },
    },
  });
  const target = { host: values.host, port: Number(values.port) };
  const [connections, seconds] = [Number(values.connections), Number(values.seconds)];
  const commands: Readonly<Record<string, () => Promise<LoadResult> | undefined>> = {
    serve: () => {
      serve(target.port);
      serve(target.port + secondSet);
      return undefined;
    },
    bulk: () => bulk(target, connections, values.direction === "up", seconds),
    pingpong: () => pingpong(target, connections, Number(values.size), seconds),
    connect: () => connects(target, Number(values.workers), seconds),
    idle: () => idle(target, connections, seconds),
  };
  const [name = ""] = positionals;
  const command = commands[name];
  if (command === undefined) {
    console.error(`load: "${name}" is no command: write one of ${Object.keys(commands).join(", ")}`);
    process.exit(2);
  }
  const result = await command();
  if (result === undefined) return;
  console.log(JSON.stringify(result));
  process.exit(result.errors > 0 ? 1 : 0);
}

if (import.meta.main) await main();
