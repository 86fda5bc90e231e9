/**
 * What stands behind a waypoint in the scenarios: HTTP/1.1 with WebSocket, HTTP/2 in the clear, gRPC and plain TCP, each
 * telling who answered and what arrived. `NAME=reviews-v1 node e2e/support/web.ts`
 */
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { createServer as createTcp } from "node:net";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { Server, ServerCredentials, status, type ServerDuplexStream, type ServerUnaryCall } from "@grpc/grpc-js";
import { WebSocketServer } from "ws";

export const webPorts = { http: 8080, http2: 8082, grpc: 9090, tcp: 7000, auto: 7070 } as const;

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
  /** Requests that this program has seen, this one included. */
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

/** How a request asks for something other than 200: /status/503, /delay/1500, /flaky/2 (fails twice per key), /bytes/100000, /count, /drop. */
async function answer(
  name: string,
  request: { readonly protocol: string; readonly method: string; readonly path: string; readonly peer: string } & Pick<
    Echo,
    "headers" | "body"
  >,
  respond: (status: number, body: string | Buffer) => void,
  drop: () => void,
): Promise<void> {
  const [, verb = "", argument = "", key = ""] = (request.path.split("?")[0] ?? "").split("/");
  if (verb !== "count") requests++;
  const echo: Echo = { name, ...request, requests };
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
    case "bytes":
      respond(200, Buffer.alloc(Number(argument), 0x61));
      return;
    case "drop":
      drop();
      return;
  }
  respond(code, `${JSON.stringify(echo)}\n`);
}
const flaky = new Map<string, number>();

async function bodyOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

function serve(name: string, host: string): void {
  const http = createHttp((request: IncomingMessage, response: ServerResponse) => {
    const facts = { protocol: `HTTP/${request.httpVersion}`, method: request.method ?? "", path: request.url ?? "" };
    const peer = request.socket.remoteAddress ?? "";
    void bodyOf(request).then((body) =>
      answer(
        name,
        { ...facts, peer, headers: request.headers, body },
        (code, text) => {
          response.writeHead(code, { "content-type": "application/json", "x-served-by": name });
          response.end(text);
        },
        () => request.socket.resetAndDestroy(),
      ),
    );
  });
  http.keepAliveTimeout = 60_000;
  const sockets = new WebSocketServer({ server: http });
  sockets.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  http.listen(webPorts.http, host);

  createHttp2((request, response) => {
    const facts = { protocol: "HTTP/2", method: request.method, path: request.url };
    const peer = request.socket.remoteAddress ?? "";
    void bodyOf(request).then((body) =>
      answer(
        name,
        { ...facts, peer, headers: { ...request.headers, ":authority": request.authority }, body },
        (code, text) => {
          response.writeHead(code, { "content-type": "application/json", "x-served-by": name });
          response.end(text);
        },
        () => request.stream.close(2),
      ),
    );
  }).listen(webPorts.http2, host);

  const grpc = new Server();
  grpc.addService(
    { Say: textMethod("Say"), Chat: textMethod("Chat") },
    {
      Say: (
        call: ServerUnaryCall<string, string>,
        done: (error: { code: number; details: string } | null, text?: string) => void,
      ) => {
        requests++;
        const code = Number(/^fail (\d+)$/.exec(call.request)?.[1] ?? "0");
        if (code > 0) done({ code, details: `asked for ${status[code] ?? code}` });
        else done(null, `${name}: ${call.request}`);
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

  for (const port of [webPorts.tcp, webPorts.auto]) {
    createTcp({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => {});
      socket.once("data", (first) => socket.write(`${name}: ${first.toString("utf8")}`));
      socket.on("end", () => socket.end());
    }).listen(port, host);
  }
}

if (import.meta.main) {
  process.on("SIGTERM", () => process.exit(0));
  serve(process.env["NAME"] ?? "web", "::");
  console.log("serving");
}
