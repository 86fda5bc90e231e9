/** Requests over pools, to real servers: Node's HTTP/1.1 and HTTP/2, with and without TLS. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import {
  createServer as createHttp1,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from "node:http";
import {
  createSecureServer,
  createServer as createHttp2,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createHttps } from "node:https";
import type { AddressInfo, Server as NetServer, Socket } from "node:net";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { listenLoopback, refusingPort, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { RequestHead, UpstreamStream } from "#waypoint/http/streams.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { createConnector, type Connector } from "./connector.ts";
import { createHttpPool, type HttpPool } from "./http-pool.ts";
import { poolLimitsDefault, type HttpPoolOptions, type PoolLimits } from "./pool-options.ts";
import { Collected, hostAt, requestOf } from "./testing/collected.ts";

const ca = await TestCa.create();
const serverCertificate = await ca.issue(
  spiffeId({ trustDomain: "cluster.local", namespace: "a", serviceAccount: "b" }),
);

let clock: FakeClock;
let connector: Connector;
let opened: (() => unknown)[];

beforeEach(() => {
  clock = new FakeClock();
  connector = createConnector({
    clock,
    certificate: () => Promise.reject(new Error("no certificate in this test")),
    trustDomains: [],
  });
  opened = [];
});

afterEach(async () => {
  for (const close of opened.splice(0).toReversed()) await close();
  connector[Symbol.dispose]();
});

interface Wish extends Partial<Omit<HttpPoolOptions, "limits">> {
  readonly limits?: Partial<PoolLimits>;
}

function poolOf({ limits, ...wish }: Wish = {}): HttpPool {
  const pool = createHttpPool(connector, {
    name: "test",
    transport: { connectTimeoutMs: 5_000 },
    protocol: "HTTP/1.1",
    limits: { ...poolLimitsDefault, ...limits },
    ...wish,
  });
  opened.push(() => pool[Symbol.dispose]());
  return pool;
}

interface Sent {
  readonly reader: Collected;
  readonly stream: UpstreamStream;
}

function send(
  pool: HttpPool,
  host: Host,
  head: RequestHead = requestOf("/"),
  endsWithHead = true,
  downstreamProtocol: "HTTP/1.1" | "HTTP/2" = "HTTP/1.1",
  connection?: DownstreamConnection,
): Sent {
  const reader = new Collected();
  return { reader, stream: pool.send(host, head, endsWithHead, reader, { downstreamProtocol, connection }) };
}

/** Sockets that the server has accepted, in order. */
let accepted: Socket[];

async function listening(server: NetServer): Promise<Host> {
  accepted = [];
  server.on("connection", (socket: Socket) => {
    accepted.push(socket);
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.push(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  return hostAt((server.address() as AddressInfo).port);
}

const http1 = (onRequest: RequestListener): Promise<Host> => listening(createHttp1({ keepAliveTimeout: 0 }, onRequest));

type OnStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

function http2(onStream: OnStream, settings = {}): Promise<Host> {
  const server = createHttp2({ settings });
  server.on("sessionError", () => {});
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on("error", () => {});
    onStream(stream, headers);
  });
  return listening(server);
}

const echoPath: OnStream = (stream, headers) => {
  stream.respond({ ":status": 200 });
  stream.end(String(headers[":path"]));
};
const says = (text: string) => (_request: IncomingMessage, response: ServerResponse) => void response.end(text);

/** Requests that the server holds until the test answers them. */
function held(): { readonly waiting: ServerResponse[]; readonly onRequest: RequestListener } {
  const waiting: ServerResponse[] = [];
  return { waiting, onRequest: (_request, response) => void waiting.push(response) };
}

describe("HTTP/1.1", () => {
  test("one connection for requests one after the other, taken at once when it is idle", async () => {
    const host = await http1((request, response) => void response.end(request.url));
    const pool = poolOf();
    for (const path of ["/a", "/b", "/c"])
      expect((await send(pool, host, requestOf(path)).reader.done()).text).toBe(path);
    expect(accepted).toHaveLength(1);
    expect(pool.counts).toMatchObject({ connections: 1, pending: 0, connectionsMade: 1 });
  });

  test("as many connections as requests at once; the one used last is used first", async () => {
    const { waiting, onRequest } = held();
    const host = await http1(onRequest);
    const pool = poolOf();
    const all = [send(pool, host), send(pool, host), send(pool, host)];
    await until(() => waiting.length === 3, "three requests");
    for (const response of waiting) response.end("x");
    for (const { reader } of all) await reader.done();
    expect(pool.counts.connections).toBe(3);
    await until(() => accepted.length === 3, "three connections");
    const before = accepted.map((socket) => socket.bytesRead);
    for (let round = 1; round <= 5; round++) {
      const { reader } = send(pool, host);
      await until(() => waiting.length === 3 + round, "another request");
      waiting.at(-1)?.end("y");
      await reader.done();
    }
    expect(accepted.filter((socket, at) => socket.bytesRead > (before[at] as number))).toHaveLength(1);
  });

  test("a body written before there is a connection, trailers, and pauses", async () => {
    const host = await http1((request, response) => {
      response.writeHead(200, { trailer: "x-sum" });
      request.on("data", (chunk: Buffer) => void response.write(chunk));
      request.on("end", () => {
        response.addTrailers({ "x-sum": String(request.trailers["x-last"]) });
        response.end();
      });
    });
    const { reader, stream } = send(
      poolOf(),
      host,
      requestOf("/", { method: "POST", fields: ["te", "trailers"] }),
      false,
    );
    stream.pause();
    expect(stream.write(Buffer.from("early"))).toBe(false);
    await until(() => reader.drains > 0, "there is room");
    stream.write(Buffer.from(" late"));
    stream.end(new Headers(["x-last", "7"]));
    await until(() => accepted.length === 1, "a connection");
    stream.resume();
    await reader.done();
    expect(reader.text).toBe("early late");
    expect(reader.trailers?.get("x-sum")).toBe("7");
  });

  test("no more connections than the cluster may have; requests wait, and beyond that overflow", async () => {
    const { waiting, onRequest } = held();
    const host = await http1(onRequest);
    const pool = poolOf({ limits: { maxConnections: 2, maxPendingRequests: 1 } });
    // A connection being made keeps its request waiting, so that these two come one after the other.
    const first = send(pool, host);
    await until(() => waiting.length === 1, "the first");
    const second = send(pool, host);
    await until(() => waiting.length === 2, "the second");
    const third = send(pool, host);
    const fourth = send(pool, host);
    expect(await fourth.reader.resetReason()).toBe("overflow");
    expect(pool.counts).toMatchObject({ connections: 2, pending: 1, pendingOverflows: 1, connectionOverflows: 1 });
    waiting[0]?.end("1");
    await first.reader.done();
    await until(() => waiting.length === 3, "the third has its turn");
    waiting[1]?.end("2");
    waiting[2]?.end("3");
    expect((await third.reader.done()).text).toBe("3");
    await second.reader.done();
    expect(accepted).toHaveLength(2);
  });

  test("a host without any connection may have one, whatever others hold", async () => {
    const { waiting, onRequest } = held();
    const one = await http1(onRequest);
    const other = await http1(says("other"));
    const pool = poolOf({ limits: { maxConnections: 1 } });
    send(pool, one);
    await until(() => waiting.length === 1, "the first");
    expect((await send(pool, other).reader.done()).text).toBe("other");
  });

  test("given up while it waits, a request leaves no trace", async () => {
    const host = await http1(says("x"));
    const pool = poolOf();
    const { reader, stream } = send(pool, host);
    stream.reset("local-reset");
    expect(pool.counts.pending).toBe(0);
    expect((await send(pool, host).reader.done()).text).toBe("x");
    expect([reader.response, reader.isReset]).toEqual([undefined, undefined]);
  });

  test("so many requests on one connection, then another", async () => {
    const host = await http1(says("x"));
    const pool = poolOf({ limits: { maxRequestsPerConnection: 2 } });
    for (let round = 0; round < 5; round++) await send(pool, host).reader.done();
    await until(() => accepted.length === 3, "three connections");
    expect(pool.counts.connectionsMade).toBe(3);
  });

  test("idle for too long, or too old, a connection is closed", async () => {
    const host = await http1(says("x"));
    const idle = poolOf({ limits: { idleTimeoutMs: 10_000 } });
    await send(idle, host).reader.done();
    await clock.advance(6_000);
    await send(idle, host).reader.done();
    await clock.advance(9_999);
    expect(idle.counts.connections).toBe(1);
    await clock.advance(1);
    await until(() => idle.counts.connections === 0, "it is closed");
    const old = poolOf({ limits: { maxConnectionDurationMs: 10_000 } });
    await send(old, host).reader.done();
    await clock.advance(10_000);
    await until(() => old.counts.connections === 0, "it is closed");
  });

  test("a connection that the server closed meanwhile: another, or the request may be sent again", async () => {
    const host = await http1(says("x"));
    const pool = poolOf();
    await send(pool, host).reader.done();
    accepted[0]?.destroy();
    // Nobody has told us yet.
    const { reader } = send(pool, host);
    expect(await reader.resetReason()).toBe("closed-unanswered");
    await until(() => pool.counts.connections === 0, "it is gone");
    await send(pool, host).reader.done();
    accepted[1]?.destroy();
    await until(() => pool.counts.connections === 0, "it is gone");
    await send(pool, host).reader.done();
    expect(accepted).toHaveLength(3);
  });

  test("nobody there: everybody who waits hears of it", async () => {
    await using gone = await refusingPort();
    const pool = poolOf();
    const all = [send(pool, hostAt(gone.port)), send(pool, hostAt(gone.port))];
    for (const { reader } of all) expect(await reader.resetReason()).toBe("connect-failure");
    await until(() => pool.counts.connections === 0, "nothing is left");
    expect(all[0]?.reader.isReset?.detail).toMatch(/ECONNREFUSED/);
    expect(pool.counts.connectFailures).toBeGreaterThan(0);
  });

  test("a handshake that takes too long", async () => {
    const silent = await listenLoopback(() => {});
    opened.push(() => silent[Symbol.asyncDispose]());
    const tls = { serverName: "x", alpn: [], trust: { kind: "none" as const }, subjectAltNames: [] };
    const pool = poolOf({ transport: { connectTimeoutMs: 300, tls } });
    const { reader } = send(pool, hostAt(silent.port));
    await until(() => silent.sockets.size === 1, "it is connected");
    await clock.advance(300);
    expect(await reader.resetReason()).toBe("connect-timeout");
    expect(pool.counts.connectTimeouts).toBe(1);
  });

  test("a host that is removed finishes what it has, and keeps nothing", async () => {
    const { waiting, onRequest } = held();
    const host = await http1(onRequest);
    const pool = poolOf();
    const [one, other] = [send(pool, host), send(pool, host)];
    await until(() => waiting.length === 2, "two requests");
    waiting[0]?.end("1");
    await one.reader.done();
    pool.removeHost(host);
    await until(() => pool.counts.connections === 1, "what is idle is closed");
    waiting[1]?.end("2");
    expect((await other.reader.done()).text).toBe("2");
    await until(() => pool.counts.connections === 0, "nothing is left");
  });

  test("a pool that is closed breaks everything, those who wait too", async () => {
    const { waiting, onRequest } = held();
    const host = await http1(onRequest);
    const pool = poolOf({ limits: { maxConnections: 1 } });
    const { reader } = send(pool, host);
    await until(() => waiting.length === 1, "a request");
    const { reader: waits } = send(pool, host);
    const raw = poolOf();
    const duplex = await raw.connect(host, new AbortController().signal);
    duplex.on("error", () => {});
    pool[Symbol.dispose]();
    raw[Symbol.dispose]();
    await reader.resetReason();
    expect(await waits.resetReason()).toBe("local-reset");
    await until(() => pool.counts.connections + raw.counts.connections === 0, "nothing is left");
    expect(duplex.destroyed).toBe(true);
  });

  test("upgrades", async () => {
    const server = createHttp1();
    server.on("upgrade", (request: IncomingMessage, socket: Socket) => {
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${request.headers.upgrade}\r\n\r\n`,
      );
      socket.pipe(socket);
    });
    const host = await listening(server);
    const pool = poolOf({ protocol: "downstream" });
    const { reader, stream } = send(pool, host, requestOf("/chat", { upgrade: "websocket" }), false);
    await until(() => reader.response !== undefined, "an answer");
    expect(reader.response?.status).toBe(101);
    stream.write(Buffer.from("frames"));
    await until(() => reader.text === "frames", "bytes");
    stream.end();
    await reader.done();
  });
});

describe("HTTP/2", () => {
  test("one connection for all, several where the server allows few streams", async () => {
    const host = await http2(echoPath);
    const pool = poolOf({ protocol: "HTTP/2" });
    const all = Array.from({ length: 50 }, (_, at) => send(pool, host, requestOf(`/${at}`)));
    for (const [at, { reader }] of all.entries()) expect((await reader.done()).text).toBe(`/${at}`);
    expect(accepted).toHaveLength(1);

    const streams: ServerHttp2Stream[] = [];
    const onStream: OnStream = (stream) => {
      streams.push(stream);
      stream.respond({ ":status": 200 });
    };
    const narrow = await http2(onStream, { maxConcurrentStreams: 2 });
    const first = send(pool, narrow);
    await until(() => first.reader.response !== undefined, "the server's settings, which come before its answer");
    const more = Array.from({ length: 4 }, () => send(pool, narrow));
    await until(() => streams.length === 5, "all of them");
    expect(accepted.length).toBeGreaterThan(1);
    for (const stream of streams) stream.end();
    for (const { reader } of [first, ...more]) await reader.done();
  });

  test("as many streams as the cluster wants on a connection, and as many connections as it may have", async () => {
    const streams: ServerHttp2Stream[] = [];
    const host = await http2((stream) => void streams.push(stream));
    const pool = poolOf({ protocol: "HTTP/2", limits: { maxConcurrentStreams: 1, maxConnections: 2 } });
    const all = [send(pool, host), send(pool, host), send(pool, host)];
    await until(() => streams.length === 2, "two requests");
    expect([accepted.length, pool.counts.pending]).toEqual([2, 1]);
    streams[0]?.respond({ ":status": 204 }, { endStream: true });
    await until(() => streams.length === 3, "the third has its turn");
    for (const stream of streams.slice(1)) stream.respond({ ":status": 204 }, { endStream: true });
    for (const { reader } of all) await reader.done();
    expect(accepted).toHaveLength(2);
  });

  test("so many requests on one connection, idle for too long", async () => {
    const host = await http2(echoPath);
    const pool = poolOf({ protocol: "HTTP/2", limits: { maxRequestsPerConnection: 2, idleTimeoutMs: 1_000 } });
    for (let round = 0; round < 3; round++) await send(pool, host).reader.done();
    await until(() => accepted.length === 2, "two connections");
    await clock.advance(1_000);
    await clock.advance(1_000);
    await until(() => pool.counts.connections === 0, "nothing is left");
    expect(pool.counts.connectionsMade).toBe(2);
  });

  test("a server that goes away: what it has not begun may be sent again, on another connection", async () => {
    const sessions = new Set<NonNullable<ServerHttp2Stream["session"]>>();
    const host = await http2((stream, headers) => {
      if (stream.session !== undefined) sessions.add(stream.session);
      echoPath(stream, headers);
    });
    const pool = poolOf({ protocol: "HTTP/2" });
    await send(pool, host).reader.done();
    for (const session of sessions) session.close();
    await until(() => pool.counts.connections === 0, "it is gone");
    await send(pool, host).reader.done();
    expect(accepted).toHaveLength(2);
  });

  test("upgrades only where the server knows extended CONNECT", async () => {
    const plain = await http2(echoPath);
    const pool = poolOf({ protocol: "HTTP/2" });
    const refused = send(pool, plain, requestOf("/chat", { upgrade: "websocket" }), false);
    expect(await refused.reader.resetReason()).toBe("protocol-error");
    const able = await http2(
      (stream) => {
        stream.respond({ ":status": 200 });
        stream.pipe(stream);
      },
      { enableConnectProtocol: true },
    );
    const { reader, stream } = send(pool, able, requestOf("/chat", { upgrade: "websocket" }), false);
    await until(() => reader.response?.status === 101, "an answer");
    stream.write(Buffer.from("frames"));
    await until(() => reader.text === "frames", "bytes");
    stream.end();
    await reader.done();
  });

  test("the client's own protocol", async () => {
    const two = await http2(echoPath);
    const one = await http1(says("one"));
    const pool = poolOf({ protocol: "downstream" });
    expect((await send(pool, two, requestOf("/two"), true, "HTTP/2").reader.done()).text).toBe("/two");
    expect((await send(pool, one, requestOf("/"), true, "HTTP/1.1").reader.done()).text).toBe("one");
  });
});

describe("over TLS the server chooses", () => {
  const tls = { serverName: "x", alpn: [], trust: { kind: "pem" as const, pem: ca.rootPem }, subjectAltNames: [] };
  const certificate = { cert: serverCertificate.chainPem, key: serverCertificate.keyPem };

  test.each([true, false])("HTTP/2 where it can: %j", async (canHttp2) => {
    const onRequest = (request: { readonly httpVersion: string }, response: { end(text: string): unknown }) =>
      void response.end(request.httpVersion);
    const server = canHttp2
      ? createSecureServer({ ...certificate, allowHTTP1: true }, onRequest)
      : createHttps(certificate, onRequest);
    const host = await listening(server);
    const pool = poolOf({ protocol: "alpn", transport: { connectTimeoutMs: 5_000, tls } });
    const all = [send(pool, host), send(pool, host)];
    for (const { reader } of all) expect((await reader.done()).text).toBe(canHttp2 ? "2.0" : "1.1");
    expect((await send(pool, host).reader.done()).text).toBe(canHttp2 ? "2.0" : "1.1");
  });
});

test("under PROXY protocol no client uses another's connection", async () => {
  const heads: string[] = [];
  const server = await listenLoopback((socket) => {
    socket.on("data", (chunk: Buffer) => {
      heads.push(chunk.toString().split("\r\n", 1)[0] as string);
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
  });
  opened.push(() => server[Symbol.asyncDispose]());
  const pool = poolOf({ transport: { connectTimeoutMs: 5_000, proxyProtocol: "v1" } });
  const connectionOf = (port: number): DownstreamConnection => ({
    id: port,
    peerPrincipal: undefined,
    localPrincipal: undefined,
    source: { ip: parseIp("10.0.0.1"), port },
    destination: { ip: parseIp("10.0.0.2"), port: 80 },
    serverName: undefined,
  });
  const host = hostAt(server.port);
  for (const port of [1, 2, 1]) {
    await send(pool, host, requestOf("/"), true, "HTTP/1.1", connectionOf(port)).reader.done();
  }
  expect(heads).toEqual(["PROXY TCP4 10.0.0.1 10.0.0.2 1 80", "PROXY TCP4 10.0.0.1 10.0.0.2 2 80", "GET / HTTP/1.1"]);
});
