/**
 * HTTP/2 as nobody honest speaks it: raw frames over real TLS, each flood alone, against a server that answers every
 * CONNECT. Whatever comes, memory stays bounded, the flooding client is the one that suffers, and the next one is served.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectRawTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import {
  connectLoopback,
  endingOf,
  listenLoopback,
  socketPair,
  until,
  type LoopbackServer,
} from "#shared/testing/loopback.ts";
import { TestCa, type IssueOptions } from "#shared/testing/test-ca.ts";
import { connectTls } from "#shared/tls/tls-client.ts";
import { acceptConnect, HboneServer, type IncomingConnect } from "./hbone-server.ts";
import { maxServerStreams, windowSizesDefault } from "./http2-settings.ts";
import { relay } from "./relay.ts";

const account = (serviceAccount: string) =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });
const mebibyte = 1024 * 1024;
const loopback = parseIp("127.0.0.1");
const ca = await TestCa.create();
const clientCertificate = await ca.issue(account("client"));
const serverCertificate = await ca.issue(account("server"));

let hbone: HboneServer;
let listener: LoopbackServer;
let refused: string[] = [];
/** Every stream that the server was asked for in this test, read or not. */
let asked: IncomingConnect[] = [];
let sockets: Socket[] = [];
let onConnect: (connect: IncomingConnect) => void;
const uncaught: unknown[] = [];
const onUncaught = (error: unknown) => void uncaught.push(error);

beforeAll(async () => {
  process.on("uncaughtExceptionMonitor", onUncaught);
  hbone = new HboneServer({
    clock: new FakeClock(), // what is allowed per second is used up, however slow the machine
    windows: windowSizesDefault,
    certificate: () => serverCertificate,
    onConnect: (connect) => {
      connect.stream.on("error", () => {});
      asked.push(connect);
      onConnect(connect);
    },
    onRefused: (_ends, why) => refused.push(why),
  });
  listener = await listenLoopback((socket) =>
    hbone.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await until(() => hbone.size === 0, "nothing is left");
});

beforeEach(() => {
  refused = [];
  asked = [];
  onConnect = ({ stream }) => {
    acceptConnect(stream, undefined);
    stream.resume();
  };
});

afterAll(async () => {
  hbone.close();
  await listener[Symbol.asyncDispose]();
  process.off("uncaughtExceptionMonitor", onUncaught);
});

const type = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  more: 9,
};
const endHeaders = 0x4;

function frame(kind: number, flags: number, stream: number, body: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(kind, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A length as HPACK writes it with 7 bits in the first byte (RFC 7541 §5.1). */
function hpackLength(length: number): Buffer {
  if (length < 127) return Buffer.from([length]);
  const bytes = [127];
  let rest = length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

const text = (value: string) => Buffer.concat([hpackLength(value.length), Buffer.from(value)]);
/** A field that is never indexed (§6.2.3), and one that enters the dynamic table (§6.2.1). */
const literal = (name: string, value: string) => Buffer.concat([Buffer.from([0x10]), text(name), text(value)]);
const remembered = (name: string, value: string) => Buffer.concat([Buffer.from([0x40]), text(name), text(value)]);
/** What entered the dynamic table last. */
const latest = Buffer.from([0x80 | 62]);

const connectFields = Buffer.concat([literal(":method", "CONNECT"), literal(":authority", "127.0.0.1:80")]);
const openStream = (stream: number, more: Uint8Array = Buffer.alloc(0)) =>
  frame(type.headers, endHeaders, stream, Buffer.concat([connectFields, more]));
const setting = (id: number, value: number) => Buffer.concat([Buffer.from([0, id]), uint32(value)]);
const hello = (settings: Uint8Array = Buffer.alloc(0)) =>
  Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(type.settings, 0, 0, settings)]);
const times = (count: number, one: (at: number) => Uint8Array) =>
  Buffer.concat(Array.from({ length: count }, (_, at) => one(at)));

async function dial(): Promise<TLSSocket> {
  const { socket } = await connectTls(connectTcp(listener.port, "127.0.0.1"), {
    certificate: clientCertificate,
    expected: [account("server")],
    clock: systemClock,
  });
  return socket.on("error", () => {});
}

/** Writes until told to stop or cut off; a client that reads nothing stops being read itself, so waits are short. */
async function flood(socket: TLSSocket, chunks: Iterable<Uint8Array>): Promise<void> {
  for (const chunk of chunks) {
    if (!socket.writable) return;
    if (!socket.write(chunk)) {
      await new Promise<void>((resolve) => {
        const patience = setTimeout(resolve, 100);
        socket.once("drain", () => {
          clearTimeout(patience);
          resolve();
        });
      });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function* repeat(count: number, chunk: (round: number) => Uint8Array): Generator<Uint8Array> {
  for (let round = 0; round < count; round++) yield chunk(round);
}

/** A whole CONNECT of somebody else, with an answer. */
async function expectServed(): Promise<void> {
  const honest = await dial();
  const session = connectHttp2("https://x", { createConnection: () => honest });
  session.on("error", () => {});
  const stream = session.request({ ":method": "CONNECT", ":authority": "127.0.0.1:80" });
  const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
  expect(headers[":status"]).toBe(200);
  session.destroy();
}

/** What the process holds in all, since nghttp2's memory is not in V8's heap. */
const residentBytes = () => process.memoryUsage().rss;

interface Attack {
  readonly settings?: Uint8Array;
  readonly chunks: () => Iterable<Uint8Array>;
  /** The client does not even read what comes back. */
  readonly deaf?: boolean;
  /** The server's application does not read what the client sends. */
  readonly isUnread?: boolean;
  /** The server's application is not connected yet. */
  readonly isUnanswered?: boolean;
}

const bigField = remembered("x-bomb", "b".repeat(3_900));
const endlessContinuation = frame(type.more, 0, 1, literal("x", "y".repeat(10_000)));

// prettier-ignore
const cutOff: Readonly<Record<string, Attack>> = {
  "CONTINUATION without end":                 { chunks: () => [frame(type.headers, 0, 1, connectFields), ...repeat(400, () => times(20, () => endlessContinuation))] },
  "empty CONTINUATION without end":           { chunks: () => [frame(type.headers, 0, 1, connectFields), ...repeat(400, () => times(2_000, () => frame(type.more, 0, 1)))] },
  "resets of streams just opened":            { isUnanswered: true, chunks: () => repeat(400, (round) => times(100, (at) => Buffer.concat([openStream(200 * round + 2 * at + 1), frame(type.reset, 0, 200 * round + 2 * at + 1, uint32(8))]))) },
  "streams that violate the protocol":        { chunks: () => repeat(400, (round) => times(50, (at) => Buffer.concat([openStream(100 * round + 2 * at + 1), frame(type.window, 0, 100 * round + 2 * at + 1, uint32(0))]))) },
  "streams beyond the limit":                 { chunks: () => repeat(400, (round) => times(50, (at) => openStream(100 * round + 2 * at + 1))) },
  "PINGs, answers unread":                    { deaf: true, chunks: () => repeat(400, () => times(10_000, () => frame(type.ping, 0, 0, Buffer.alloc(8)))) },
  "SETTINGS, answers unread":                 { deaf: true, chunks: () => repeat(400, () => times(10_000, () => frame(type.settings, 0, 0))) },
  "empty DATA":                               { chunks: () => [openStream(1), ...repeat(400, () => times(2_000, () => frame(type.data, 0, 1)))] },
  "padded DATA that carries nothing":         { chunks: () => [openStream(1), ...repeat(400, () => times(2_000, () => frame(type.data, 0x8, 1, Buffer.from([0]))))] },
  "a window past 2^31":                       { chunks: () => [frame(type.window, 0, 0, uint32(0x7fff_ffff))] },
  "an initial window past 2^31":              { settings: setting(4, 0xffff_ffff), chunks: () => [] },
  "a frame longer than announced":            { chunks: () => [openStream(1), frame(type.data, 0, 1, Buffer.alloc(mebibyte + 1))] },
  "DATA past the window":                     { isUnread: true, chunks: () => [openStream(1), ...repeat(40, () => frame(type.data, 0, 1, Buffer.alloc(mebibyte)))] },
  "DATA on no stream":                        { chunks: () => [frame(type.data, 0, 0, Buffer.alloc(10))] },
  "a stream of the server's own":             { chunks: () => [openStream(2)] },
  "a push":                                   { chunks: () => [frame(type.push, endHeaders, 1, Buffer.concat([uint32(2), connectFields]))] },
  "a field from outside the HPACK table":     { chunks: () => [frame(type.headers, endHeaders, 1, Buffer.from([0xff, 0xff, 0x03]))] },
  "an HPACK table past what is allowed":      { chunks: () => [frame(type.headers, endHeaders, 1, Buffer.concat([Buffer.from([0x3f, 0xe1, 0xff, 0x03]), connectFields]))] },
  "a PING of seven bytes":                    { chunks: () => [frame(type.ping, 0, 0, Buffer.alloc(7))] },
  "SETTINGS of five bytes":                   { chunks: () => [frame(type.settings, 0, 0, Buffer.alloc(5))] },
  "a stream that depends on itself":          { chunks: () => repeat(400, () => times(500, () => frame(type.priority, 0, 1, Buffer.concat([uint32(1), Buffer.alloc(4)])))) },
};

describe("a client with a good certificate is cut off for", () => {
  test.each(Object.entries(cutOff))("%s", async (_what, { settings, chunks, deaf, isUnread, isUnanswered }) => {
    const answerAtOnce = onConnect;
    if (isUnanswered === true) onConnect = () => {};
    if (isUnread === true) onConnect = ({ stream }) => void acceptConnect(stream, undefined);
    const before = residentBytes();
    const socket = await dial();
    sockets.push(socket);
    if (deaf === true) socket.pause();
    else socket.resume();
    socket.write(hello(settings));
    await flood(socket, chunks());
    await until(() => hbone.size === 0, "the server let go of it");
    expect(residentBytes() - before).toBeLessThan(128 * mebibyte);
    onConnect = answerAtOnce;
    await expectServed();
  });
});

// prettier-ignore
const borne: Readonly<Record<string, Attack>> = {
  "header lists that unpack a thousandfold":  { chunks: () => [openStream(1, bigField), ...repeat(20, (round) => times(20, (at) => openStream(40 * round + 2 * at + 3, times(1_000, () => latest))))] },
  "too many header fields":                   { chunks: () => repeat(50, (round) => openStream(2 * round + 1, times(100, () => literal("x", "y")))) },
  "PRIORITY for streams that never come":     { chunks: () => repeat(100, (round) => times(1_000, (at) => frame(type.priority, 0, 2 * (1_000 * round + at) + 1, Buffer.concat([uint32(0), Buffer.from([15])])))) },
  "frames of no known kind":                  { chunks: () => repeat(100, (round) => times(100, () => frame(0xf0, 0xff, round, Buffer.alloc(1_000)))) },
  "settings of no known kind":                { chunks: () => repeat(100, () => frame(type.settings, 0, 0, times(1_000, () => setting(0xff, 1)))) },
  "windows of many streams resized":          { chunks: () => [times(190, (at) => openStream(2 * at + 1)), ...repeat(100, (round) => times(20, () => frame(type.settings, 0, 0, setting(4, 65_535 + round))))] },
  "PINGs, answers read":                      { chunks: () => repeat(100, () => times(500, () => frame(type.ping, 0, 0, Buffer.alloc(8)))) },
  "a CONNECT of which half is sent":          { chunks: () => [openStream(1).subarray(0, 20)] },
  "half a frame's head":                      { chunks: () => [frame(type.data, 0, 1).subarray(0, 4)] },
  "half a preface":                           { chunks: () => [] },
};

describe("others are served, and memory is bounded, with a client that sends", () => {
  test.each(Object.entries(borne))("%s", async (what, { chunks }) => {
    const before = residentBytes();
    const socket = await dial();
    sockets.push(socket);
    socket.resume();
    socket.write(what === "half a preface" ? hello().subarray(0, 10) : hello());
    await flood(socket, chunks());
    await expectServed();
    expect(residentBytes() - before).toBeLessThan(128 * mebibyte);
    expect(asked.every(({ authority }) => authority === "127.0.0.1:80")).toBe(true);
  });
});

test("a client may open as many streams as announced and leave them unused; the next is refused alone", async () => {
  const socket = await dial();
  sockets.push(socket);
  const received: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => received.push(chunk));
  socket.write(Buffer.concat([hello(), times(maxServerStreams + 1, (at) => openStream(2 * at + 1))]));
  const refusal = frame(type.reset, 0, 2 * maxServerStreams + 1, uint32(constants.NGHTTP2_REFUSED_STREAM));
  await until(() => Buffer.concat(received).includes(refusal), "the last is refused");
  expect(asked).toHaveLength(maxServerStreams);
  expect(asked.every(({ stream }) => !stream.destroyed)).toBe(true);
  await expectServed();
});

test("an answer without end waits in the application, not with us, while the client's window is shut", async () => {
  let produced = 0;
  const chunk = Buffer.alloc(65_536);
  const [application, far] = await socketPair();
  sockets.push(application, far);
  const produce = () => {
    while (!far.destroyed && far.write(chunk)) produced += chunk.length;
  };
  far.on("drain", produce);
  onConnect = ({ stream }) => {
    acceptConnect(stream, undefined);
    relay({ downstream: stream, upstream: application }, { requestBytes() {}, responseBytes() {}, ended() {} });
    produce();
  };
  const socket = await dial();
  sockets.push(socket);
  socket.resume();
  socket.write(Buffer.concat([hello(setting(4, 0)), openStream(1)]));
  await until(() => application.isPaused(), "the relay stops reading");
  await expectStill(() => produced);
  expect(asked[0]?.stream.writableLength).toBeLessThan(2 * mebibyte);
  // A window opened byte by byte moves no more than that.
  socket.write(times(1_000, () => frame(type.window, 0, 1, uint32(1))));
  await expectServed();
  expect(asked[0]?.stream.writableLength).toBeLessThan(2 * mebibyte);
});

/** No change over many turns of the event loop. */
async function expectStill(value: () => number): Promise<void> {
  await until(() => value() > 0, "something moved");
  let before = -1;
  while (before !== value()) {
    before = value();
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("what is no handshake of the mesh's is refused, and says why in bounded words", () => {
  const record = (kind: number, body: Uint8Array, length = body.length) =>
    Buffer.concat([Buffer.from([kind, 3, 1, length >> 8, length & 0xff]), body]);
  const clientHello = (body: Uint8Array) =>
    record(22, Buffer.concat([Buffer.from([1, 0, body.length >> 8, body.length & 0xff]), body]));

  // prettier-ignore
  test.each<readonly [string, Buffer]>([
    ["plain HTTP/1.1",                      Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["HTTP/2 without TLS",                  hello()],
    ["zeros",                               Buffer.alloc(4_096)],
    ["an SSLv2 hello",                      Buffer.from([0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, ...Buffer.alloc(37)])],
    ["a record longer than TLS allows",     record(22, Buffer.alloc(20_000), 0xffff)],
    ["empty records without end",           Buffer.concat(Array.from({ length: 10_000 }, () => record(22, Buffer.alloc(0))))],
    ["alerts without end",                  Buffer.concat(Array.from({ length: 10_000 }, () => record(21, Buffer.from([1, 90]))))],
    ["application data at once",            record(23, Buffer.alloc(100))],
    ["a ClientHello of nothing",            clientHello(Buffer.alloc(0))],
    ["a ClientHello of 0xff",               clientHello(Buffer.alloc(500, 0xff))],
    ["a hello that announces 16 MiB",       record(22, Buffer.concat([Buffer.from([1, 0xff, 0xff, 0xff]), Buffer.alloc(16_000)]))],
  ])("%s", async (_what, bytes) => {
    const socket = await connectLoopback(listener.port);
    sockets.push(socket);
    socket.write(bytes);
    await endingOf(socket);
    expect(refused).toHaveLength(1);
    expect(refused[0]?.length).toBeLessThan(500);
    expect(asked).toEqual([]);
    await expectServed();
  });

  /** A client of the test's own making, which does not care who we are. */
  async function expectRefused(options: ConnectionOptions): Promise<string> {
    const socket = connectRawTls({
      port: listener.port,
      host: "127.0.0.1",
      rejectUnauthorized: false,
      ALPNProtocols: ["h2"],
      ...options,
    });
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("secureConnect", () => socket.write(Buffer.concat([hello(), openStream(1)])));
    socket.resume();
    await until(() => refused.length > 0, "the handshake is refused");
    await until(() => socket.destroyed, "the socket is gone");
    expect(asked).toEqual([]);
    expect(refused[0]?.length).toBeLessThan(1_000);
    return refused.join();
  }
  const of = ({ chainPem, keyPem }: WorkloadCertificate) => ({ cert: chainPem, key: keyPem });

  test("no certificate", async () => {
    expect(await expectRefused({})).toMatch(/certificate/i);
  });

  test("TLS 1.2", async () => {
    expect(await expectRefused({ ...of(clientCertificate), maxVersion: "TLSv1.2" })).toMatch(/version|protocol/i);
  });

  test("another protocol inside", async () => {
    await expectRefused({ ...of(clientCertificate), ALPNProtocols: ["http/1.1"] });
  });

  test("a certificate of an authority that is not ours", async () => {
    const strange = await (await TestCa.create("Test Root")).issue(account("client"));
    expect(await expectRefused(of(strange))).toMatch(/verify/i);
  });

  test("a certificate that has ended, and one that has not begun", async () => {
    const hourMs = 3_600_000;
    await expectRefused(
      of(await ca.issue(account("client"), { notBeforeMs: Date.now() - 3 * hourMs, notAfterMs: Date.now() - hourMs })),
    );
    refused = [];
    await expectRefused(
      of(await ca.issue(account("client"), { notBeforeMs: Date.now() + hourMs, notAfterMs: Date.now() + 2 * hourMs })),
    );
  });

  test("a certificate for servers only", async () => {
    await expectRefused(of(await ca.issue(account("client"), { usage: ["server"] })));
  });

  test("a chain of 120 authorities", async () => {
    await expectRefused(of(await ca.issue(account("client"), { intermediates: 120 })));
  });

  // prettier-ignore
  test.each<readonly [string, IssueOptions]>([
    ["a thousand strangers' names",       { uris: Array.from({ length: 1_000 }, (_, at) => `spiffe://elsewhere/ns/shop/sa/a${at}`) }],
    ["our name as a DNS name",            { uris: [], dnsNames: ["spiffe://cluster.local/ns/shop/sa/admin", "URI:spiffe://cluster.local/ns/shop/sa/admin"] }],
    ["our name behind a comma",           { uris: ["https://x, URI:spiffe://cluster.local/ns/shop/sa/admin"] }],
    ["our name with more behind",         { uris: ["spiffe://cluster.local/ns/shop/sa/admin/"] }],
    ["our name after a zero",             { uris: ["spiffe://elsewhere\0spiffe://cluster.local/ns/shop/sa/admin"] }],
    ["our trust domain with a user",      { uris: ["spiffe://cluster.local@elsewhere/ns/shop/sa/admin"] }],
    ["our trust domain with a port",      { uris: ["spiffe://cluster.local:80/ns/shop/sa/admin"] }],
    ["our trust domain in capitals",      { uris: ["SPIFFE://CLUSTER.LOCAL/ns/shop/sa/admin"] }],
    ["a path that climbs",                { uris: ["spiffe://cluster.local/ns/shop/../sa/admin"] }],
    ["a long name",                       { uris: [`spiffe://elsewhere/ns/${"n".repeat(30_000)}/sa/admin`] }],
    ["no name",                           { uris: [] }],
  ])("a certificate of our authority with %s", async (_what, options) => {
    await expectRefused(of(await ca.issue(account("client"), options)));
  });
});

test("nothing was thrown where nobody catches", () => expect(uncaught).toEqual([]));
