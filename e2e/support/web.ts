/**
 * What stands behind a waypoint in the scenarios: HTTP/1.1 with WebSocket, HTTP/2 in the clear, gRPC, plain TCP and, with a
 * certificate, HTTPS, each telling who answered and what arrived. `NAME=reviews-v1 node e2e/support/web.ts`
 */
import { createHash } from "node:crypto";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { createServer as createHttps } from "node:https";
import { createServer as createTcp, type Socket } from "node:net";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import {
  Metadata,
  Server,
  ServerCredentials,
  status,
  type ServerDuplexStream,
  type ServerUnaryCall,
} from "@grpc/grpc-js";
import { WebSocketServer } from "ws";

export const webPorts = {
  http: 8080,
  http2: 8082,
  https: 8443,
  grpc: 9090,
  tcp: 7000,
  first: 7001,
  auto: 7070,
} as const;

/** The answer to any request. */
export interface Echo {
  /** Of the environment: which program answered. */
  readonly name: string;
  readonly protocol: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
  readonly peer: string;
  /** Number of the connection, from 1. */
  readonly connection: number;
  /** Requests that this program has seen, this one included; to /count/PATH: those to /PATH. */
  readonly requests: number;
}

/** Text in, text out: the only message of the gRPC service `ambit.e2e.Echo`. */
export const textMethod = (name: "Say" | "Chat") =>
  ({
    path: `/ambit.e2e.Echo/${name}`,
    requestStream: name === "Chat",
    responseStream: name === "Chat",
    requestSerialize: (text: string) => Buffer.from(text),
    requestDeserialize: (bytes: Buffer) => bytes.toString("utf8"),
    responseSerialize: (text: string) => Buffer.from(text),
    responseDeserialize: (bytes: Buffer) => bytes.toString("utf8"),
  }) as const;

let requests = 0;
const requestsTo = new Map<string, number>();
/** Paths that are counted one by one. */
const maxPaths = 10_000;

/**
 * How a request asks for something other than 200: /status/503, /delay/1500, /flaky/2/KEY (fails twice per key), /fails (503
 * from /break until /heal), /bytes/100000, /count, /count/PATH, /drop, /early.
 */
async function answer(
  name: string,
  request: Omit<Echo, "name" | "requests">,
  respond: (status: number, body: string | Buffer) => void,
  drop: () => void,
): Promise<void> {
  const path = request.path.split("?")[0] ?? "";
  const [, verb = "", argument = "", key = ""] = path.split("/");
  if (verb !== "count") {
    requests++;
    if (requestsTo.size < maxPaths) requestsTo.set(path, (requestsTo.get(path) ?? 0) + 1);
  }
  const counted = path.slice("/count".length);
  const echo: Echo = {
    name,
    ...request,
    requests: verb === "count" && counted !== "" ? (requestsTo.get(counted) ?? 0) : requests,
  };
  let code = 200;
  switch (verb) {
    case "status":
      code = Number(argument);
      break;
    case "delay":
      await pause(Number(argument));
      break;
    case "flaky": {
      const seen = (flaky.get(key) ?? 0) + 1;
      flaky.set(key, seen);
      if (seen <= Number(argument)) code = 503;
      break;
    }
    case "break":
      isBroken = true;
      break;
    case "heal":
      isBroken = false;
      break;
    case "fails":
      if (isBroken) code = 503;
      break;
    case "bytes":
      respond(200, Buffer.alloc(Number(argument), 0x61));
      return;
    case "drop":
      drop();
      return;
  }
  respond(code, `${JSON.stringify(echo)}\n`);
}
let isLeaving = false;
const flaky = new Map<string, number>();
let isBroken = false;

const connections = new WeakMap<object, number>();
let connectionCount = 0;

function connectionOf(socket: object): number {
  const known = connections.get(socket) ?? ++connectionCount;
  connections.set(socket, known);
  return known;
}

/** Of a long body only what it was: its length and digest. */
const longBody = 64 * 1024;

async function bodyOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  const hash = createHash("sha256");
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    hash.update(chunk);
    if (length <= longBody) chunks.push(chunk);
  }
  return length <= longBody ? Buffer.concat(chunks).toString("utf8") : `${length} ${hash.digest("hex")}`;
}

/** A request that breaks off is none. */
function whenRead(stream: AsyncIterable<Buffer>, then: (body: string) => Promise<void>): void {
  bodyOf(stream).then(then, () => undefined);
}

function serve(name: string, host: string): void {
  const overHttp1 = (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === "/early") {
      // Answered before the body is there, which nobody reads.
      response.writeHead(413, { "x-served-by": name, connection: "close" }).end("too much\n");
      return;
    }
    const facts = { protocol: `HTTP/${request.httpVersion}`, method: request.method ?? "", path: request.url ?? "" };
    const peer = request.socket.remoteAddress ?? "";
    const connection = connectionOf(request.socket);
    whenRead(request, (body) =>
      answer(
        name,
        { ...facts, peer, connection, headers: request.headers, body },
        (code, text) => {
          response.writeHead(code, {
            "content-type": "application/json",
            "x-served-by": name,
            ...(isLeaving ? { connection: "close" } : {}),
          });
          response.end(text);
        },
        () => request.socket.resetAndDestroy(),
      ),
    );
  };
  const http = createHttp(overHttp1);
  http.keepAliveTimeout = 60_000;
  const sockets = new WebSocketServer({ server: http });
  sockets.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  http.listen(webPorts.http, host);

  const { TLS_CERTIFICATE: cert, TLS_KEY: key } = process.env;
  if (cert !== undefined && key !== undefined) createHttps({ cert, key }, overHttp1).listen(webPorts.https, host);

  const http2 = createHttp2((request, response) => {
    const facts = { protocol: "HTTP/2", method: request.method, path: request.url };
    const peer = request.socket.remoteAddress ?? "";
    const connection = connectionOf(request.socket);
    whenRead(request, (body) =>
      answer(
        name,
        { ...facts, peer, connection, headers: { ...request.headers, ":authority": request.authority }, body },
        (code, text) => {
          response.writeHead(code, { "content-type": "application/json", "x-served-by": name });
          response.end(text);
        },
        () => request.stream.close(2),
      ),
    );
  });
  http2.listen(webPorts.http2, host);

  const grpc = new Server();
  grpc.addService(
    { Say: textMethod("Say"), Chat: textMethod("Chat") },
    {
      Say: (
        call: ServerUnaryCall<string, string>,
        done: (error: { code: number; details: string } | null, text?: string, trailer?: Metadata) => void,
      ) => {
        requests++;
        const code = Number(/^fail (\d+)$/.exec(call.request)?.[1] ?? "0");
        const waitMs = Number(/^wait (\d+)$/.exec(call.request)?.[1] ?? "0");
        const trailer = new Metadata();
        trailer.set("x-trailer", name);
        if (code > 0) done({ code, details: `asked for ${status[code] ?? code}` });
        else if (waitMs > 0) setTimeout(() => done(null, `${name}: ${call.request}`, trailer), waitMs);
        else done(null, `${name}: ${call.request}`, trailer);
      },
      Chat: (call: ServerDuplexStream<string, string>) => {
        requests++;
        call.on("data", (text: string) => call.write(`${name}: ${text}`));
        call.on("end", () => call.end());
      },
    },
  );
  grpc.bindAsync(`${host === "::" ? "[::]" : host}:${webPorts.grpc}`, ServerCredentials.createInsecure(), (error) => {
    if (error !== null) throw error;
  });

  // Says everything back, and at the end tells how much it was.
  const talk = (socket: Socket) => {
    let bytes = 0;
    socket.on("error", () => {});
    socket.on("data", (data: Buffer) => {
      socket.write(bytes === 0 ? Buffer.concat([Buffer.from(`${name}: `), data]) : data);
      bytes += data.length;
    });
    socket.on("end", () => socket.end(`${bytes} bytes\n`));
  };
  createTcp({ allowHalfOpen: true }, talk).listen(webPorts.tcp, host);
  createTcp({ allowHalfOpen: true }, (socket) => {
    socket.write(`${name} speaks first\n`);
    talk(socket);
  }).listen(webPorts.first, host);
  // Whatever is spoken: HTTP goes where the other ports' does.
  createTcp({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    socket.once("readable", () => {
      const head = (socket.read() as Buffer | null) ?? Buffer.alloc(0);
      socket.unshift(head);
      const text = head.toString("latin1");
      if (text.startsWith("PRI * HTTP/2")) http2.emit("connection", socket);
      else if (/^[A-Z]+ \S+ HTTP\/1/.test(text)) http.emit("connection", socket);
      else talk(socket);
    });
  }).listen(webPorts.auto, host);
}

/** How long a server that is told to go still serves, as one does that must not lose requests. */
const farewellMs = 2_000;

if (import.meta.main) {
  process.on("SIGTERM", () => {
    isLeaving = true;
    setTimeout(() => process.exit(0), farewellMs);
  });
  serve(process.env["NAME"] ?? "web", "::");
  console.log("serving");
}
