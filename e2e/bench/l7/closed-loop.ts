/**
 * The two ends of the full path, run inside of pods.
 *
 *   node e2e/bench/l7/closed-loop.ts answer --port 9000                 answers 1 KiB on this port and the next
 *   node e2e/bench/l7/closed-loop.ts ask --host H --port P --connections N --seconds S
 *
 * Each connection asks again as soon as it has its answer. `ask` prints one JSON line.
 */
import { connect, createServer } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { Histogram } from "#e2e/bench/histogram.ts";

export interface ClosedLoop {
  readonly errors: number;
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Field `server` of the answers: who gave them. */
  readonly servedBy: string;
}

const bodyBytes = 1_024;
const request = Buffer.from("GET / HTTP/1.1\r\nhost: server.bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n");
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: ${bodyBytes}\r\n\r\n${"b".repeat(bodyBytes)}`,
);
const nowUs = (): number => performance.now() * 1_000;

function serve(port: number): void {
  createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", () => socket.write(answer));
  }).listen({ port, host: "::", backlog: 1_024 });
}

/** What is measured begins after a fifth of the time. */
async function ask(host: string, port: number, connections: number, seconds: number): Promise<ClosedLoop> {
  const latencies = new Histogram();
  const warmUntilUs = nowUs() + seconds * 2e5;
  const endUs = warmUntilUs + seconds * 1e6;
  let errors = 0;
  let servedBy = "";
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      let sentUs = 0;
      let missing = 0;
      let head = "";
      const socket = connect({ host, port, noDelay: true }, () => send());
      const send = () => {
        sentUs = nowUs();
        head = "";
        socket.write(request);
      };
      const fail = () => {
        if (socket.destroyed) return resolve();
        errors++;
        socket.destroy();
        resolve();
      };
      socket.setTimeout(10_000, fail);
      socket.on("error", () => {
        errors++;
      });
      socket.on("close", () => resolve());
      socket.on("end", fail);
      socket.on("data", (chunk: Buffer) => {
        let taken = chunk.length;
        if (missing === 0) {
          head += chunk.toString("latin1");
          const end = head.indexOf("\r\n\r\n");
          if (end < 0) return;
          if (!head.startsWith("HTTP/1.1 200")) return fail();
          if (servedBy === "") servedBy = /\r\nserver: ([^\r]*)/u.exec(head)?.[1] ?? "";
          missing = bodyBytes;
          taken = head.length - end - 4;
        }
        missing -= taken;
        if (missing > 0) return;
        missing = 0;
        const now = nowUs();
        if (now >= warmUntilUs && now < endUs) latencies.record(now - sentUs);
        if (now < endUs) send();
        else socket.destroy();
      });
    });
  await Promise.all(Array.from({ length: connections }, one));
  return {
    errors,
    perSecond: latencies.count / seconds,
    p50Us: latencies.percentile(0.5),
    p99Us: latencies.percentile(0.99),
    servedBy,
  };
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "9000" },
      connections: { type: "string", default: "1" },
      seconds: { type: "string", default: "3" },
    },
  });
  const port = Number(values.port);
  if (positionals[0] === "answer") {
    serve(port);
    serve(port + 1);
  } else {
    const result = await ask(values.host, port, Number(values.connections), Number(values.seconds));
    console.log(JSON.stringify(result));
    process.exit(result.errors > 0 ? 1 : 0);
  }
}
