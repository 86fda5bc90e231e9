import { once } from "node:events";
import { constants, performServerHandshake, type ServerHttp2Session } from "node:http2";
import { connect as connectTcp } from "node:net";
import { describe, expect, test } from "@jest/globals";
import type { Clock } from "#shared/clock/clock.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { listenLoopback, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { TlsServer } from "#shared/tls/tls-server.ts";
import { HboneConnection, type Tunnel } from "./hbone-client.ts";
import { HbonePool, type TunnelKey } from "./hbone-pool.ts";
import { acceptConnect, HboneServer, refuseConnect, type IncomingConnect } from "./hbone-server.ts";
import { windowSizesDefault as windows } from "./http2-settings.ts";

const account = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });
const ca = await TestCa.create();
const client = await ca.issue(account("client"));
const server = await ca.issue(account("server"));
const headers = { authority: "10.0.0.1:80", baggage: "", forwarded: 'for="10.0.0.9:1"', traceparent: "x" };
const loopback = parseIp("127.0.0.1");

interface PeerOptions {
  readonly clock?: Clock;
  readonly onConnect?: (connect: IncomingConnect) => void;
}

/** A peer that answers every CONNECT, and counts connections. */
async function openPeer({ clock = systemClock, onConnect }: PeerOptions = {}) {
  let connections = 0;
  const hbone = new HboneServer({
    clock,
    windows,
    certificate: () => server,
    onConnect: (connect) => {
      connect.stream.on("error", () => {});
      if (onConnect !== undefined) return onConnect(connect);
      connect.stream.on("end", () => connect.stream.end());
      connect.stream.resume();
      acceptConnect(connect.stream, undefined);
    },
    onRefused: () => {},
  });
  const listener = await listenLoopback((socket) => {
    connections++;
    hbone.accept(socket, {
      local: { ip: loopback, port: socket.localPort ?? 0 },
      peer: { ip: loopback, port: socket.remotePort ?? 0 },
    });
  });
  return {
    port: listener.port,
    hbone,
    listener,
    get connections() {
      return connections;
    },
    [Symbol.asyncDispose]: async () => {
      hbone.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

interface PoolOptions {
  readonly clock?: Clock;
  readonly maxStreams?: number;
  readonly maxConnections?: number;
  readonly idleMs?: number;
}

function openPool({ clock = systemClock, maxStreams = 100, ...more }: PoolOptions = {}): HbonePool {
  return new HbonePool({
    clock,
    maxStreams,
    ...more,
    dial: ({ address, expected }) => {
      const options = { certificate: client, expected, clock, windows, maxStreams };
      return HboneConnection.open(connectTcp(address.port, address.ip), options);
    },
  });
}

const keyOf = (port: number, more: Partial<TunnelKey> = {}): TunnelKey => ({
  source: account("client"),
  expected: [account("server")],
  address: { ip: loopback, port },
  sourceIp: parseIp("10.0.0.9"),
  ...more,
});

async function finish({ stream }: Tunnel): Promise<void> {
  stream.resume();
  stream.end();
  await once(stream, "close");
}

const openMany = (pool: HbonePool, key: TunnelKey, count: number): Promise<Tunnel[]> =>
  Promise.all(Array.from({ length: count }, () => pool.open(key, headers)));

describe("a pool of tunnels", () => {
  test("two streams at once, then two more, share one connection; closing the pool closes it", async () => {
    await using peer = await openPeer();
    const pool = openPool({ maxStreams: 3 });
    for (let round = 0; round < 2; round++) {
      const tunnels = await openMany(pool, keyOf(peer.port), 2);
      await Promise.all(tunnels.map(finish));
    }
    expect(peer.connections).toBe(1);
    pool.close();
    await until(() => peer.hbone.size === 0, "the peer's connection closed");
    await expect(pool.open(keyOf(peer.port), headers)).rejects.toMatchObject({ code: "HBONE_CONNECT_FAILED" });
  });

  test.each([
    ["nothing is open", true, constants.NGHTTP2_NO_ERROR],
    ["data is cut off", false, constants.NGHTTP2_INTERNAL_ERROR],
  ])("where %s, closing tells the peer so", async (_what, ends, code) => {
    const goodbyes: number[] = [];
    await using peer = await openPeer({
      onConnect: ({ stream }) => {
        stream.session?.once("goaway", (told) => goodbyes.push(told));
        stream.on("end", () => stream.end());
        stream.resume();
        acceptConnect(stream, undefined);
      },
    });
    const pool = openPool();
    const tunnel = await pool.open(keyOf(peer.port), headers);
    tunnel.stream.on("error", () => {});
    if (ends) await finish(tunnel);
    pool.close();
    await until(() => goodbyes.length > 0, "the peer is told");
    expect(goodbyes).toEqual([code]);
  });

  // prettier-ignore
  test.each<readonly [string, Partial<TunnelKey>]>([
    ["source identity",          { source: account("other") }],
    ["expected identities",      { expected: [account("server"), account("other")] }],
    ["order of the expected",    { expected: [account("x"), account("server")] }],
    ["source address",           { sourceIp: parseIp("10.0.0.10") }],
    ["destination address",      { address: { ip: parseIp("127.0.0.2"), port: 0 } }],
  ])("uses that differ in their %s do not share", async (_what, { address, ...difference }) => {
    await using peer = await openPeer();
    using pool = openPool();
    const first = keyOf(peer.port, { expected: [account("server"), account("x")] });
    await pool.open(first, headers);
    await pool.open({ ...first, ...difference, ...(address && { address: { ...address, port: peer.port } }) }, headers);
    expect(peer.connections).toBe(2);
  });

  test("past the limit of streams another connection is made; both are used again", async () => {
    await using peer = await openPeer();
    using pool = openPool({ maxStreams: 2 });
    const tunnels = await openMany(pool, keyOf(peer.port), 4);
    expect(peer.connections).toBe(2);
    await Promise.all(tunnels.map(finish));
    await openMany(pool, keyOf(peer.port), 5);
    expect(peer.connections).toBe(3);
  });

  test("a limit of one gives each use its own connection", async () => {
    await using peer = await openPeer();
    using pool = openPool({ maxStreams: 1 });
    await openMany(pool, keyOf(peer.port), 4);
    expect(peer.connections).toBe(4);
  });

  test("the peer's own limit counts where it is lower", async () => {
    await using peer = await openPeer();
    using pool = openPool({ maxStreams: 1_000 });
    await openMany(pool, keyOf(peer.port), 201);
    expect(peer.connections).toBe(2); // a server of ours allows 200
  });

  test.each<readonly [string, (session: ServerHttp2Session) => void, number]>([
    ["allows no stream at all", () => {}, 0],
    ["says goodbye at once", (session) => session.close(), 100],
  ])("a peer that %s is dialled once, and everybody who waits hears of it", async (_what, greet, maxStreams) => {
    let connections = 0;
    const tls = new TlsServer();
    await using listener = await listenLoopback((socket) => {
      connections++;
      tls.handshake(socket, server, {
        secured: (secure) => {
          const session = performServerHandshake(secure, { settings: { maxConcurrentStreams: maxStreams } });
          session.on("error", () => {});
          greet(session);
        },
        refused: () => {},
      });
    });
    using pool = openPool();
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => pool.open(keyOf(listener.port), headers)));
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: "rejected" });
    expect(connections).toBeLessThan(4);
    await until(() => pool.size === 0, "the pool is empty");
  });

  test("a peer that says goodbye and does not hang up is cut off", async () => {
    const clock = new FakeClock();
    const tls = new TlsServer();
    await using listener = await listenLoopback((socket) => {
      tls.handshake(socket, server, {
        secured: (secure) =>
          performServerHandshake(secure)
            .on("error", () => {})
            .goaway(),
        refused: () => {},
      });
    });
    using pool = openPool({ clock });
    await expect(pool.open(keyOf(listener.port), headers)).rejects.toMatchObject({ code: "HBONE_PROTOCOL" });
    await until(() => {
      void clock.advance(10_000);
      return pool.size === 0;
    }, "the connection is given up");
  });

  test("100 at once on one connection; 300 over three sources on three", async () => {
    await using peer = await openPeer();
    using pool = openPool();
    await openMany(pool, keyOf(peer.port), 100);
    expect(peer.connections).toBe(1);
    const sources = ["10.0.1.1", "10.0.1.2", "10.0.1.3"].map(parseIp);
    await Promise.all(sources.map((sourceIp) => openMany(pool, keyOf(peer.port, { sourceIp }), 100)));
    expect(peer.connections).toBe(4);
  });

  test("everybody who waits for a connection gets its error, and the next use tries again", async () => {
    await using peer = await openPeer();
    using pool = openPool();
    const wrong = keyOf(peer.port, { expected: [account("somebody")] });
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => pool.open(wrong, headers)));
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(peer.connections).toBe(1);
    await expect(pool.open(wrong, headers)).rejects.toMatchObject({ code: "PEER_UNVERIFIED" });
    expect(peer.connections).toBe(2);
    expect(pool.size).toBe(0);
  });

  test.each([
    ["once", 1, true],
    ["twice", 2, false],
  ])("a peer that hangs up %s during the handshake, as one that is replaced does", async (_often, often, isServed) => {
    await using peer = await openPeer();
    let hungUp = 0;
    await using door = await listenLoopback((socket) => {
      if (hungUp++ < often) socket.once("data", () => socket.resetAndDestroy());
      else {
        const inside = connectTcp(peer.port, "127.0.0.1");
        socket.pipe(inside).pipe(socket);
        inside.on("error", () => {});
      }
      socket.on("error", () => {});
    });
    using pool = openPool();
    const uses = await Promise.allSettled([pool.open(keyOf(door.port), headers), pool.open(keyOf(door.port), headers)]);
    expect(uses.map(({ status }) => status === "fulfilled")).toEqual([isServed, isServed]);
    expect(hungUp).toBe(2);
  });

  test("after GOAWAY the next use opens a new connection, and open streams go on", async () => {
    await using peer = await openPeer({
      onConnect: ({ stream }) => {
        acceptConnect(stream, undefined);
        stream.on("data", (chunk: Buffer) => void stream.write(chunk));
      },
    });
    using pool = openPool();
    const before = await pool.open(keyOf(peer.port), headers);
    void peer.hbone.drain();
    await once(before.stream.session!, "goaway");
    before.stream.write("still there");
    expect(String((await once(before.stream, "data"))[0])).toBe("still there");
    await pool.open(keyOf(peer.port), headers);
    expect(peer.connections).toBe(2);
  });

  test("idle connections close after their time; one with a stream stays until it ends", async () => {
    const clock = new FakeClock();
    await using peer = await openPeer();
    using pool = openPool({ clock, maxStreams: 1, idleMs: 5_000 });
    const lasting = await pool.open(keyOf(peer.port), headers);
    await finish(await pool.open(keyOf(peer.port), headers));
    expect(pool.size).toBe(2);
    await clock.advance(4_999);
    expect(pool.size).toBe(2);
    await clock.advance(1);
    expect(pool.size).toBe(1);
    await until(() => peer.hbone.size === 1, "the idle one closed at the peer too");
    expect(lasting.stream.closed).toBe(false);
    await finish(lasting);
    await clock.advance(5_000);
    expect(pool.size).toBe(0);
    await until(() => peer.hbone.size === 0, "the last one closed");
  });

  test("holds no more connections than its bound, and drops the longest unused", async () => {
    await using peer = await openPeer();
    using pool = openPool({ maxConnections: 2 });
    const keys = ["10.0.2.1", "10.0.2.2", "10.0.2.3"].map((ip) => keyOf(peer.port, { sourceIp: parseIp(ip) }));
    await finish(await pool.open(keys[0]!, headers));
    await finish(await pool.open(keys[1]!, headers));
    await finish(await pool.open(keys[0]!, headers)); // now the second is the oldest
    await finish(await pool.open(keys[2]!, headers));
    expect(pool.size).toBe(2);
    await finish(await pool.open(keys[0]!, headers));
    expect(peer.connections).toBe(3);
    await finish(await pool.open(keys[1]!, headers));
    expect(peer.connections).toBe(4);
  });

  test("a peer that answers no pings is given up after 30 s, with all its streams", async () => {
    const clock = new FakeClock();
    await using peer = await openPeer();
    using pool = openPool({ clock });
    const { stream } = await pool.open(keyOf(peer.port), headers);
    const failed = once(stream, "error");
    for (const socket of peer.listener.sockets) socket.pause();
    await clock.advance(10_000);
    // A live peer has answered by now; this one is stopped below TLS.
    stream.session!.ping = () => true;
    await clock.advance(40_000);
    expect(stream.destroyed || (await failed).length > 0).toBe(true);
  });
});

describe("a CONNECT", () => {
  // prettier-ignore
  test.each([
    [400, "400 Bad Request"],
    [401, "401 Unauthorized"],
    [503, "503 Service Unavailable"],
  ] as const)("answered with %d fails and names the status", async (status, said) => {
    await using peer = await openPeer({ onConnect: ({ stream }) => refuseConnect(stream, status) });
    using pool = openPool();
    await expect(pool.open(keyOf(peer.port), headers)).rejects.toMatchObject({
      code: "HBONE_REFUSED",
      message: expect.stringContaining(`http status: ${said}`) as unknown,
    });
  });

  test("carries exactly Istio's headers and reads the answer's baggage", async () => {
    let seen: IncomingConnect | undefined;
    await using peer = await openPeer({
      onConnect: (connect) => {
        seen = connect;
        acceptConnect(connect.stream, "service.name=cart");
      },
    });
    using pool = openPool();
    const tunnel = await pool.open(keyOf(peer.port), { ...headers, baggage: "service.name=web" });
    expect(tunnel.baggage).toEqual(["service.name=cart"]);
    expect(tunnel.identity).toBe(account("server"));
    expect(seen).toMatchObject({ method: "CONNECT", authority: "10.0.0.1:80", forwardedNetwork: undefined });
    expect(seen?.tunnel.identity).toBe(account("client"));
    expect(seen?.baggage()).toEqual({ serviceName: "web" });
  });

  test("that the peer resets before answering is a protocol error", async () => {
    await using peer = await openPeer({ onConnect: ({ stream }) => stream.close(8) });
    using pool = openPool();
    await expect(pool.open(keyOf(peer.port), headers)).rejects.toMatchObject({ code: "HBONE_PROTOCOL" });
  });

  test("that is never answered fails after a minute", async () => {
    const clock = new FakeClock();
    const asked = Promise.withResolvers<IncomingConnect>();
    await using peer = await openPeer({ onConnect: asked.resolve });
    using pool = openPool({ clock });
    const opening = pool.open(keyOf(peer.port), headers);
    opening.catch(() => {});
    const { session } = (await asked.promise).stream;
    for (let minute = 0; minute < 60_000; minute += 10_000) {
      await clock.advance(10_000);
      // The peer lives: our ping has come, and so has its answer.
      for (let trip = 0; trip < 2; trip++) await new Promise((resolve) => session!.ping(resolve));
    }
    await expect(opening).rejects.toMatchObject({ message: expect.stringContaining("no answer within") });
  });
});
