/**
 * Requests at a steady rate, whatever comes back, and the origin that answers them: one program, one thread, which never
 * sleeps, so that neither the kernel's scheduler nor a timer stands between the two ends.
 *
 *   node e2e/bench/l7/open-loop.ts --origin PORT --target PORT --rate 1000 --seconds 5
 *
 * A request that is due is timed from when it was due, even if every connection was busy then. Prints one JSON line.
 */
import { connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { Histogram } from "#e2e/bench/histogram.ts";

export interface OpenLoop {
  readonly requests: number;
  readonly errors: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
}

const connections = 64;
const warmUpSeconds = 2;
const bodyBytes = 1_024;
const request = Buffer.from("GET / HTTP/1.1\r\nhost: bench.example\r\nuser-agent: bench\r\naccept: */*\r\n\r\n");
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${bodyBytes}\r\n\r\n${"b".repeat(bodyBytes)}`,
);
const nowUs = (): number => performance.now() * 1_000;

/** Heads are small and come whole: what a proxy sends in one piece is one request. */
function serve(port: number): Promise<void> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.write(answer));
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", 1_024, resolve));
}

class Caller {
  readonly socket: Socket;
  #dueUs = 0;
  #missing = 0;

  constructor(port: number, done: (caller: Caller, tookUs: number) => void, failed: () => void) {
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.socket.on("error", failed);
    this.socket.on("close", failed);
    this.socket.on("data", (chunk) => {
      if (this.#missing === 0) {
        const headEnd = chunk.indexOf("\r\n\r\n");
        if (headEnd < 0 || chunk[9] !== 0x32) failed();
        this.#missing = headEnd + 4 + bodyBytes;
      }
      this.#missing -= chunk.length;
      if (this.#missing > 0) return;
      this.#missing = 0;
      done(this, nowUs() - this.#dueUs);
    });
  }

  ask(dueUs: number): void {
    this.#dueUs = dueUs;
    this.socket.write(request);
  }
}

async function openLoop(target: number, rate: number, seconds: number): Promise<OpenLoop> {
  const latencies = new Histogram();
  const idle: Caller[] = [];
  const waiting: number[] = [];
  let errors = 0;
  let isCounting = false;
  let isOver = false;
  const done = (caller: Caller, tookUs: number) => {
    if (isCounting) latencies.record(tookUs);
    const next = waiting.shift();
    if (next === undefined) idle.push(caller);
    else caller.ask(next);
  };
  const failed = () => {
    if (!isOver) errors++;
  };
  for (let index = 0; index < connections; index++) {
    const caller = new Caller(target, done, failed);
    await new Promise((resolve) => caller.socket.once("connect", resolve));
    idle.push(caller);
  }
  const intervalUs = 1e6 / rate;
  const startUs = nowUs();
  const countFromUs = startUs + warmUpSeconds * 1e6;
  const endUs = countFromUs + seconds * 1e6;
  let dueUs = startUs;
  await new Promise<void>((resolve) => {
    const turn = () => {
      const now = nowUs();
      isCounting = now >= countFromUs;
      while (dueUs <= now && dueUs < endUs) {
        const caller = idle.shift();
        if (caller === undefined) waiting.push(dueUs);
        else caller.ask(dueUs);
        dueUs += intervalUs;
      }
      if (dueUs >= endUs && (idle.length === connections || now > endUs + 1e6)) resolve();
      else setImmediate(turn);
    };
    turn();
  });
  isOver = true;
  return {
    requests: latencies.count,
    errors,
    p50Us: latencies.percentile(0.5),
    p90Us: latencies.percentile(0.9),
    p99Us: latencies.percentile(0.99),
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      origin: { type: "string", default: "9000" },
      target: { type: "string", default: "9000" },
      rate: { type: "string", default: "1000" },
      seconds: { type: "string", default: "5" },
    },
  });
  await serve(Number(values.origin));
  const result = await openLoop(Number(values.target), Number(values.rate), Number(values.seconds));
  console.log(JSON.stringify(result));
  process.exit(result.errors > 0 ? 1 : 0);
}
