/** The client's side over real sockets: a server written frame by frame, Node's own, and ours. */
import { afterEach, describe, expect, test } from "@jest/globals";
import { createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { connectLoopback, socketPair, until } from "#shared/testing/loopback.ts";
import { Collected, requestOf } from "#waypoint/upstream/transport/testing/collected.ts";
import { Headers } from "./headers.ts";
import { Http2ClientConnection, type Http2ClientLimits } from "./http2-client.ts";
import { frameTypes, preface, settingIds } from "./http2-frames.ts";
import { HpackDecoder } from "./http2-hpack-decoder.ts";
import { fields, flag, frame, literal, RawPeer, setting, uint32 } from "./testing/raw-http2.ts";

const clock = new FakeClock();
const heard: string[] = [];
let errors: (Error | undefined)[] = [];
const owner = {
  connectionHasRoom: () => void heard.push("room"),
  connectionDraining: () => void heard.push("draining"),
  connectionClosed: (_connection: unknown, error: Error | undefined) => void errors.push(error),
};
let cleanup: (() => void)[] = [];

afterEach(() => {
  for (const step of cleanup) step();
  cleanup = [];
  heard.length = 0;
  errors = [];
});

/** A server that says what the test says. */
async function scripted(limits: Partial<Http2ClientLimits> = {}, settings: Uint8Array = Buffer.alloc(0)) {
  const [client, served] = await socketPair();
  const server = new RawPeer(served, preface.length);
  server.write(frame(frameTypes.settings, 0, 0, settings));
  const connection = new Http2ClientConnection(client, owner, clock, limits);
  cleanup.push(
    () => connection.destroy(),
    () => served.destroy(),
  );
  await until(() => connection.hasSettings, "the settings");
  return { connection, server };
}

const ok = (stream: number, flags = 0, ...more: Buffer[]) =>
  frame(frameTypes.headers, flags | flag.endHeaders, stream, Buffer.concat([fields([":status", "200"]), ...more]));
const data = (stream: number, text: string, flags = 0) => frame(frameTypes.data, flags, stream, Buffer.from(text));

function send(connection: Http2ClientConnection, head = requestOf("/"), endsWithHead = true) {
  const reader = new Collected();
  return { reader, stream: connection.send(head, endsWithHead, reader) };
}

describe("with Node's server", () => {
  let server: Http2Server;

  async function connectTo(onStream: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void) {
    server = createServer();
    server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      stream.on("error", () => {});
      onStream(stream, headers);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const socket: Socket = await connectLoopback((server.address() as AddressInfo).port);
    const connection = new Http2ClientConnection(socket, owner, clock);
    cleanup.push(
      () => connection.destroy(),
      () => void server.close(),
    );
    return connection;
  }

  test("a request, its answer, interim answers and trailers", async () => {
    let got: Record<string, unknown> = {};
    const connection = await connectTo((stream, headers) => {
      got = headers;
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      stream.respond({ ":status": 201, "x-a": "b" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end("body");
    });
    const { reader } = send(
      connection,
      requestOf("/p?q", { fields: ["x-one", "1", "te", "trailers", "te", "gzip", "connection", "x", "cookie", "a=b"] }),
    );
    await reader.done();
    expect(got).toMatchObject({
      ":method": "GET",
      ":path": "/p?q",
      ":authority": "test.example",
      "x-one": "1",
      te: "trailers",
      cookie: "a=b",
    });
    expect(got["connection"]).toBeUndefined();
    expect(reader.interim.map(({ status, headers }) => [status, headers.get("link")])).toEqual([[103, "</a>"]]);
    expect([reader.response?.status, reader.text, reader.trailers?.get("grpc-status")]).toEqual([201, "body", "0"]);
    await until(() => connection.size === 0, "the stream is over");
  });

  test("bodies both ways at once, larger than every window", async () => {
    const connection = await connectTo((stream) => {
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
    });
    const { reader, stream } = send(connection, requestOf("/", { method: "POST" }), false);
    const piece = Buffer.alloc(50_000, 97);
    let [sent, written] = [0, 0];
    const more = () => {
      while (sent < 100) {
        sent++;
        written += piece.length;
        if (!stream.write(piece)) return;
      }
      stream.end(new Headers(["x-sum", "5"]));
    };
    const before = reader.drained.bind(reader);
    reader.drained = () => {
      before();
      more();
    };
    more();
    expect(sent).toBeLessThan(100);
    await reader.done();
    expect(reader.text.length).toBe(written);
    expect(written).toBe(5_000_000);
  });

  test("many requests share the connection", async () => {
    const connection = await connectTo((stream, headers) => {
      stream.respond({ ":status": 200 });
      stream.end(String(headers[":path"]));
    });
    const all = Array.from({ length: 90 }, (_, at) => send(connection, requestOf(`/${at}`)).reader);
    for (const [at, reader] of all.entries()) expect((await reader.done()).text).toBe(`/${at}`);
    expect(connection.requests).toBe(90);
  });
});

describe("answers that nobody reads to their end", () => {
  test("do not keep the connection's window, though they are complete", async () => {
    const { connection, server } = await scripted({ streamWindow: 65_535, connectionWindow: 131_070 });
    for (let at = 0; at < 8; at++) {
      const id = 2 * at + 1;
      const { reader, stream } = send(connection);
      await server.next(frameTypes.headers, id);
      stream.pause();
      server.write(
        ok(id),
        ...Array.from({ length: 4 }, () => data(id, "a".repeat(15_000))),
        data(id, "", flag.endStream),
      );
      await until(() => connection.size === 0, "the whole answer");
      stream.reset("local-reset");
      stream.resume();
      expect([reader.text, reader.hasEnded]).toEqual(["", false]);
    }
    const returned = server.of(frameTypes.windowUpdate, 0).reduce((sum, { body }) => sum + body.readUInt32BE(0), 0);
    expect(returned).toBeGreaterThanOrEqual(8 * 60_000 - 65_535);
  });
});

describe("with a server of the test's making", () => {
  test("no more streams than it allows, and told when there is room", async () => {
    const { connection, server } = await scripted({}, setting(settingIds.maxConcurrentStreams, 1));
    const { reader } = send(connection);
    expect(connection.hasRoom).toBe(false);
    heard.length = 0;
    server.write(ok(1, flag.endStream));
    await reader.done();
    expect([connection.hasRoom, heard, reader.endsWithHead]).toEqual([true, ["room"], true]);
    server.write(frame(frameTypes.settings, 0, 0, setting(settingIds.maxConcurrentStreams, 0)));
    await until(() => !connection.hasRoom, "it allows none");
  });

  // prettier-ignore
  test.each<readonly [string, Buffer, string]>([
    ["REFUSED_STREAM",            frame(frameTypes.reset, 0, 1, uint32(7)),                  "refused-stream"],
    ["CANCEL",                    frame(frameTypes.reset, 0, 1, uint32(8)),                  "remote-reset"],
    ["INTERNAL_ERROR",            frame(frameTypes.reset, 0, 1, uint32(2)),                  "remote-reset"],
    ["PROTOCOL_ERROR",            frame(frameTypes.reset, 0, 1, uint32(1)),                  "protocol-error"],
    ["GOAWAY before the stream",  frame(frameTypes.goaway, 0, 0, uint32(0, 0)),              "refused-stream"],
    ["no status",                 frame(frameTypes.headers, 5, 1, literal("a", "b")),        "protocol-error"],
    ["a status that is none",     frame(frameTypes.headers, 5, 1, literal(":status", "20")), "protocol-error"],
    ["status 101",                frame(frameTypes.headers, 5, 1, literal(":status", "101")), "protocol-error"],
    ["interim and the end",       frame(frameTypes.headers, 5, 1, literal(":status", "103")), "protocol-error"],
    ["a path",                    frame(frameTypes.headers, 5, 1, fields([":status", "200"], [":path", "/"])), "protocol-error"],
    ["connection",                ok(1, 1, literal("connection", "close")),                  "protocol-error"],
    ["transfer-encoding",         ok(1, 1, literal("transfer-encoding", "chunked")),         "protocol-error"],
    ["two lengths",               ok(1, 1, literal("content-length", "0"), literal("content-length", "1")), "protocol-error"],
    ["data before the head",      data(1, "x"),                                              "protocol-error"],
    ["an end before the head",    data(1, "", 1),                                            "protocol-error"],
    ["less than promised",        Buffer.concat([ok(1, 0, literal("content-length", "3")), data(1, "ab", 1)]), "protocol-error"],
    ["more than promised",        Buffer.concat([ok(1, 0, literal("content-length", "1")), data(1, "ab", 1)]), "protocol-error"],
    ["malformed trailers",        Buffer.concat([ok(1), frame(frameTypes.headers, 5, 1, literal("A", "b"))]), "protocol-error"],
    ["a second head",             Buffer.concat([ok(1), frame(frameTypes.headers, 4, 1, literal("a", "b"))]), "protocol-error"],
    ["a head too large",          ok(1, 1, ...Array.from({ length: 101 }, () => literal("a", "b"))), "protocol-error"],
  ])("%s", async (_what, frames, reason) => {
    const { connection, server } = await scripted();
    const { reader } = send(connection);
    server.write(frames);
    expect(await reader.resetReason()).toBe(reason);
  });

  // prettier-ignore
  test.each<readonly [string, Buffer]>([
    ["a push",                     frame(frameTypes.pushPromise, 4, 1, uint32(2))],
    ["an answer nobody asked for", ok(3, 1)],
    ["a stream of its own",        ok(2, 1)],
    ["HTTP/1.1",                   Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")],
  ])("%s ends the connection", async (_what, bytes) => {
    const { connection, server } = await scripted();
    const { reader } = send(connection);
    server.write(bytes);
    expect(await reader.resetReason()).toBe("protocol-error");
    expect(connection.hasRoom).toBe(false);
    server.duplex.destroy();
    await until(() => errors.length === 1, "its owner knows");
  });

  test("a server that says goodbye finishes what it has begun, then we hang up", async () => {
    const { connection, server } = await scripted();
    const [first, second] = [send(connection), send(connection)];
    server.write(frame(frameTypes.goaway, 0, 0, uint32(1, 0)));
    expect(await second.reader.resetReason()).toBe("refused-stream");
    expect([connection.hasRoom, heard.includes("draining")]).toEqual([false, true]);
    server.write(ok(1), data(1, "late", 1));
    expect((await first.reader.done()).text).toBe("late");
    await until(() => server.isOver, "the connection is over");
  });

  test("an answer in full, and the rest of the request not wanted", async () => {
    const { connection, server } = await scripted();
    const { reader, stream } = send(connection, requestOf("/", { method: "POST" }), false);
    server.write(ok(1, flag.endStream), frame(frameTypes.reset, 0, 1, uint32(0)));
    await until(() => reader.isReset !== undefined, "no more of the request");
    expect([reader.hasEnded, reader.response?.status]).toEqual([true, 200]);
    stream.write(Buffer.from("x"));
    stream.end();
    expect(connection.size).toBe(0);
  });

  test("given up, the server is told, and what still comes for it harms nobody", async () => {
    const { connection, server } = await scripted();
    const [gone, other] = [send(connection), send(connection)];
    gone.stream.reset("local-reset");
    expect(await server.resetOf(1)).toBe("CANCEL");
    server.write(ok(1), data(1, "late"), data(1, "", 1), ok(3, 1));
    await other.reader.done();
    expect([gone.reader.response, gone.reader.isReset]).toEqual([undefined, undefined]);
  });

  test("a paused reader gets nothing, and no window is opened for it", async () => {
    const { connection, server } = await scripted({ streamWindow: 65_535, connectionWindow: 1_000_000 });
    const { reader, stream } = send(connection);
    stream.pause();
    server.write(
      ok(1),
      ...Array.from({ length: 4 }, () => data(1, "x".repeat(16_000))),
      frame(frameTypes.ping, 0, 0, Buffer.alloc(8)),
    );
    await server.next(frameTypes.ping);
    expect([reader.response?.status, reader.text]).toEqual([200, ""]);
    stream.resume();
    expect(reader.text.length).toBe(64_000);
    await server.next(frameTypes.windowUpdate, 1);
  });

  test("an upgrade becomes extended CONNECT, its answer 101", async () => {
    const { connection, server } = await scripted({}, setting(settingIds.enableConnectProtocol, 1));
    expect(connection.hasExtendedConnect).toBe(true);
    const { reader, stream } = send(connection, requestOf("/chat", { upgrade: "websocket" }), true);
    const { flags, body } = await server.next(frameTypes.headers, 1);
    expect(flags).toBe(flag.endHeaders);
    const decoder = new HpackDecoder({ maxBytes: 1_000, maxFields: 10 });
    decoder.decode(body, 0, body.length);
    expect([decoder.method, decoder.protocol, decoder.path]).toEqual(["CONNECT", "websocket", "/chat"]);
    server.write(ok(1), data(1, "pong"));
    await until(() => reader.text === "pong", "octets");
    expect(reader.response?.status).toBe(101);
    stream.write(Buffer.from("ping"));
    stream.end();
    await until(() => server.dataOf(1).toString() === "ping", "octets");
  });

  test("a silent server is given up after a ping without answer", async () => {
    const { connection, server } = await scripted({ keepAlive: { intervalMs: 10_000, timeoutMs: 5_000 } });
    const { reader } = send(connection);
    await clock.advance(10_000);
    await server.next(frameTypes.ping);
    await clock.advance(5_000);
    expect(await reader.resetReason()).toBe("connection-termination");
    expect(errors[0]?.message).toMatch(/PING/);
  });

  test("told to close, it waits for its streams", async () => {
    const { connection, server } = await scripted();
    const { reader } = send(connection);
    connection.close();
    expect(connection.hasRoom).toBe(false);
    server.write(ok(1, flag.endStream));
    await reader.done();
    await until(() => server.isOver, "the connection is over");
    server.duplex.end();
    await until(() => errors.length === 1, "its owner knows");
    expect(errors).toEqual([undefined]);
  });
});
