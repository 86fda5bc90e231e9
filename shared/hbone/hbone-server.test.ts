import { once } from "node:events";
import { connect as connectHttp2, constants, type ClientHttp2Session } from "node:http2";
import { connect as connectTcp } from "node:net";
import type { TLSSocket } from "node:tls";
import { describe, expect, test } from "@jest/globals";
import { systemClock, type Clock } from "#shared/clock/clock.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { connectLoopback, endingOf, listenLoopback, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { connectTls } from "#shared/tls/tls-client.ts";
import { acceptConnect, HboneServer, maxHandshakes, type IncomingConnect } from "./hbone-server.ts";
import { windowSizesDefault as windows } from "./http2-settings.ts";

const account = (serviceAccount: string) =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });
const ca = await TestCa.create();
const clientCertificate = await ca.issue(account("client"));
const serverCertificate = await ca.issue(account("server"));
const loopback = parseIp("127.0.0.1");

interface ServerOptions {
  readonly clock?: Clock;
  readonly handshakeMs?: number;
  readonly onConnect?: (connect: IncomingConnect) => void;
}

async function openServer({ clock = systemClock, onConnect, handshakeMs }: ServerOptions = {}) {
  const refused: string[] = [];
  let closed = 0;
  const hbone = new HboneServer({
    clock,
    windows,
    certificate: () => serverCertificate,
    onConnect: (connect) => {
      connect.stream.on("error", () => {});
      onConnect?.(connect);
    },
    onRefused: (_ends, why) => refused.push(why),
    onClosed: () => closed++,
    ...(handshakeMs !== undefined && { handshakeMs }),
  });
  const listener = await listenLoopback((socket) =>
    hbone.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
  return {
    hbone,
    refused,
    port: listener.port,
    get closed() {
      return closed;
    },
    [Symbol.asyncDispose]: async () => {
      hbone.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

async function dialTls(port: number): Promise<TLSSocket> {
  const options = { certificate: clientCertificate, expected: [account("server")], clock: systemClock };
  const { socket } = await connectTls(connectTcp(port, "127.0.0.1"), options);
  socket.on("error", () => {});
  return socket;
}

async function dialHttp2(port: number): Promise<ClientHttp2Session> {
  const socket = await dialTls(port);
  const session = connectHttp2("https://x", { createConnection: () => socket });
  session.on("error", () => {});
  await once(session, "remoteSettings");
  return session;
}

describe("a server of tunnels", () => {
  test("announces the windows and limits of Istio's", async () => {
    await using server = await openServer();
    const session = await dialHttp2(server.port);
    await until(() => session.state.remoteWindowSize === 16_777_216, "the connection's window is open");
    expect(session.remoteSettings).toMatchObject({
      initialWindowSize: 4_194_304,
      maxFrameSize: 1_048_576,
      maxHeaderListSize: 65_536,
      maxConcurrentStreams: 200,
    });
    session.destroy();
  });

  test("drops a client that says nothing, before it costs any TLS state", async () => {
    const clock = new FakeClock();
    await using server = await openServer({ clock });
    const socket = await connectLoopback(server.port);
    await until(() => server.hbone.size === 1, "accepted");
    const ending = endingOf(socket);
    await clock.advance(10_000);
    await ending;
    expect(server.refused).toEqual(["the client sent nothing within 10000 ms"]);
    await until(() => server.closed === 1, "closed");
    socket.destroy();
  });

  test("drops a client that begins a handshake and does not go on", async () => {
    // Only the handshake has this deadline: until it begins, the clock counts, which stands still.
    await using server = await openServer({ handshakeMs: 50, clock: new FakeClock() });
    const socket = await connectLoopback(server.port);
    socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]));
    await endingOf(socket);
    expect(server.refused).toEqual([expect.stringMatching(/timeout/i)]);
    socket.destroy();
  });

  test("drops the slowest handshake when there are too many, and still serves the honest", async () => {
    await using server = await openServer({ handshakeMs: 3_600_000 });
    const sockets = await Promise.all(Array.from({ length: maxHandshakes + 10 }, () => connectLoopback(server.port)));
    for (const socket of sockets) socket.resume().write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]));
    await until(() => server.refused.length === 10, "ten made room");
    const honest = await dialTls(server.port);
    expect(server.refused).toHaveLength(11);
    for (const socket of [...sockets, honest]) socket.destroy();
  });

  test("turns away a client that never asks for anything", async () => {
    const clock = new FakeClock();
    await using server = await openServer({ clock });
    const session = await dialHttp2(server.port);
    const gone = once(session, "close");
    for (let passedMs = 10_000; passedMs < 120_000; passedMs += 10_000) {
      await clock.advance(10_000);
      // The server has pinged, and here is the answer.
      for (let trip = 0; trip < 2; trip++) await new Promise((resolve) => session.ping(resolve));
    }
    expect([session.closed, server.hbone.size]).toEqual([false, 1]);
    await clock.advance(10_000);
    await gone;
    await until(() => server.hbone.size === 0, "the server let go");
  });

  test("gives up on a client that answers no pings", async () => {
    const clock = new FakeClock();
    await using server = await openServer({ clock });
    const socket = await dialTls(server.port);
    // The preface and SETTINGS of a client that never says anything again.
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const gone = endingOf(socket);
    const heard = collect(socket);
    await until(() => heard().length > 0, "the server speaks HTTP/2");
    expect(server.hbone.size).toBe(1);
    await clock.advance(30_000);
    await gone;
    await until(() => server.hbone.size === 0, "the server let go");
  });

  // prettier-ignore
  test.each<readonly [string, string, Record<string, string>]>([
    ["a path",                  "CONNECT",  { ":authority": "a:1", ":path": "/", ":scheme": "https" }],
    ["no authority",            "CONNECT",  {}],
  ])("never sees a CONNECT with %s", async (_what, method, headers) => {
    const seen: IncomingConnect[] = [];
    await using server = await openServer({ onConnect: (connect) => seen.push(connect) });
    const socket = await dialTls(server.port);
    const heard = collect(socket);
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.write(headersFrame({ ":method": method, ...headers }));
    await until(() => heard().includes(Buffer.from([0, 0, 4, 3, 0, 0, 0, 0, 1])), "the stream is reset");
    expect(seen).toEqual([]);
    socket.destroy();
  });

  test("what a client asked for before it can know of a drain is served, and only then comes the goodbye", async () => {
    await using server = await openServer({
      clock: new FakeClock(), // which gives the client all the time to answer
      onConnect: ({ stream }) => void acceptConnect(stream, undefined),
    });
    const session = await dialHttp2(server.port);
    const stream = session.request({ ":method": "CONNECT", ":authority": "a:1" });
    const answered = once(stream, "response");
    const goodbye = once(session, "goaway");
    const told = server.hbone.drain(); // the request has not arrived yet
    expect((await answered)[0]).toMatchObject({ ":status": 200 });
    await told;
    expect((await goodbye)[0]).toBe(constants.NGHTTP2_NO_ERROR);
    session.destroy();
  });

  test("a client that answers no ping is told goodbye all the same", async () => {
    const clock = new FakeClock();
    await using server = await openServer({ clock });
    const socket = await dialTls(server.port);
    const heard = collect(socket);
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    await until(() => heard().length > 0, "the server speaks HTTP/2");
    let isTold = false;
    void server.hbone.drain().then(() => (isTold = true));
    await clock.advance(499);
    expect(isTold).toBe(false);
    await clock.advance(1);
    const goodbye = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0]);
    await until(() => isTold && heard().includes(goodbye), "the goodbye");
    socket.destroy();
  });

  test("bounds rapid resets: a client that opens and resets without waiting for answers is sent away", async () => {
    let opened = 0;
    await using server = await openServer({
      clock: new FakeClock(), // however long the burst takes here
      onConnect: ({ stream }) => {
        opened++;
        setImmediate(() => acceptConnect(stream, undefined)); // an application is not connected at once
      },
    });
    const socket = await dialTls(server.port);
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const gone = endingOf(socket);
    for (let stream = 1; stream < 20_000 && !socket.destroyed; stream += 2) {
      socket.write(headersFrame({ ":method": "CONNECT", ":authority": "a:1" }, stream));
      socket.write(Buffer.from([0, 0, 4, 3, 0, stream >> 24, stream >> 16, stream >> 8, stream, 0, 0, 0, 8]));
      if (stream % 500 === 1) await new Promise((resolve) => setImmediate(resolve));
    }
    await gone;
    await until(() => server.hbone.size === 0, "the server let go");
    expect(opened).toBeGreaterThan(1_000); // a burst of short connections is nobody's attack
    expect(opened).toBeLessThan(9_000);
    expect(server.refused).toEqual(["the client resets streams faster than it can be served"]);
  });

  test("applications that end their connections by a reset, thousands in a row, do not cost the others theirs", async () => {
    await using server = await openServer({
      onConnect: ({ stream }) => {
        acceptConnect(stream, undefined);
        stream.pipe(stream);
      },
    });
    const session = await dialHttp2(server.port);
    const open = async () => {
      const stream = session.request({ ":method": "CONNECT", ":authority": "a:1" });
      stream.on("error", () => {});
      await once(stream, "response");
      return stream;
    };
    const other = await open();
    const oneAfterAnother = async () => {
      for (let count = 0; count < 150; count++) {
        const stream = await open();
        stream.close(constants.NGHTTP2_CANCEL);
        await once(stream, "close");
      }
    };
    await Promise.all(Array.from({ length: 40 }, oneAfterAnother));
    other.write("still here");
    expect(String((await once(other, "data"))[0])).toBe("still here");
    expect(server.refused).toEqual([]);
    session.destroy();
  });

  // prettier-ignore
  test.each<readonly [string, Buffer]>([
    ["PINGs",            Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])],
    ["SETTINGS",         Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])],
    ["empty DATA",       Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 1])],
  ])("survives a flood of %s from a client that reads nothing", async (_what, frame) => {
    let opened = 0;
    await using server = await openServer({
      onConnect: ({ stream }) => {
        opened++;
        acceptConnect(stream, undefined);
        stream.resume();
      },
    });
    const socket = await dialTls(server.port);
    socket.pause();
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    socket.write(headersFrame({ ":method": "CONNECT", ":authority": "a:1" }));
    const flood = Buffer.concat(Array.from({ length: 20_000 }, () => frame));
    for (let round = 0; round < 50 && !socket.destroyed; round++) {
      socket.write(flood);
      // Whoever reads nothing is not read for ever: the flood goes on all the same.
      const patientMs = performance.now() + 200;
      const isOver = () => socket.destroyed || server.hbone.size === 0;
      await until(() => isOver() || !socket.writableNeedDrain || performance.now() > patientMs, "room for more");
      if (isOver()) break;
    }
    await until(() => server.hbone.size === 0, "the flooding client is cut off");
    expect(opened).toBe(1);
    socket.destroy();
    const other = await dialHttp2(server.port);
    other.destroy();
  });
});

function collect(socket: TLSSocket): () => Buffer {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}

/** HEADERS with literal fields, never indexed (RFC 7541 §6.2.3): enough for a scripted client. */
function headersFrame(headers: Record<string, string>, stream = 1): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.concat([Buffer.from([0x10]), text(name), text(value)]),
  );
  const block = Buffer.concat(fields);
  const endHeaders = 0x4;
  const head = [0, block.length >> 8, block.length, 1, endHeaders, stream >> 24, stream >> 16, stream >> 8, stream];
  return Buffer.concat([Buffer.from(head), block]);
}
