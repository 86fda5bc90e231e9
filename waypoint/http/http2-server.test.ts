/** The server's side over real sockets: with frames written by hand, and with Node's own client. */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { connect as connectHttp2, constants, type ClientHttp2Session, type OutgoingHttpHeaders } from "node:http2";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { connectLoopback, listenLoopback, until, type LoopbackServer } from "#shared/testing/loopback.ts";
import { Headers } from "./headers.ts";
import { frameTypes, settingIds } from "./http2-frames.ts";
import { Http2ServerConnection, type Http2ServerOptions } from "./http2-server.ts";
import type { BodyReader, DownstreamStream, ResetReason } from "./streams.ts";
import {
  fields,
  flag,
  frame,
  getFields,
  hello,
  literal,
  postFields,
  RawPeer,
  remembered,
  request,
  setting,
  times,
  uint32,
} from "./testing/raw-http2.ts";

/** A request and everything that was heard of it. */
class Served implements BodyReader {
  readonly stream: DownstreamStream;
  readonly chunks: Buffer[] = [];
  trailers: Headers | undefined;
  hasEnded = false;
  isReset: ResetReason | undefined;
  drains = 0;

  constructor(stream: DownstreamStream) {
    this.stream = stream;
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }

  data(chunk: Buffer): void {
    expect(this.hasEnded).toBe(false);
    this.chunks.push(chunk);
  }

  end(trailers: Headers | undefined): void {
    expect(this.hasEnded || this.isReset).toBeFalsy();
    this.trailers = trailers;
    this.hasEnded = true;
  }

  reset(reason: ResetReason): void {
    expect(this.isReset).toBeUndefined();
    this.isReset = reason;
  }

  drained(): void {
    this.drains++;
  }
}

let clock: FakeClock;
let listener: LoopbackServer;
let connections: Http2ServerConnection[];
let closed: (Error | undefined)[];
let served: Served[];
let onRequest: (request: Served) => void;
let options: Partial<Http2ServerOptions>;
let sessions: ClientHttp2Session[];

/** The answer of those tests that are about requests. */
function answer({ stream }: Served, body = "hello"): void {
  stream.respond({ status: 200, headers: new Headers(["content-type", "text/plain"]) }, body === "");
  if (body === "") return;
  stream.write(Buffer.from(body));
  stream.end();
}

beforeEach(async () => {
  clock = new FakeClock();
  connections = [];
  closed = [];
  served = [];
  sessions = [];
  options = {};
  onRequest = (got) => {
    got.stream.read(got);
    answer(got);
  };
  listener = await listenLoopback((socket) => {
    const owner = {
      onRequest: (stream: DownstreamStream) => {
        const got = new Served(stream);
        served.push(got);
        onRequest(got);
      },
      onClosed: (_connection: Http2ServerConnection, error: Error | undefined) => void closed.push(error),
    };
    connections.push(new Http2ServerConnection(socket, owner, options, clock));
  });
});

afterEach(async () => {
  for (const session of sessions) session.destroy();
  for (const connection of connections) connection.destroy();
  await listener[Symbol.asyncDispose]();
});

async function dial(settings?: Uint8Array): Promise<RawPeer> {
  const peer = new RawPeer(await connectLoopback(listener.port));
  peer.write(hello(settings));
  return peer;
}

function session(): ClientHttp2Session {
  const made = connectHttp2(`http://127.0.0.1:${listener.port}`);
  made.on("error", () => {});
  sessions.push(made);
  return made;
}

describe("with Node's client", () => {
  async function fetch(headers: OutgoingHttpHeaders, body?: string) {
    const stream = session().request(headers, { endStream: body === undefined });
    stream.end(body);
    const [head] = (await once(stream, "response")) as [Record<string, string>];
    let trailers: Record<string, string> = {};
    stream.on("trailers", (fields: Record<string, string>) => (trailers = fields));
    let text = "";
    stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    await once(stream, "end");
    return { head, text, trailers };
  }

  test("a request without a body", async () => {
    const { head, text } = await fetch({ ":path": "/a?b=c", "x-one": ["1", "2"], cookie: ["a=b", "c=d"] });
    expect([head[":status"], head["content-type"], text]).toEqual([200, "text/plain", "hello"]);
    const { request: got, endsWithHead } = (served[0] as Served).stream;
    expect(got).toMatchObject({
      method: "GET",
      scheme: "http",
      path: "/a?b=c",
      authority: `127.0.0.1:${listener.port}`,
    });
    expect(endsWithHead).toBe(true);
    expect(got.headers.all("x-one")).toEqual(["1", "2"]);
    expect(got.headers.all("cookie")).toEqual(["a=b; c=d"]);
  });

  test("bodies both ways, larger than every window", async () => {
    onRequest = (got) => {
      got.stream.respond({ status: 200, headers: new Headers() }, false);
      got.stream.read({
        data: (chunk) => {
          if (!got.stream.write(chunk)) got.stream.pause();
        },
        end: () => got.stream.end(new Headers(["x-sum", "1"])),
        reset: () => {},
        drained: () => got.stream.resume(),
      });
    };
    const body = Array.from({ length: 300_000 }, (_, at) => `${at};`).join("");
    const { text, trailers } = await fetch({ ":method": "POST" }, body);
    expect(text.length).toBe(body.length);
    expect(text).toBe(body);
    expect(trailers["x-sum"]).toBe("1");
    await until(() => connections[0]?.size === 0, "the stream is over");
  });

  test("an answer of trailers only", async () => {
    onRequest = ({ stream }) => stream.respond({ status: 200, headers: new Headers(["grpc-status", "12"]) }, true);
    const { head, text } = await fetch({ ":method": "GET" });
    expect([head["grpc-status"], text]).toEqual(["12", ""]);
  });

  test("messages go to and fro on one stream, and trailers end it", async () => {
    onRequest = (got) => {
      got.stream.respond({ status: 200, headers: new Headers() }, false);
      got.stream.read({
        data: (chunk) => void got.stream.write(Buffer.from(`<${chunk.toString()}>`)),
        end: (trailers) => got.stream.end(new Headers(["grpc-status", trailers?.get("x-last") ?? "none"])),
        reset: () => {},
        drained: () => {},
      });
    };
    const stream = session().request(
      { ":method": "POST", te: "trailers" },
      { waitForTrailers: true, endStream: false },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-last": "7" }));
    stream.setEncoding("utf8");
    for (const word of ["a", "b", "c"]) {
      stream.write(word);
      expect(await once(stream, "data")).toEqual([`<${word}>`]);
    }
    stream.end();
    const [trailers] = (await once(stream, "trailers")) as [Record<string, string>];
    expect(trailers["grpc-status"]).toBe("7");
    expect(served[0]?.stream.request.headers.get("te")).toBe("trailers");
  });

  test("100-continue is said when somebody begins to read", async () => {
    const reading = Promise.withResolvers<void>();
    onRequest = (got) => {
      expect(got.stream.request.headers.has("expect")).toBe(false);
      void reading.promise.then(() => {
        got.stream.read(got);
        return undefined;
      });
    };
    const stream = session().request({ ":method": "POST", expect: "100-continue" }, { endStream: false });
    let continued = false;
    stream.on("continue", () => (continued = true));
    await until(() => served.length === 1, "the request is there");
    expect(continued).toBe(false);
    reading.resolve();
    await once(stream, "continue");
    stream.end("x");
    await until(() => (served[0] as Served).hasEnded, "the body is there");
    answer(served[0] as Served);
    await once(stream, "response");
  });

  test("an early answer asks for no more of the request", async () => {
    onRequest = (got) => {
      got.stream.read(got);
      got.stream.respond({ status: 413, headers: new Headers() }, true);
    };
    const stream = session().request({ ":method": "POST" }, { endStream: false });
    stream.on("error", () => {});
    const [head] = (await once(stream, "response")) as [Record<string, number>];
    await once(stream, "close");
    expect([head[":status"], stream.rstCode]).toEqual([413, constants.NGHTTP2_NO_ERROR]);
  });

  test("interim answers", async () => {
    onRequest = (got) => {
      got.stream.inform({ status: 103, headers: new Headers(["link", "</a>"]) });
      answer(got);
    };
    const stream = session().request({});
    const [hints] = (await once(stream, "headers")) as [Record<string, unknown>];
    expect([hints[":status"], hints["link"]]).toEqual([103, "</a>"]);
    await once(stream, "response");
  });

  test("a client that goes away is told of, also after its request is complete", async () => {
    onRequest = (got) => got.stream.read(got);
    const [one, other] = [session(), session()];
    const stream = one.request({});
    stream.on("error", () => {});
    await until(() => served[0]?.hasEnded === true, "the request is there");
    stream.close(constants.NGHTTP2_CANCEL);
    await until(() => served[0]?.isReset === "remote-reset", "the reset");
    other.request({}).on("error", () => {});
    await until(() => served[1]?.hasEnded === true, "the other request is there");
    other.destroy();
    await until(() => served[1]?.isReset === "connection-termination", "the end of the connection");
    expect(served).toHaveLength(2);
  });

  test("extended CONNECT looks like an upgrade and is answered with 200", async () => {
    onRequest = (got) => {
      got.stream.read({
        data: (chunk) => void got.stream.write(chunk),
        end: () => got.stream.end(),
        reset: () => {},
        drained: () => {},
      });
      got.stream.respond({ status: 101, headers: new Headers(["sec-websocket-accept", "x"]) }, false);
    };
    const client = session();
    await once(client, "remoteSettings");
    const stream = client.request(
      { ":method": "CONNECT", ":protocol": "websocket", ":path": "/chat" },
      { endStream: false },
    );
    const [head] = (await once(stream, "response")) as [Record<string, unknown>];
    expect([head[":status"], head["sec-websocket-accept"]]).toEqual([200, undefined]);
    stream.write("frame");
    expect(String((await once(stream, "data"))[0])).toBe("frame");
    const { request: got } = (served[0] as Served).stream;
    expect(got).toMatchObject({ method: "GET", upgrade: "websocket", path: "/chat" });
    expect(got.headers.get("sec-websocket-key")).toMatch(/^[A-Za-z0-9+/]{22}==$/);
  });

  test("a large head in several frames, both ways", async () => {
    const big = "v".repeat(20_000);
    onRequest = (got) => {
      expect(got.stream.request.headers.get("x-big")).toBe(big);
      got.stream.respond({ status: 200, headers: new Headers(["x-b", big, "x-c", big]) }, true);
    };
    const { head } = await fetch({ "x-big": big });
    expect([head["x-b"], head["x-c"]]).toEqual([big, big]);
  });
});

const ordinary = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "x"],
] as const;
const instead = (name: string, value?: string) =>
  ordinary.flatMap(([key, usual]) =>
    key !== name ? [[key, usual] as const] : value === undefined ? [] : [[key, value] as const],
  );
const and = (...more: readonly (readonly [string, string])[]) => fields(...ordinary, ...more);

describe("bodies that nobody reads", () => {
  test("do not keep the connection's window: whole requests that are answered unread", async () => {
    options = { streamWindow: 65_535, connectionWindow: 131_070 };
    onRequest = (got) => {
      got.stream.read(got);
      got.stream.pause();
    };
    const client = await dial();
    for (let at = 0; at < 8; at++) {
      const id = 2 * at + 1;
      client.write(request(id, postFields, 0));
      client.write(
        ...Array.from({ length: 4 }, (_, part) =>
          frame(frameTypes.data, part === 3 ? flag.endStream : 0, id, Buffer.alloc(15_000)),
        ),
      );
      await until(() => served.length > at && served[at]?.stream.bytesRead === 60_000, "the body");
      answer(served[at] as Served);
      expect((await client.section(id)).status).toBe("200");
    }
    expect(client.isOver).toBe(false);
    const returned = client.of(frameTypes.windowUpdate, 0).reduce((sum, { body }) => sum + body.readUInt32BE(0), 0);
    expect(returned).toBeGreaterThanOrEqual(8 * 60_000 - 65_535);
  });
});

describe("requests that are none end their stream alone", () => {
  // prettier-ignore
  test.each<readonly [string, Buffer]>([
    ["no method",                         fields(...instead(":method"))],
    ["no scheme",                         fields(...instead(":scheme"))],
    ["no path",                           fields(...instead(":path"))],
    ["an empty path",                     fields(...instead(":path", ""))],
    ["a path without slash",              fields(...instead(":path", "a"))],
    ["an absolute path",                  fields(...instead(":path", "http://x/"))],
    ["a path with a blank",               fields(...instead(":path", "/a b"))],
    ["a path with a fragment",            fields(...instead(":path", "/a#b"))],
    ["* for GET",                         fields(...instead(":path", "*"))],
    ["a method with a blank",             fields(...instead(":method", "GET /"))],
    ["a scheme that is none",             fields(...instead(":scheme", "ht tp"))],
    ["an authority with a user's name",   fields(...instead(":authority", "a@b"))],
    ["an authority with a path",          fields(...instead(":authority", "a/b"))],
    ["two paths",                         fields(...ordinary, [":path", "/b"])],
    ["a pseudo-field after another",      fields(["a", "b"], ...ordinary)],
    ["a status",                          and([":status", "200"])],
    ["an unknown pseudo-field",           and([":x", "y"])],
    ["upper case",                        and(["X-A", "b"])],
    ["connection",                        and(["connection", "close"])],
    ["keep-alive",                        and(["keep-alive", "1"])],
    ["proxy-connection",                  and(["proxy-connection", "close"])],
    ["transfer-encoding",                 and(["transfer-encoding", "chunked"])],
    ["upgrade",                           and(["upgrade", "h2c"])],
    ["te other than trailers",            and(["te", "gzip"])],
    ["a host that differs",               and(["host", "y"])],
    ["two hosts",                         and(["host", "x"], ["host", "x"])],
    ["a line feed in a value",            and(["a", "b\nc: d"])],
    ["a zero in a value",                 and(["a", "b\0"])],
    ["a blank before a value",            and(["a", " b"])],
    ["a length that is none",             and(["content-length", "+5"])],
    ["two lengths",                       and(["content-length", "0"], ["content-length", "0"])],
    ["a length list",                     and(["content-length", "0, 0"])],
    ["a length without a body",           and(["content-length", "5"])],
    ["CONNECT with a path",               fields([":method", "CONNECT"], [":path", "/"], [":authority", "x:1"])],
    ["CONNECT to nowhere",                fields([":method", "CONNECT"])],
    [":protocol with GET",                and([":protocol", "websocket"])],
    ["nothing at all",                    Buffer.alloc(0)],
  ])("%s", async (_what, block) => {
    const peer = await dial();
    peer.write(request(1, block), request(3));
    expect(await peer.resetOf(1)).toBe("PROTOCOL_ERROR");
    expect((await peer.section(3)).status).toBe("200");
    expect(served).toHaveLength(1);
  });

  const data = (stream: number, body: string, flags = 0) => frame(frameTypes.data, flags, stream, Buffer.from(body));
  const post = (length: string) => request(1, Buffer.concat([postFields, literal("content-length", length)]), 0);
  // prettier-ignore
  test.each<readonly [string, readonly Buffer[], string]>([
    ["more than content-length",           [post("3"), data(1, "abcd")],                                        "PROTOCOL_ERROR"],
    ["less than content-length",           [post("3"), data(1, "ab", flag.endStream)],                          "PROTOCOL_ERROR"],
    ["less, ended by trailers",            [post("3"), data(1, "ab"), request(1, literal("a", "b"))],           "PROTOCOL_ERROR"],
    ["fields in the middle",               [post("3"), request(1, literal("a", "b"), 0)],                       "PROTOCOL_ERROR"],
    ["a pseudo-field in trailers",         [post("0"), request(1, literal(":path", "/"))],                      "PROTOCOL_ERROR"],
    ["content-length in trailers",         [post("0"), request(1, literal("content-length", "0"))],             "PROTOCOL_ERROR"],
    ["data after the end",                 [request(1), data(1, "a")],                                          "STREAM_CLOSED"],
    ["fields after the end",               [request(1), request(1, literal("a", "b"))],                         "STREAM_CLOSED"],
    ["a stream's window opened by nothing", [post("3"), frame(frameTypes.windowUpdate, 0, 1, uint32(0))],       "PROTOCOL_ERROR"],
    ["a stream's window past 2^31",        [post("3"), frame(frameTypes.windowUpdate, 0, 1, uint32(0x7fffffff))], "FLOW_CONTROL_ERROR"],
  ])("%s", async (_what, frames, code) => {
    onRequest = (got) => {
      got.stream.read(got);
      if (got.stream.request.headers.get("x-answer") !== undefined) answer(got);
    };
    const peer = await dial();
    peer.write(...frames, request(3, Buffer.concat([getFields, literal("x-answer", "1")])));
    expect(await peer.resetOf(1)).toBe(code);
    expect((await peer.section(3)).status).toBe("200");
    expect(served[0]?.isReset).toBe("protocol-error");
  });

  test("data past a stream's window", async () => {
    options = { streamWindow: 65_535, connectionWindow: 1_000_000 };
    onRequest = () => {};
    const peer = await dial();
    peer.write(
      request(1, postFields, 0),
      times(5, () => data(1, "x".repeat(16_384))),
    );
    expect(await peer.resetOf(1)).toBe("FLOW_CONTROL_ERROR");
  });
});

describe("what breaks the protocol ends the connection", () => {
  // prettier-ignore
  test.each<readonly [string, readonly Uint8Array[], string]>([
    ["a frame too large",                  [frame(frameTypes.data, 0, 1, Buffer.alloc(16_385))],               "FRAME_SIZE_ERROR"],
    ["data on stream 0",                   [frame(frameTypes.data, 0, 0, Buffer.alloc(4))],                    "PROTOCOL_ERROR"],
    ["data on a stream not opened",        [frame(frameTypes.data, 0, 1, Buffer.alloc(4))],                    "PROTOCOL_ERROR"],
    ["fields on stream 0",                 [request(0)],                                                       "PROTOCOL_ERROR"],
    ["a stream of the server's",           [request(2)],                                                       "PROTOCOL_ERROR"],
    ["CONTINUATION of nothing",            [frame(frameTypes.continuation, flag.endHeaders, 1)],               "PROTOCOL_ERROR"],
    ["PING within a section",              [frame(frameTypes.headers, 0, 1, getFields), frame(frameTypes.ping, 0, 0, Buffer.alloc(8))], "PROTOCOL_ERROR"],
    ["another stream within a section",    [frame(frameTypes.headers, 0, 1, getFields), frame(frameTypes.continuation, 4, 3)], "PROTOCOL_ERROR"],
    ["an unknown frame within a section",  [frame(frameTypes.headers, 0, 1, getFields), frame(0x16, 0, 1)],    "PROTOCOL_ERROR"],
    ["RST_STREAM of a stream not opened",  [frame(frameTypes.reset, 0, 1, uint32(8))],                         "PROTOCOL_ERROR"],
    ["RST_STREAM on stream 0",             [frame(frameTypes.reset, 0, 0, uint32(8))],                         "PROTOCOL_ERROR"],
    ["RST_STREAM of three octets",         [request(1), frame(frameTypes.reset, 0, 1, Buffer.alloc(3))],       "FRAME_SIZE_ERROR"],
    ["WINDOW_UPDATE by nothing",           [frame(frameTypes.windowUpdate, 0, 0, uint32(0))],                  "PROTOCOL_ERROR"],
    ["WINDOW_UPDATE of three octets",      [frame(frameTypes.windowUpdate, 0, 0, Buffer.alloc(3))],            "FRAME_SIZE_ERROR"],
    ["WINDOW_UPDATE, stream not opened",   [frame(frameTypes.windowUpdate, 0, 5, uint32(1))],                  "PROTOCOL_ERROR"],
    ["a window past 2^31",                 [frame(frameTypes.windowUpdate, 0, 0, uint32(0x7fffffff))],         "FLOW_CONTROL_ERROR"],
    ["PING of seven octets",               [frame(frameTypes.ping, 0, 0, Buffer.alloc(7))],                    "FRAME_SIZE_ERROR"],
    ["PING on a stream",                   [frame(frameTypes.ping, 0, 1, Buffer.alloc(8))],                    "PROTOCOL_ERROR"],
    ["SETTINGS on a stream",               [frame(frameTypes.settings, 0, 1)],                                 "PROTOCOL_ERROR"],
    ["SETTINGS of five octets",            [frame(frameTypes.settings, 0, 0, Buffer.alloc(5))],                "FRAME_SIZE_ERROR"],
    ["an acknowledgement with settings",   [frame(frameTypes.settings, flag.ack, 0, setting(3, 1))],           "FRAME_SIZE_ERROR"],
    ["an initial window past 2^31",        [frame(frameTypes.settings, 0, 0, setting(settingIds.initialWindowSize, 0x80000000))], "FLOW_CONTROL_ERROR"],
    ["frames too small",                   [frame(frameTypes.settings, 0, 0, setting(settingIds.maxFrameSize, 16_383))], "PROTOCOL_ERROR"],
    ["frames too large",                   [frame(frameTypes.settings, 0, 0, setting(settingIds.maxFrameSize, 16_777_216))], "PROTOCOL_ERROR"],
    ["push neither on nor off",            [frame(frameTypes.settings, 0, 0, setting(settingIds.enablePush, 2))], "PROTOCOL_ERROR"],
    ["GOAWAY of four octets",              [frame(frameTypes.goaway, 0, 0, uint32(0))],                        "FRAME_SIZE_ERROR"],
    ["GOAWAY on a stream",                 [frame(frameTypes.goaway, 0, 1, uint32(0, 0))],                     "PROTOCOL_ERROR"],
    ["PUSH_PROMISE",                       [frame(frameTypes.pushPromise, 4, 1, uint32(2))],                   "PROTOCOL_ERROR"],
    ["PRIORITY of four octets",            [frame(frameTypes.priority, 0, 1, uint32(0))],                      "FRAME_SIZE_ERROR"],
    ["PRIORITY on stream 0",               [frame(frameTypes.priority, 0, 0, Buffer.alloc(5))],                "PROTOCOL_ERROR"],
    ["a stream that depends on itself",    [frame(frameTypes.priority, 0, 1, Buffer.concat([uint32(1), Buffer.alloc(1)]))], "PROTOCOL_ERROR"],
    ["padding longer than DATA",           [request(1, postFields, 0), frame(frameTypes.data, flag.padded, 1, Buffer.from([5, 0, 0]))], "PROTOCOL_ERROR"],
    ["padding longer than HEADERS",        [frame(frameTypes.headers, flag.padded | 4, 1, Buffer.from([5, 0, 0]))], "PROTOCOL_ERROR"],
    ["no padding length",                  [request(1, postFields, 0), frame(frameTypes.data, flag.padded, 1)], "PROTOCOL_ERROR"],
    ["an index outside of the table",      [request(1, Buffer.from([0xff, 0xff, 0x03]))],                      "COMPRESSION_ERROR"],
    ["a section cut off",                  [request(1, getFields.subarray(0, 5))],                             "COMPRESSION_ERROR"],
    ["a table too large",                  [request(1, Buffer.concat([Buffer.from([0x3f, 0xe2, 0x1f]), getFields]))], "COMPRESSION_ERROR"],
  ])("%s", async (_what, frames, code) => {
    const peer = await dial();
    peer.write(...frames);
    expect(await peer.goaway()).toBe(code);
    await until(() => peer.isOver, "the connection is over");
    peer.duplex.destroy();
    await until(() => closed.length === 1, "its owner knows");
    expect(closed[0]).toBeInstanceOf(Error);
  });

  test("another preface, or settings that do not come first", async () => {
    for (const bytes of ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"]) {
      const peer = new RawPeer(await connectLoopback(listener.port));
      peer.write(Buffer.from(bytes));
      expect(await peer.goaway()).toBe("PROTOCOL_ERROR");
    }
    const peer = new RawPeer(await connectLoopback(listener.port));
    peer.write(hello().subarray(0, 24), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    expect(await peer.goaway()).toBe("PROTOCOL_ERROR");
  });

  test("data past the connection's window", async () => {
    options = { streamWindow: 1_000_000, connectionWindow: 65_535 };
    onRequest = () => {};
    const peer = await dial();
    const data = frame(frameTypes.data, 0, 1, Buffer.alloc(16_384));
    peer.write(
      request(1, postFields, 0),
      times(5, () => data),
    );
    expect(await peer.goaway()).toBe("FLOW_CONTROL_ERROR");
  });
});

describe("what looks odd and is allowed", () => {
  test("octet by octet, with padding, priority, unknown frames and settings", async () => {
    onRequest = (got) => got.stream.read(got);
    const peer = await dial(setting(0xff, 1));
    const block = Buffer.concat([
      Buffer.from([2]),
      uint32(0x8000_0003),
      Buffer.from([15]),
      postFields.subarray(0, 20),
      Buffer.alloc(2),
    ]);
    const bytes = Buffer.concat([
      frame(0xee, 0xff, 9, Buffer.alloc(20)),
      frame(frameTypes.priority, 0, 77, Buffer.concat([uint32(3), Buffer.from([1])])),
      frame(frameTypes.headers, flag.padded | flag.priority, 1, block),
      frame(frameTypes.continuation, 0, 1, Buffer.alloc(0)),
      frame(frameTypes.continuation, flag.endHeaders, 1, postFields.subarray(20)),
      frame(frameTypes.data, flag.padded, 1, Buffer.concat([Buffer.from([3]), Buffer.from("abc"), Buffer.alloc(3)])),
      frame(frameTypes.data, flag.endStream, 1, Buffer.from("def")),
    ]);
    for (const octet of bytes) {
      peer.write(Buffer.from([octet]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => served[0]?.hasEnded === true, "the request is complete");
    expect(served[0]?.text).toBe("abcdef");
  });

  test("a host alone, and one that says the same", async () => {
    const peer = await dial();
    peer.write(request(1, fields([":method", "GET"], [":scheme", "http"], [":path", "/"], ["host", "a:80"])));
    peer.write(request(3, fields(...ordinary, ["host", "X"])));
    await peer.next(frameTypes.headers, 3);
    expect(served.map(({ stream }) => [stream.request.authority, stream.request.headers.size])).toEqual([
      ["a:80", 0],
      ["x", 0],
    ]);
  });

  test("OPTIONS *, CONNECT, content-length 0, a body as long as told", async () => {
    onRequest = (got) => got.stream.read(got);
    const peer = await dial();
    peer.write(
      request(1, fields(...instead(":path", "*").map(([k, v]) => [k, k === ":method" ? "OPTIONS" : v] as const))),
    );
    peer.write(request(3, fields([":method", "CONNECT"], [":authority", "x:80"]), 0));
    peer.write(request(5, and(["content-length", "0"])));
    peer.write(request(7, and(["content-length", "2"]), 0), frame(frameTypes.data, 1, 7, Buffer.from("ab")));
    await until(() => served[3]?.hasEnded === true, "the last is complete");
    expect(served.map(({ stream }) => stream.request.path)).toEqual(["*", "", "/", "/"]);
    expect(served[3]?.text).toBe("ab");
  });

  test("trailers, and data that was on its way when its stream was reset", async () => {
    onRequest = (got) => {
      got.stream.read(got);
      if (served.length === 2) got.stream.reset("local-reset");
    };
    const peer = await dial();
    peer.write(request(1, postFields, 0), request(1, literal("x-sum", "1")), request(3, postFields, 0));
    expect(await peer.resetOf(3)).toBe("INTERNAL_ERROR");
    peer.write(frame(frameTypes.data, 1, 3, Buffer.from("late")), frame(frameTypes.windowUpdate, 0, 3, uint32(1)));
    peer.write(frame(frameTypes.reset, 0, 3, uint32(8)), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    expect((await peer.next(frameTypes.ping)).flags).toBe(flag.ack);
    expect(served[0]?.trailers?.get("x-sum")).toBe("1");
  });
});

describe("limits", () => {
  test("streams beyond the bound are refused, the rest is served", async () => {
    options = { maxConcurrentStreams: 2 };
    onRequest = (got) => got.stream.read(got);
    const peer = await dial();
    peer.write(request(1), request(3), request(5));
    expect(await peer.resetOf(5)).toBe("REFUSED_STREAM");
    answer(served[0] as Served);
    await peer.next(frameTypes.data, 1);
    peer.write(request(7));
    await until(() => served.length === 3, "there is room again");
    const { body } = await peer.next(frameTypes.settings);
    expect(body.subarray(0, 6)).toEqual(setting(settingIds.maxConcurrentStreams, 2));
  });

  // prettier-ignore
  test.each<readonly [string, Buffer]>([
    ["too many fields",   Buffer.concat([getFields, times(101, (at) => literal(`x-${at}`, ""))])],
    ["fields too long",   Buffer.concat([getFields, remembered("x", "v".repeat(4_000)), Buffer.alloc(16, 0x80 | 62)])],
  ])("%s are answered with 431", async (_what, block) => {
    const peer = await dial();
    peer.write(request(1, block), request(3));
    expect((await peer.section(1)).status).toBe("431");
    expect((await peer.section(3)).status).toBe("200");
    expect(served).toHaveLength(1);
  });

  test("a hundred fields and 60 KiB are fine", async () => {
    const peer = await dial();
    peer.write(request(1, Buffer.concat([getFields, times(100, (at) => literal(`x-${at}`, "v".repeat(100)))])));
    expect((await peer.section(1)).status).toBe("200");
  });

  test("what a paused reader does not take waits in the client beyond the window", async () => {
    options = { streamWindow: 65_535, connectionWindow: 200_000 };
    onRequest = (got) => {
      got.stream.pause();
      got.stream.read(got);
    };
    const peer = await dial();
    const data = (size: number) => frame(frameTypes.data, 0, 1, Buffer.alloc(size, 97));
    peer.write(
      request(1, postFields, 0),
      times(4, () => data(16_383)),
    );
    peer.write(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    await peer.next(frameTypes.ping);
    expect(served[0]?.chunks).toEqual([]);
    expect(peer.of(frameTypes.windowUpdate, 1)).toEqual([]);
    served[0]?.stream.resume();
    expect(served[0]?.text.length).toBe(4 * 16_383);
    const returned = await peer.next(frameTypes.windowUpdate, 1);
    expect(returned.body.readUInt32BE(0)).toBeGreaterThan(32_000);
  });

  test("an answer waits for the client's windows, and its writer is told when there is room", async () => {
    onRequest = (got) => {
      got.stream.read(got);
      got.stream.respond({ status: 200, headers: new Headers() }, false);
      expect(got.stream.write(Buffer.alloc(10))).toBe(false);
    };
    const peer = await dial(setting(settingIds.initialWindowSize, 4));
    peer.write(request(1));
    expect((await peer.next(frameTypes.data, 1)).body.length).toBe(4);
    expect(served[0]?.drains).toBe(0);
    peer.write(frame(frameTypes.windowUpdate, 0, 1, uint32(1)));
    await until(() => peer.dataOf(1).length === 5, "one more");
    // The settings may take back what they gave.
    peer.write(frame(frameTypes.settings, 0, 0, setting(settingIds.initialWindowSize, 0)));
    peer.write(frame(frameTypes.windowUpdate, 0, 1, uint32(4)), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    await peer.next(frameTypes.ping);
    expect(peer.dataOf(1).length).toBe(5);
    peer.write(frame(frameTypes.settings, 0, 0, setting(settingIds.initialWindowSize, 100)));
    await until(() => served[0]?.drains === 1, "the writer is told");
    served[0]?.stream.end();
    await until(() => peer.of(frameTypes.data, 1).at(-1)?.flags === flag.endStream, "the end");
    expect(peer.dataOf(1).length).toBe(10);
  });

  test("the connection's window is shared in turn", async () => {
    onRequest = (got) => {
      got.stream.respond({ status: 200, headers: new Headers() }, false);
      got.stream.write(Buffer.alloc(60_000));
    };
    const peer = await dial(setting(settingIds.initialWindowSize, 1_000_000));
    peer.write(request(1), request(3), request(5));
    await until(() => peer.dataOf(3).length === 5_535, "the window is used up");
    peer.write(frame(frameTypes.windowUpdate, 0, 0, uint32(60_000)));
    await until(() => peer.dataOf(3).length === 60_000, "the one that waited longest goes first");
    expect(peer.dataOf(5).length).toBe(5_535);
  });
});

describe("ends", () => {
  test("drained, the client is told twice, streams on their way are served, then the connection closes", async () => {
    onRequest = (got) => got.stream.read(got);
    const peer = await dial();
    peer.write(request(1));
    await until(() => served.length === 1, "a request");
    connections[0]?.drain();
    expect((await peer.next(frameTypes.goaway)).body.readUInt32BE(0)).toBe(0x7fff_ffff);
    const ping = await peer.next(frameTypes.ping);
    peer.write(request(3), frame(frameTypes.ping, flag.ack, 0, ping.body));
    expect((await peer.next(frameTypes.goaway, 0, 1)).body.readUInt32BE(0)).toBe(3);
    peer.write(request(5));
    expect(await peer.resetOf(5)).toBe("REFUSED_STREAM");
    answer(served[0] as Served);
    answer(served[1] as Served);
    await until(() => peer.isOver, "the connection is over");
    expect(peer.dataOf(3).toString()).toBe("hello");
    peer.duplex.destroy();
    await until(() => closed.length === 1, "its owner knows");
    expect(closed[0]).toBeUndefined();
  });

  test("a client that answers no ping is told the last stream all the same", async () => {
    const peer = await dial();
    peer.write(request(1));
    await peer.next(frameTypes.data, 1);
    connections[0]?.drain();
    await clock.advance(1_000);
    expect((await peer.next(frameTypes.goaway, 0, 1)).body.readUInt32BE(0)).toBe(1);
    await until(() => peer.isOver, "the connection is over");
  });

  test("without requests it is drained after the idle timeout", async () => {
    options = { idleTimeoutMs: 5_000 };
    onRequest = (got) => got.stream.read(got);
    const peer = await dial();
    peer.write(request(1));
    await until(() => served.length === 1, "a request");
    await clock.advance(60_000);
    expect(peer.of(frameTypes.goaway)).toEqual([]);
    answer(served[0] as Served);
    await peer.next(frameTypes.data, 1);
    await clock.advance(4_999);
    expect(peer.of(frameTypes.goaway)).toEqual([]);
    await clock.advance(5_000);
    expect(await peer.goaway()).toBe("NO_ERROR");
  });

  test("after so many requests another connection is asked for", async () => {
    options = { maxRequests: 2 };
    const peer = await dial();
    peer.write(request(1), request(3));
    expect(await peer.goaway()).toBe("NO_ERROR");
  });

  test("pings are sent and a silent client is let go", async () => {
    options = { keepAlive: { intervalMs: 1_000, timeoutMs: 500 } };
    const peer = await dial();
    await peer.next(frameTypes.settings);
    await clock.advance(1_000);
    const ping = await peer.next(frameTypes.ping);
    peer.write(frame(frameTypes.ping, flag.ack, 0, ping.body), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    await peer.next(frameTypes.ping, 0, 1);
    await clock.advance(1_000);
    await peer.next(frameTypes.ping, 0, 2);
    await clock.advance(500);
    await until(() => closed.length === 1, "the connection is given up");
    expect(closed[0]?.message).toMatch(/PING/);
  });

  // prettier-ignore
  test.each<readonly [ResetReason, string]>([
    ["local-reset",            "INTERNAL_ERROR"],
    ["connection-termination", "INTERNAL_ERROR"],
    ["refused-stream",         "REFUSED_STREAM"],
    ["protocol-error",         "PROTOCOL_ERROR"],
    ["connect-failure",        "CONNECT_ERROR"],
    ["overflow",               "ENHANCE_YOUR_CALM"],
  ])("an answer cut off by %s ends with %s", async (reason, code) => {
    onRequest = (got) => {
      got.stream.respond({ status: 200, headers: new Headers() }, false);
      got.stream.reset(reason);
    };
    const peer = await dial();
    peer.write(request(1));
    expect(await peer.resetOf(1)).toBe(code);
  });

  test("what comes after the end is ignored", async () => {
    onRequest = ({ stream }) => {
      stream.respond({ status: 204, headers: new Headers() }, true);
      stream.respond({ status: 200, headers: new Headers() }, true);
      stream.write(Buffer.from("x"));
      stream.end();
      stream.end(new Headers(["a", "b"]));
      stream.inform({ status: 103, headers: new Headers() });
      stream.reset("local-reset");
      stream.resume();
    };
    const peer = await dial();
    peer.write(request(1), frame(frameTypes.ping, 0, 0, Buffer.alloc(8)));
    await peer.next(frameTypes.ping);
    expect(peer.frames.filter(({ stream }) => stream === 1)).toHaveLength(1);
  });
});
