/**
 * A yardstick of this machine: two proxies written in the plainest way (`node:http2` CONNECT over mutual TLS, `pipe` both
 * ways), without capture, policy or telemetry. CPU seconds mean little from one machine to the next; over those of this
 * pair, in the same run, they can be compared.
 *
 *   node e2e/bench/l4/plain-pair.ts in  --certificate BASE64 --listen 9500
 *   node e2e/bench/l4/plain-pair.ts out --certificate BASE64 --listen 9600 --to 10.0.0.1:9500 --target 9000
 *
 * `out` takes connections on `--listen` and the two ports after it, and asks `in` to connect them to `--target` and the
 * two after that on its own loopback. Both say `ready`, and run until they are killed.
 */
import {
  connect as connectHttp2,
  createSecureServer,
  type ClientHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { connect, createServer } from "node:net";
import type { Duplex } from "node:stream";
import { parseArgs } from "node:util";

/** Certificate, key and who signed, as PEM. The same for both. */
export interface PairCertificate {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** The name in the certificate. */
export const pairName = "plain-pair.test";

const window = { stream: 4 * 2 ** 20, session: 16 * 2 ** 20 } as const;

function join(one: Duplex, other: Duplex): void {
  one.pipe(other);
  other.pipe(one);
  one.once("error", () => other.destroy());
  other.once("error", () => one.destroy());
}

function inbound(certificate: PairCertificate, listen: number): void {
  const server = createSecureServer({
    ...certificate,
    minVersion: "TLSv1.3",
    requestCert: true,
    rejectUnauthorized: true,
    settings: { initialWindowSize: window.stream, maxConcurrentStreams: 1_000 },
  });
  server.on("session", (session) => session.setLocalWindowSize(window.session));
  server.on("stream", (stream: ServerHttp2Stream, { ":authority": authority }) => {
    const socket = connect({ host: "127.0.0.1", port: Number(authority?.split(":")[1]), noDelay: true });
    stream.once("error", () => socket.destroy());
    socket.once("error", () => stream.destroy());
    socket.once("connect", () => {
      stream.respond({ ":status": 200 });
      join(stream, socket);
    });
  });
  server.listen(listen, "::", () => console.log("ready"));
}

function outbound(certificate: PairCertificate, listen: number, to: string, target: number): void {
  let session: ClientHttp2Session | undefined;
  const tunnel = (): ClientHttp2Session => {
    if (session !== undefined) return session;
    const made = connectHttp2(`https://${to}`, {
      ...certificate,
      servername: pairName,
      settings: { initialWindowSize: window.stream },
    });
    made.on("connect", () => made.setLocalWindowSize(window.session));
    made.on("error", () => undefined);
    made.on("close", () => (session = undefined));
    return (session = made);
  };
  for (const offset of [0, 1, 2]) {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
      const stream = tunnel().request({ ":method": "CONNECT", ":authority": `127.0.0.1:${target + offset}` });
      stream.once("error", () => socket.destroy());
      socket.once("error", () => stream.destroy());
      stream.once("response", () => join(socket, stream));
    });
    server.listen(listen + offset, "127.0.0.1", () => offset === 0 && console.log("ready"));
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      certificate: { type: "string", default: "" },
      listen: { type: "string", default: "9500" },
      to: { type: "string", default: "127.0.0.1:9500" },
      target: { type: "string", default: "9000" },
    },
  });
  const certificate = JSON.parse(Buffer.from(values.certificate, "base64").toString()) as PairCertificate;
  if (positionals[0] === "in") inbound(certificate, Number(values.listen));
  else outbound(certificate, Number(values.listen), values.to, Number(values.target));
}
