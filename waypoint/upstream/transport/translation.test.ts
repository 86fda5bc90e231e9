/** One protocol in, another out: both codecs and the pool together, with programs that know neither. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import * as grpc from "@grpc/grpc-js";
import { once } from "node:events";
import { createServer as createHttp1, request as requestHttp1, type IncomingMessage } from "node:http";
import {
  connect as connectHttp2,
  createServer as createHttp2,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import type { AddressInfo, Server as NetServer, Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { systemClock } from "#shared/clock/clock.ts";
import { listenLoopback } from "#shared/testing/loopback.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import { http1ServerDefaults, Http1ServerConnection } from "#waypoint/http/http1-server.ts";
import { Http2ServerConnection } from "#waypoint/http/http2-server.ts";
import type {
  DownstreamStream,
  ResetReason,
  ResponseHead,
  ResponseReader,
  UpstreamStream,
} from "#waypoint/http/streams.ts";
import { Sweeper } from "#waypoint/http/sweeper.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { createConnector } from "./connector.ts";
import { createHttpPool, type HttpPool } from "./http-pool.ts";
import { poolLimitsDefault } from "./pool-options.ts";
import { hostAt } from "./testing/collected.ts";

/** The least that can stand between a client and a server. */
class Joined implements ResponseReader {
  readonly #downstream: DownstreamStream;
  readonly #upstream: UpstreamStream;
  #isOver = false;

  constructor(pool: HttpPool, host: Host, downstream: DownstreamStream) {
    this.#downstream = downstream;
    const { request, endsWithHead, protocol: downstreamProtocol } = downstream;
    const upstream = (this.#upstream = pool.send(host, request, endsWithHead, this, { downstreamProtocol }));
    downstream.read({
      data: (chunk) => {
        if (!upstream.write(chunk)) downstream.pause();
      },
      end: (trailers) => {
        if (!endsWithHead) upstream.end(trailers);
      },
      reset: (reason) => upstream.reset(reason),
      drained: () => upstream.resume(),
    });
  }

  inform(head: ResponseHead): void {
    this.#downstream.inform(head);
  }

  head(head: ResponseHead, endsWithHead: boolean): void {
    this.#isOver = endsWithHead;
    this.#downstream.respond(head, endsWithHead);
  }

  data(chunk: Buffer): void {
    if (!this.#downstream.write(chunk)) this.#upstream.pause();
  }

  end(trailers: Headers | undefined): void {
    if (!this.#isOver) this.#downstream.end(trailers);
  }

  reset(reason: ResetReason): void {
    this.#downstream.reset(reason);
  }

  drained(): void {
    this.#downstream.resume();
  }
}

let opened: (() => unknown)[];

beforeEach(() => {
  opened = [];
});
afterEach(async () => {
  for (const close of opened.splice(0).toReversed()) await close();
});

async function listening(server: NetServer): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Port of a proxy that speaks one protocol with clients and another with the server. */
async function proxyOf(from: "HTTP/1.1" | "HTTP/2", to: "HTTP/1.1" | "HTTP/2", port: number): Promise<number> {
  const connector = createConnector({
    clock: systemClock,
    certificate: () => Promise.reject(new Error("no certificate in this test")),
    trustDomains: [],
  });
  const pool = createHttpPool(connector, {
    name: "test",
    transport: { connectTimeoutMs: 5_000 },
    protocol: to,
    limits: poolLimitsDefault,
  });
  const host = hostAt(port);
  const sweeper = new Sweeper(systemClock);
  const owner = { onRequest: (stream: DownstreamStream) => void new Joined(pool, host, stream) };
  const listener = await listenLoopback((socket) =>
    from === "HTTP/2"
      ? new Http2ServerConnection(socket, owner, {}, systemClock)
      : new Http1ServerConnection(socket, owner, http1ServerDefaults, sweeper),
  );
  opened.push(
    () => connector[Symbol.dispose](),
    () => pool[Symbol.dispose](),
    () => listener[Symbol.asyncDispose](),
  );
  return listener.port;
}

/** Answers with what it was asked, and the sum of the body as trailer. */
const http1Server = () =>
  listening(
    createHttp1((request, response) => {
      response.writeHead(200, {
        trailer: "x-sum",
        "x-seen": JSON.stringify(request.headers),
        "set-cookie": ["a=1", "b=2"],
      });
      let bytes = 0;
      request.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        response.write(chunk);
      });
      request.on("end", () => {
        response.addTrailers({ "x-sum": `${bytes} ${request.trailers["x-last"] ?? "none"}` });
        response.end();
      });
    }),
  );

const http2Server = () => {
  const server = createHttp2({ settings: { enableConnectProtocol: true } });
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on("error", () => {});
    let bytes = 0;
    let last = "none";
    stream.on("trailers", (fields: IncomingHttpHeaders) => (last = String(fields["x-last"])));
    stream.respond({ ":status": 200, "x-seen": JSON.stringify(headers) }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": `${bytes} ${last}` }));
    stream.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      stream.write(chunk);
    });
    stream.on("end", () => stream.end());
  });
  return listening(server);
};

interface Got {
  readonly seen: Record<string, string>;
  readonly text: string;
  readonly sum: string | undefined;
}

async function askHttp2(port: number, body: string): Promise<Got & { readonly cookies: unknown }> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  opened.push(() => session.destroy());
  const stream = session.request(
    { ":method": "POST", ":path": "/p?q", te: "trailers", cookie: ["a=b", "c=d"] },
    { waitForTrailers: true, endStream: false },
  );
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-last": "7" }));
  stream.end(body);
  const [head] = (await once(stream, "response")) as [IncomingHttpHeaders];
  let sum: string | undefined;
  stream.on("trailers", (fields: IncomingHttpHeaders) => (sum = String(fields["x-sum"])));
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await once(stream, "end");
  return { seen: JSON.parse(String(head["x-seen"])) as Record<string, string>, text, sum, cookies: head["set-cookie"] };
}

async function askHttp1(port: number, body: string): Promise<Got> {
  const request = requestHttp1({
    port,
    host: "127.0.0.1",
    method: "POST",
    path: "/p?q",
    headers: { host: "shop.example", te: "trailers", connection: "te", cookie: "a=b; c=d", trailer: "x-last" },
  });
  request.addTrailers({ "x-last": "7" });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  let text = "";
  response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await once(response, "end");
  const seen = JSON.parse(String(response.headers["x-seen"])) as Record<string, string>;
  return { seen, text, sum: response.trailers["x-sum"] };
}

const large = Array.from({ length: 100_000 }, (_, at) => `${at};`).join("");

describe.each(["short", large])("a body (%.5s)", (body) => {
  test("HTTP/2 in, HTTP/1.1 out", async () => {
    const port = await http1Server();
    const { seen, text, sum, cookies } = await askHttp2(await proxyOf("HTTP/2", "HTTP/1.1", port), body);
    expect(text === body).toBe(true);
    expect(sum).toBe(`${body.length} 7`);
    expect(seen).toMatchObject({ cookie: "a=b; c=d", "transfer-encoding": "chunked" });
    expect(seen["host"]).toMatch(/^127\.0\.0\.1:/);
    expect(Object.keys(seen).filter((name) => name.startsWith(":"))).toEqual([]);
    expect(cookies).toEqual(["a=1", "b=2"]);
  });

  test("HTTP/1.1 in, HTTP/2 out", async () => {
    const port = await http2Server();
    const { seen, text, sum } = await askHttp1(await proxyOf("HTTP/1.1", "HTTP/2", port), body);
    expect(text === body).toBe(true);
    expect(sum).toBe(`${body.length} 7`);
    expect(seen).toMatchObject({
      ":method": "POST",
      ":path": "/p?q",
      ":authority": "shop.example",
      ":scheme": "http",
      cookie: "a=b; c=d",
    });
    expect(["connection", "transfer-encoding", "host", "keep-alive"].filter((name) => name in seen)).toEqual([]);
  });

  test("HTTP/2 in and out", async () => {
    const { text, sum, seen } = await askHttp2(await proxyOf("HTTP/2", "HTTP/2", await http2Server()), body);
    expect(text === body).toBe(true);
    expect([sum, seen["te"]]).toEqual([`${body.length} 7`, "trailers"]);
  });
});

test("HEAD, 204 and 304 have no body, whatever length they name", async () => {
  const port = await listening(
    createHttp1((request, response) => {
      const status = Number(request.url?.slice(1));
      response.writeHead(status, status === 204 ? {} : { "content-length": "5" });
      response.end(request.method === "HEAD" || status !== 200 ? undefined : "hello");
    }),
  );
  const session = connectHttp2(`http://127.0.0.1:${await proxyOf("HTTP/2", "HTTP/1.1", port)}`);
  opened.push(() => session.destroy());
  const ask = async (method: string, status: number) => {
    const stream = session.request({ ":method": method, ":path": `/${status}` });
    stream.resume();
    const ended = once(stream, "end");
    const [head] = (await once(stream, "response")) as [IncomingHttpHeaders];
    await ended;
    return [head[":status"], head["content-length"]];
  };
  expect(await ask("HEAD", 200)).toEqual([200, "5"]);
  expect(await ask("GET", 204)).toEqual([204, undefined]);
  expect(await ask("GET", 304)).toEqual([304, "5"]);
});

describe.each(["HTTP/1.1", "HTTP/2"] as const)("a WebSocket of HTTP/1.1, over %s", (to) => {
  test("goes both ways", async () => {
    let port: number;
    if (to === "HTTP/1.1") {
      const server = createHttp1();
      const sockets = new WebSocketServer({ server });
      sockets.on("connection", (socket) => socket.on("message", (data: Buffer) => socket.send(`<${data.toString()}>`)));
      port = await listening(server);
    } else {
      // Extended CONNECT back into HTTP/1.1 by a second proxy.
      const server = createHttp1();
      const sockets = new WebSocketServer({ server });
      sockets.on("connection", (socket) => socket.on("message", (data: Buffer) => socket.send(`<${data.toString()}>`)));
      port = await proxyOf("HTTP/2", "HTTP/1.1", await listening(server));
    }
    const client = new WebSocket(`ws://127.0.0.1:${await proxyOf("HTTP/1.1", to, port)}/chat`);
    opened.push(() => client.terminate());
    client.on("error", () => {});
    await once(client, "open");
    client.send("hello");
    const [data] = (await once(client, "message")) as [Buffer];
    expect(data.toString()).toBe("<hello>");
  });
});

describe("gRPC", () => {
  const raw = {
    requestSerialize: (value: Buffer) => value,
    requestDeserialize: (value: Buffer) => value,
    responseSerialize: (value: Buffer) => value,
    responseDeserialize: (value: Buffer) => value,
  };
  const service = {
    echo: { path: "/test.Echo/Echo", requestStream: false, responseStream: false, ...raw },
    chat: { path: "/test.Echo/Chat", requestStream: true, responseStream: true, ...raw },
  };

  async function serve() {
    const server = new grpc.Server();
    server.addService(service, {
      echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
        if (call.request.toString() === "fail") answer({ code: grpc.status.NOT_FOUND, details: "no such thing: é" });
        else answer(null, call.request);
      },
      chat: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        call.on("data", (message: Buffer) => call.write(message));
        call.on("end", () => call.end());
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    opened.push(() => server.forceShutdown());
    const Client = grpc.makeGenericClientConstructor(service, "Echo");
    const client = new Client(
      `127.0.0.1:${await proxyOf("HTTP/2", "HTTP/2", port)}`,
      grpc.credentials.createInsecure(),
    );
    opened.push(() => client.close());
    return client;
  }

  const unary = (client: grpc.Client, message: string) =>
    new Promise<string>((resolve, reject) => {
      client.makeUnaryRequest(
        service.echo.path,
        raw.requestSerialize,
        raw.responseDeserialize,
        Buffer.from(message),
        (error, answer) => (error === null ? resolve(String(answer)) : reject(error)),
      );
    });

  test("calls that succeed, fail, and are made by the hundred", async () => {
    const client = await serve();
    expect(await unary(client, "hello")).toBe("hello");
    await expect(unary(client, "fail")).rejects.toMatchObject({
      code: grpc.status.NOT_FOUND,
      details: "no such thing: é",
    });
    const words = Array.from({ length: 300 }, (_, at) => `message ${at}`);
    expect(await Promise.all(words.map((word) => unary(client, word)))).toEqual(words);
    expect((await unary(client, "x".repeat(1_000_000))).length).toBe(1_000_000);
  });

  test("messages to and fro, one at a time, and a call given up", async () => {
    const client = await serve();
    const open = () => client.makeBidiStreamRequest(service.chat.path, raw.requestSerialize, raw.responseDeserialize);
    const call = open();
    for (const word of ["a", "b", "c"]) {
      call.write(Buffer.from(word));
      expect(String((await once(call, "data"))[0])).toBe(word);
    }
    call.end();
    const [status] = (await once(call, "status")) as [grpc.StatusObject];
    expect(status.code).toBe(grpc.status.OK);
    const other = open();
    other.on("error", () => {});
    other.write(Buffer.from("x"));
    await once(other, "data");
    const cancelled = new Promise<grpc.StatusObject>((resolve) => other.on("status", resolve));
    other.cancel();
    expect((await cancelled).code).toBe(grpc.status.CANCELLED);
    expect(await unary(client, "still there")).toBe("still there");
  });
});
