/**
 * The client side of the scenarios, run inside a pod. Each command is one shape of conversation with
 * `e2e/support/server.ts`, or a stream of them, and prints JSON; what failed is in the JSON, not in the exit status.
 *
 *   node e2e/support/client.ts <command> --host H [--port P] …      commands: {@link commands}
 */
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import { serverPorts } from "./server.ts";

interface Asked {
  readonly host: string;
  readonly port: number | undefined;
  readonly bytes: number;
  readonly seconds: number;
  readonly text: string;
  readonly everyMs: number;
}

/** How a conversation ended. */
export interface Outcome {
  readonly ok: boolean;
  /** `end`: the other side closed; `timeout`; otherwise the error's code. */
  readonly end: string;
  readonly received: string;
  readonly bytes: number;
  readonly ms: number;
}

/** What a steady stream of short connections saw. */
export interface LoadOutcome {
  readonly done: number;
  readonly failed: number;
  readonly failures: readonly string[];
}

const deadlineMs = 10_000;

function open(asked: Asked, port: number, timeoutMs = deadlineMs): Socket {
  const socket = connect({ host: asked.host, port: asked.port ?? port, allowHalfOpen: true, noDelay: true });
  socket.setTimeout(timeoutMs, () => socket.destroy(Object.assign(new Error("timeout"), { code: "timeout" })));
  return socket;
}

/** Follows a conversation to its end; `speak` starts it. */
function follow(
  socket: Socket,
  speak: (socket: Socket) => void,
  good: (received: string, end: string) => boolean,
): Promise<Outcome> {
  const beganMs = performance.now();
  let received = "";
  let bytes = 0;
  let end = "close";
  return new Promise((resolve) => {
    socket.on("connect", () => speak(socket));
    socket.on("data", (chunk) => {
      bytes += chunk.length;
      if (received.length < 4_096) received += chunk.toString("utf8");
    });
    socket.on("end", () => {
      end = "end";
      socket.end();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => (end = error.code ?? error.message));
    socket.on("close", () =>
      resolve({ ok: good(received, end), end, received, bytes, ms: Math.round(performance.now() - beganMs) }),
    );
  });
}

/** `bytes` of pseudo-random data in chunks, written with respect for backpressure; resolves to its digest. */
async function writeAll(socket: Socket, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(64 * 1024);
  for (let index = 0; index < chunk.length; index++) chunk[index] = (index * 7 + 3) & 0xff;
  for (let left = bytes; left > 0;) {
    const piece = left < chunk.length ? chunk.subarray(0, left) : chunk;
    left -= piece.length;
    hash.update(piece);
    if (!socket.write(piece)) await new Promise<void>((resolve) => socket.once("drain", resolve));
  }
  return hash.digest("hex");
}

const commands: Readonly<Record<string, (asked: Asked) => Promise<unknown>>> = {
  /** Says a text, reads it back, ends. */
  echo: (asked) =>
    follow(
      open(asked, serverPorts.echo),
      (socket) => socket.end(asked.text),
      (received, end) => received === asked.text && end === "end",
    ),
  /** Waits for the server to speak first. */
  first: (asked) => {
    const socket = open(asked, serverPorts.serverFirst);
    socket.once("data", () => socket.end(asked.text));
    return follow(
      socket,
      () => undefined,
      (received, end) => received === `hello\n${asked.text}` && end === "end",
    );
  },
  /** Closes its half, then reads the digest of what it sent. */
  digest: async (asked) => {
    const socket = open(asked, serverPorts.digest, 60_000);
    let digest = "";
    const followed = follow(
      socket,
      (opened) => {
        const send = async () => {
          digest = await writeAll(opened, asked.bytes);
          opened.end();
        };
        void send();
      },
      (received) => received === `${asked.bytes} ${digest}\n`,
    );
    return followed;
  },
  /** The server closes its half at once; the client goes on sending, then closes. */
  halfclose: (asked) => {
    const socket = connect({ host: asked.host, port: asked.port ?? serverPorts.halfClose, allowHalfOpen: true });
    socket.setTimeout(deadlineMs, () => socket.destroy());
    let received = "";
    return new Promise((resolve) => {
      socket.on("data", (chunk) => (received += chunk.toString("utf8")));
      socket.on("end", () => {
        socket.write(Buffer.alloc(asked.bytes, 0x61));
        setTimeout(() => socket.end(), 100);
      });
      socket.on("error", (error) => resolve({ ok: false, end: String(error), received }));
      socket.on("close", () => resolve({ ok: received === "bye\n", end: "close", received }));
    });
  },
  /** The server resets: it must arrive as an end or a reset, not as silence. */
  reset: (asked) =>
    follow(
      open(asked, serverPorts.reset),
      (socket) => socket.write("x"),
      (_received, end) => end !== "timeout",
    ),
  /** Sends a byte and resets the connection itself. */
  abort: (asked) =>
    follow(
      open(asked, serverPorts.echo),
      (socket) => {
        socket.write("x");
        setTimeout(() => socket.resetAndDestroy(), 100);
      },
      () => true,
    ),
  /** Reads `bytes`, slowly at first: stops for `seconds` after the first chunk, then drains. */
  pull: (asked) => {
    const socket = open(asked, serverPorts.source, 120_000);
    let bytes = 0;
    const beganMs = performance.now();
    return new Promise((resolve) => {
      socket.on("connect", () => socket.write(`${asked.bytes}\n`));
      socket.once("data", () => {
        socket.pause();
        setTimeout(() => socket.resume(), asked.seconds * 1_000);
      });
      socket.on("data", (chunk) => (bytes += chunk.length));
      socket.on("end", () => socket.end());
      socket.on("error", (error) => resolve({ ok: false, end: String(error), bytes }));
      socket.on("close", () =>
        resolve({ ok: bytes === asked.bytes, end: "close", bytes, ms: Math.round(performance.now() - beganMs) }),
      );
    });
  },
  /** Keeps one connection open and echoes on it until it closes or the time is over; prints `open` once it works. */
  hold: (asked) => {
    const socket = open(asked, serverPorts.echo, (asked.seconds + 5) * 1_000);
    let beats = 0;
    let missing = 0;
    let stopped = false;
    const beat = setInterval(() => {
      missing++;
      socket.write("beat\n");
    }, asked.everyMs);
    const beganMs = performance.now();
    return new Promise((resolve) => {
      let end = "close";
      socket.on("data", () => {
        missing = 0;
        if (beats++ === 0) console.log(JSON.stringify({ open: true }));
      });
      socket.on("error", (error: NodeJS.ErrnoException) => (end = error.code ?? error.message));
      socket.on("end", () => socket.end());
      socket.on("close", () => {
        clearInterval(beat);
        resolve({ beats, missing, closedByPeer: !stopped, end, ms: Math.round(performance.now() - beganMs) });
      });
      setTimeout(() => {
        stopped = true;
        socket.destroy();
      }, asked.seconds * 1_000);
    });
  },
  /** Prints `open` when the server has greeted, then says nothing and waits for `seconds` to hear of the end. */
  wait: (asked) => {
    const socket = open(asked, serverPorts.serverFirst, asked.seconds * 1_000);
    socket.once("data", () => console.log(JSON.stringify({ open: true })));
    return follow(
      socket,
      () => undefined,
      (_received, end) => end !== "timeout",
    );
  },
  /** A short connection every so often for some seconds; counts those that failed. Prints `started` first. */
  load: async (asked) => {
    console.log(JSON.stringify({ started: true }));
    const failures: string[] = [];
    let done = 0;
    let failed = 0;
    const endsMs = performance.now() + asked.seconds * 1_000;
    const running = new Set<Promise<void>>();
    const once = async () => {
      const outcome = await follow(
        open(asked, serverPorts.echo, 5_000),
        (socket) => socket.end(asked.text),
        (received, end) => received === asked.text && end === "end",
      );
      if (outcome.ok) done++;
      else {
        failed++;
        const { end, ms, bytes } = outcome;
        if (failures.length < 20) failures.push(`${new Date().toISOString()} ${end} after ${ms} ms, ${bytes} bytes`);
      }
    };
    while (performance.now() < endsMs) {
      const one = once();
      running.add(one);
      void one.finally(() => running.delete(one));
      if (running.size > 64) await Promise.race(running);
      await new Promise((resolve) => setTimeout(resolve, asked.everyMs));
    }
    await Promise.all(running);
    return { done, failed, failures } satisfies LoadOutcome;
  },
};

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: "string" },
      port: { type: "string" },
      bytes: { type: "string", default: "1024" },
      seconds: { type: "string", default: "1" },
      text: { type: "string", default: "ping" },
      every: { type: "string", default: "20" },
    },
  });
  const command = commands[positionals[0] ?? ""];
  if (command === undefined || values.host === undefined) {
    console.error(`client: write a command (${Object.keys(commands).join(", ")}) and --host`);
    process.exit(2);
  }
  const result = await command({
    host: values.host,
    port: values.port === undefined ? undefined : Number(values.port),
    bytes: Number(values.bytes),
    seconds: Number(values.seconds),
    text: values.text,
    everyMs: Number(values.every),
  });
  console.log(JSON.stringify(result));
  process.exit(0);
}
