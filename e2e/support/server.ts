/**
 * The server side of the scenarios: one program, a behaviour per port, so that a test can ask for every shape that a
 * TCP conversation takes. `node e2e/support/server.ts [--host ::]`; ports are {@link serverPorts}.
 */
import { createHash } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";

export const serverPorts = {
  /** Sends back what it gets; ends when the client does. */
  echo: 7000,
  /** Greets first with `hello\n`, then echoes. */
  serverFirst: 7001,
  /** Reads to the end, then answers `<bytes> <sha256>\n`: the client closes its half first. */
  digest: 7002,
  /** Says `bye\n`, closes its half, goes on reading; what it read is shown by `http`. */
  halfClose: 7003,
  /** Resets the connection at the first byte. */
  reset: 7004,
  /** The first line asks for that many bytes; sends them and ends. */
  source: 7005,
  /** Reads and forgets. */
  sink: 7006,
  /** HTTP: who is calling, and what the other ports saw. */
  http: 8080,
} as const;

interface Seen {
  connections: number;
  bytesAfterHalfClose: number;
  resetsByClient: number;
  open: number;
}

export interface CallerFacts extends Seen {
  readonly peer: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

const seen: Seen = { connections: 0, bytesAfterHalfClose: 0, resetsByClient: 0, open: 0 };

const behaviours: Readonly<Record<Exclude<keyof typeof serverPorts, "http">, (socket: Socket) => void>> = {
  echo: (socket) => socket.pipe(socket),
  serverFirst: (socket) => {
    socket.write("hello\n");
    socket.pipe(socket);
  },
  digest: (socket) => {
    const hash = createHash("sha256");
    let bytes = 0;
    socket.on("data", (chunk) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    socket.on("end", () => socket.end(`${bytes} ${hash.digest("hex")}\n`));
  },
  halfClose: (socket) => {
    socket.end("bye\n");
    socket.on("data", (chunk) => (seen.bytesAfterHalfClose += chunk.length));
  },
  reset: (socket) => socket.once("data", () => socket.resetAndDestroy()),
  source: (socket) => {
    socket.once("data", (line) => {
      let left = Number(line.toString("utf8").trim());
      const chunk = Buffer.alloc(64 * 1024, 0x61);
      const send = () => {
        while (left > 0) {
          const piece = left < chunk.length ? chunk.subarray(0, left) : chunk;
          left -= piece.length;
          if (!socket.write(piece)) return;
        }
        socket.end();
      };
      socket.on("drain", send);
      send();
    });
  },
  sink: (socket) => socket.resume(),
};

if (import.meta.main) {
  const { values } = parseArgs({ options: { host: { type: "string", default: "::" } } });
  const host = values.host;
  for (const [name, behave] of Object.entries(behaviours)) {
    createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      seen.connections++;
      seen.open++;
      socket.on("close", () => seen.open--);
      socket.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ECONNRESET") seen.resetsByClient++;
      });
      behave(socket);
    }).listen({ port: serverPorts[name as keyof typeof behaviours], host, backlog: 1024 });
  }
  createHttpServer((request, response) => {
    const facts: CallerFacts = { peer: request.socket.remoteAddress ?? "", headers: request.headers, ...seen };
    response.setHeader("content-type", "application/json");
    response.end(`${JSON.stringify(facts)}\n`);
  }).listen(serverPorts.http, host);
  process.on("SIGTERM", () => process.exit(0));
  console.log("serving");
}
