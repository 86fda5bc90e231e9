/**
 * Misbehaves towards a port, from inside a pod, and says what came back. Prints JSON {@link Attack}.
 *
 *   node e2e/support/attacker.ts garbage  --host H --port P --count N     random bytes on N connections
 *   node e2e/support/attacker.ts http     --host H --port P               a plain HTTP request
 *   node e2e/support/attacker.ts tls      --host H --port P [--pem B64]   a handshake, without or with a certificate
 *   node e2e/support/attacker.ts connect  --host H --port P --pem B64 --authority A [--method M] [--say TEXT]
 *   node e2e/support/attacker.ts halfopen --host H --port P --count N --seconds S   connects, says nothing, stays
 */
import { randomBytes } from "node:crypto";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { parseArgs } from "node:util";

export interface Attack {
  /** Connections that were made. */
  readonly connected: number;
  /** Still open when we stopped looking. */
  readonly open: number;
  readonly bytesReceived: number;
  /** Status of a CONNECT; 0 where none came. */
  readonly status?: number;
  readonly error?: string;
}

const patienceMs = 15_000;

/** Certificate and key that the test gave, as one base64 text of JSON. */
function credentials(pem: string | undefined): ConnectionOptions {
  const base: ConnectionOptions = { rejectUnauthorized: false, ALPNProtocols: ["h2"], minVersion: "TLSv1.3" };
  if (pem === undefined) return base;
  return { ...base, ...(JSON.parse(Buffer.from(pem, "base64").toString("utf8")) as { cert: string; key: string }) };
}

/** Opens `count` connections, does something on each, and waits until the other side closes them or patience ends. */
async function swarm(
  target: { host: string; port: number },
  count: number,
  waitMs: number,
  act: (socket: Socket) => void,
): Promise<Attack> {
  let [connected, bytesReceived] = [0, 0];
  const sockets: Socket[] = [];
  const closed: Promise<void>[] = [];
  for (let made = 0; made < count; made += 200) {
    const batch = Array.from({ length: Math.min(200, count - made) }, () => connect(target));
    await Promise.all(
      batch.map((socket) => {
        closed.push(new Promise((resolve) => socket.once("close", () => resolve())));
        socket.on("data", (chunk) => (bytesReceived += chunk.length));
        return new Promise<void>((resolve) => {
          socket.once("connect", () => {
            connected++;
            act(socket);
            resolve();
          });
          socket.on("error", () => resolve());
        });
      }),
    );
    sockets.push(...batch);
  }
  if (sockets.length > 1_000) console.log(JSON.stringify({ connected }));
  await Promise.race([Promise.all(closed), new Promise((resolve) => setTimeout(resolve, waitMs))]);
  const open = sockets.filter((socket) => !socket.destroyed).length;
  for (const socket of sockets) socket.destroy();
  return { connected, open, bytesReceived };
}

function handshake(target: { host: string; port: number }, options: ConnectionOptions): Promise<Attack> {
  return new Promise((resolve) => {
    let [connected, bytesReceived, error] = [0, 0, ""];
    const socket = connectTls({ ...target, ...options }, () => {
      connected = 1;
      // With TLS 1.3 the client is done before the server has judged its certificate: ask for something.
      socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0");
    });
    socket.setTimeout(patienceMs, () => socket.destroy(new Error("timeout")));
    socket.on("data", (chunk: Buffer) => (bytesReceived += chunk.length));
    socket.on("error", (thrown: NodeJS.ErrnoException) => (error = thrown.code ?? thrown.message));
    socket.on("close", () => resolve({ connected, open: 0, bytesReceived, error }));
  });
}

function request(
  target: { host: string; port: number },
  options: ConnectionOptions,
  authority: string,
  method: string,
  say: string,
): Promise<Attack> {
  return new Promise((resolve) => {
    const session = connectHttp2(
      `https://${target.host.includes(":") ? `[${target.host}]` : target.host}:${target.port}`,
      options,
    );
    let bytesReceived = 0;
    const finish = (attack: Omit<Attack, "connected" | "open" | "bytesReceived">) => {
      resolve({ connected: 1, open: 0, bytesReceived, ...attack });
      session.destroy();
    };
    session.setTimeout(patienceMs, () => finish({ status: 0, error: "timeout" }));
    session.on("error", (error) => finish({ status: 0, error: error.message }));
    session.on("close", () => finish({ status: 0, error: "closed" }));
    const headers =
      method === "CONNECT"
        ? { ":method": method, ":authority": authority }
        : { ":method": method, ":authority": authority, ":scheme": "https", ":path": "/" };
    const stream = session.request(headers, { endStream: method !== "CONNECT" });
    stream.on("response", (response) => {
      const status = Number(response[":status"]);
      if (say === "" || status !== 200) {
        finish({ status });
        return;
      }
      stream.write(say);
      stream.on("data", (chunk: Buffer) => {
        bytesReceived += chunk.length;
        finish({ status });
      });
      stream.on("close", () => finish({ status }));
    });
    stream.on("error", (error) => finish({ status: 0, error: error.message }));
  });
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "15008" },
      count: { type: "string", default: "1" },
      seconds: { type: "string", default: "15" },
      pem: { type: "string" },
      authority: { type: "string", default: "" },
      method: { type: "string", default: "CONNECT" },
      say: { type: "string", default: "" },
    },
  });
  const target = { host: values.host, port: Number(values.port) };
  const count = Number(values.count);
  const waitMs = Number(values.seconds) * 1_000;
  const attacks: Readonly<Record<string, () => Promise<Attack>>> = {
    garbage: () =>
      swarm(target, count, waitMs, (socket) => socket.write(randomBytes(1 + Math.floor(Math.random() * 4_000)))),
    http: () => swarm(target, count, waitMs, (socket) => socket.write("GET / HTTP/1.1\r\nHost: mesh\r\n\r\n")),
    tls: () => handshake(target, credentials(values.pem)),
    connect: () => request(target, credentials(values.pem), values.authority, values.method, values.say),
    halfopen: () => swarm(target, count, waitMs, () => undefined),
  };
  const attack = attacks[positionals[0] ?? ""];
  if (attack === undefined) {
    console.error(`attacker: write one of ${Object.keys(attacks).join(", ")}`);
    process.exit(2);
  }
  console.log(JSON.stringify(await attack()));
  process.exit(0);
}
