/**
 * HTTP/2 as attackers speak it, frame by frame over real sockets, each flood alone. Whatever comes: the connection that
 * floods is ended with ENHANCE_YOUR_CALM, memory stays flat, and other callers are served.
 */
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { connectLoopback, listenLoopback, until, type LoopbackServer } from "#shared/testing/loopback.ts";
import { Headers } from "./headers.ts";
import { frameTypes, settingIds } from "./http2-frames.ts";
import { Http2ServerConnection } from "./http2-server.ts";
import type { BodyReader, DownstreamStream } from "./streams.ts";
import { floods, ids, openPost, ping, repeat, reset } from "./testing/floods.ts";
import { frame, hello, RawPeer, request, setting, times, uint32 } from "./testing/raw-http2.ts";

const mebibyte = 1024 * 1024;
const ignored: BodyReader = { data() {}, end() {}, reset() {}, drained() {} };

let clock: FakeClock;
let listener: LoopbackServer;
let connections: Http2ServerConnection[];
let isOver: boolean[];
let open: number;
let onRequest: (stream: DownstreamStream) => void;

/** Answers GET at once, and anything else when its body is complete. */
function serve(stream: DownstreamStream): void {
  const answer = () => {
    stream.respond({ status: 200, headers: new Headers(["content-length", "5"]) }, false);
    stream.write(Buffer.from("hello"));
    stream.end();
  };
  stream.read({ ...ignored, end: answer });
}

beforeEach(async () => {
  clock = new FakeClock();
  connections = [];
  isOver = [];
  open = 0;
  onRequest = serve;
  listener = await listenLoopback((socket) => {
    const index = connections.length;
    const owner = {
      onRequest: (stream: DownstreamStream) => onRequest(stream),
      onClosed: () => {
        isOver[index] = true;
        open--;
      },
    };
    open++;
    connections.push(new Http2ServerConnection(socket, owner, {}, clock));
  });
});

afterEach(async () => {
  for (const connection of connections) connection.destroy();
  await listener[Symbol.asyncDispose]();
});

async function dial(settings?: Uint8Array): Promise<RawPeer> {
  const peer = new RawPeer(await connectLoopback(listener.port));
  peer.write(hello(settings));
  return peer;
}

/** Sends until the server has said goodbye: it hears only so much after that, and resets who sends more. */
async function flood({ duplex }: RawPeer, chunks: Iterable<Uint8Array>): Promise<void> {
  const isEnded = () => duplex.destroyed || [...listener.sockets].some(({ writableEnded }) => writableEnded);
  for (const chunk of chunks) {
    if (isEnded()) return;
    duplex.write(chunk);
    await until(() => !duplex.writableNeedDrain || isEnded(), "room, or the end");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function expectOthersServed(): Promise<void> {
  const before = onRequest;
  onRequest = serve;
  const session = connectHttp2(`http://127.0.0.1:${listener.port}`);
  session.on("error", () => {});
  const stream = session.request({ ":path": "/" });
  const [head] = (await once(stream, "response")) as [Record<string, unknown>];
  expect(head[":status"]).toBe(200);
  session.destroy();
  onRequest = before;
}

describe("a client is cut off for", () => {
  test.each(Object.entries(floods))("%s", async (_what, { chunks, isHeld = false }) => {
    if (isHeld) onRequest = (stream) => stream.read(ignored);
    const peer = await dial();
    const before = process.memoryUsage().rss;
    await flood(peer, chunks());
    expect(await peer.goaway()).toBe("ENHANCE_YOUR_CALM");
    await expectOthersServed();
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * mebibyte);
    peer.duplex.destroy();
    await until(() => open === connections.length - isOver.filter(Boolean).length, "the books are right");
  });

  test("answers that it does not read: nothing more is read from it, and in the end it is let go", async () => {
    const socket = await connectLoopback(listener.port);
    socket.pause();
    const before = process.memoryUsage().rss;
    let streams = 0;
    onRequest = (stream) => {
      streams++;
      stream.respond({ status: 200, headers: new Headers(["x", "y".repeat(1_000)]) }, true);
    };
    socket.write(hello());
    // Each answer is far longer than its question.
    for (let round = 0; round < 4_000 && !socket.writableNeedDrain; round++) {
      socket.write(times(50, (at) => request(ids(round, 50)(at))));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(socket.writableNeedDrain).toBe(true);
    const seen = streams;
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(streams).toBeLessThan(seen + 200);
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * mebibyte);
    await expectOthersServed();
    await clock.advance(600_000);
    await until(() => isOver[0] === true, "it is let go");
    socket.destroy();
  });

  test("windows that it never opens: writers wait, and in the end its streams are reset", async () => {
    let refusedWrites = 0;
    let resets = 0;
    onRequest = (stream) => {
      stream.read({ ...ignored, reset: () => resets++ });
      stream.respond({ status: 200, headers: new Headers() }, false);
      if (!stream.write(Buffer.alloc(10_000))) refusedWrites++;
    };
    const peer = await dial(setting(settingIds.initialWindowSize, 0));
    const before = process.memoryUsage().rss;
    peer.write(times(100, (at) => request(2 * at + 1)));
    await until(() => refusedWrites === 100, "all writers wait");
    await expectOthersServed();
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * mebibyte);
    // Octet by octet it goes on, and that is in order.
    await clock.advance(290_000);
    peer.write(frame(frameTypes.windowUpdate, 0, 1, uint32(1)));
    await until(() => peer.dataOf(1).length === 1, "one octet");
    await clock.advance(290_000);
    await until(() => resets === 99, "the others are reset");
    expect(await peer.resetOf(3)).toBe("ENHANCE_YOUR_CALM");
    await clock.advance(600_000);
    await until(() => connections[0]?.size === 0, "the last one too");
  });

  test("octets in frames of one: what waits for a reader is packed", async () => {
    onRequest = () => {};
    const peer = await dial();
    const before = process.memoryUsage();
    const tiny = times(2_000, () => frame(frameTypes.data, 0, 1, Buffer.from("x")));
    peer.write(openPost);
    await flood(
      peer,
      repeat(100, () => tiny),
    );
    peer.write(ping);
    await peer.next(frameTypes.ping);
    const { heapUsed, external } = process.memoryUsage();
    expect(heapUsed + external - before.heapUsed - before.external).toBeLessThan(48 * mebibyte);
    await expectOthersServed();
  });
});

test("honest clients are never cut off: pings to measure, cancelled calls, long streams of small messages", async () => {
  const held = new Set<DownstreamStream>();
  onRequest = (stream) => {
    stream.respond({ status: 200, headers: new Headers() }, false);
    stream.read({ ...ignored, data: (chunk) => void stream.write(chunk) });
    held.add(stream);
  };
  const peer = await dial();
  peer.write(openPost);
  for (let round = 0; round < 100; round++) {
    // For each message a ping and a window, as gRPC does.
    const message = Buffer.concat([
      frame(frameTypes.data, 0, 1, Buffer.from("message")),
      ping,
      frame(frameTypes.windowUpdate, 0, 0, uint32(7)),
      frame(frameTypes.windowUpdate, 0, 1, uint32(7)),
    ]);
    peer.write(times(100, () => message));
    // Calls given up, eighty a second.
    peer.write(times(8, (at) => Buffer.concat([request(ids(round, 8)(at) + 2), reset(ids(round, 8)(at) + 2)])));
    await until(() => peer.of(frameTypes.ping).length === 100 * (round + 1), "the pings are answered");
    await clock.advance(100);
  }
  expect(peer.dataOf(1).length).toBe(70_000);
  expect(peer.of(frameTypes.goaway)).toEqual([]);
});
