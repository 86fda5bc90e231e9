/** HTTP inside of tunnels, as in the mesh: the pool's end and the server's end of HBONE, with our codecs on its streams. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { acceptConnect, HboneServer } from "#shared/hbone/hbone-server.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { listenLoopback, until, type LoopbackServer } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { http1ServerDefaults, Http1ServerConnection } from "#waypoint/http/http1-server.ts";
import { Http2ServerConnection } from "#waypoint/http/http2-server.ts";
import type { DownstreamStream } from "#waypoint/http/streams.ts";
import { Sweeper } from "#waypoint/http/sweeper.ts";
import { createConnector, type Connector } from "./connector.ts";
import { createHttpPool } from "./http-pool.ts";
import { poolLimitsDefault } from "./pool-options.ts";
import { Collected, hostAt, requestOf } from "./testing/collected.ts";

const account = (serviceAccount: string) =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });
const host = hostAt(80, "hbone");
const loopback = parseIp("127.0.0.1");
let hbone: HboneServer;
let listener: LoopbackServer;
let connector: Connector;
let protocol: "HTTP/1.1" | "HTTP/2";
/** Streams of tunnels that were opened. */
let tunnels = 0;

/** Gives every body back, with its length behind it. */
function serve(stream: DownstreamStream): void {
  stream.respond({ status: 200, headers: new Headers(["x-path", stream.request.path]) }, false);
  stream.read({
    data: (chunk) => {
      if (!stream.write(chunk)) stream.pause();
    },
    end: () => stream.end(),
    reset: () => {},
    drained: () => stream.resume(),
  });
}

beforeAll(async () => {
  const ca = await TestCa.create();
  const [pod, waypoint] = [await ca.issue(account("pod")), await ca.issue(account("waypoint"))];
  const sweeper = new Sweeper(systemClock);
  hbone = new HboneServer({
    clock: systemClock,
    windows: windowSizesDefault,
    certificate: () => pod,
    onConnect: ({ stream }) => {
      tunnels++;
      stream.on("error", () => {});
      acceptConnect(stream, undefined);
      const owner = { onRequest: serve };
      return protocol === "HTTP/2"
        ? new Http2ServerConnection(stream, owner, {}, systemClock)
        : new Http1ServerConnection(stream, owner, http1ServerDefaults, sweeper);
    },
    onRefused: () => {},
  });
  listener = await listenLoopback((socket) =>
    hbone.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
  connector = createConnector({
    clock: systemClock,
    certificate: () => waypoint,
    trustDomains: ["cluster.local"],
    hbonePort: listener.port,
  });
});

afterAll(async () => {
  connector[Symbol.dispose]();
  hbone.close();
  await listener[Symbol.asyncDispose]();
});

describe.each(["HTTP/1.1", "HTTP/2"] as const)("%s", (which) => {
  const poolOf = () => {
    protocol = which;
    tunnels = 0;
    return createHttpPool(connector, {
      name: "test",
      transport: { connectTimeoutMs: 5_000 },
      protocol: which,
      limits: poolLimitsDefault,
    });
  };

  test("requests share a tunnel's stream", async () => {
    using pool = poolOf();
    for (const path of ["/a", "/b", "/c"]) {
      const reader = new Collected();
      pool.send(host, requestOf(path), true, reader, { downstreamProtocol: "HTTP/1.1" });
      expect((await reader.done()).response?.headers.get("x-path")).toBe(path);
    }
    expect(tunnels).toBe(1);
  });

  test("a large body both ways", async () => {
    using pool = poolOf();
    const reader = new Collected();
    const head = requestOf("/", { method: "POST" });
    const stream = pool.send(host, head, false, reader, { downstreamProtocol: "HTTP/1.1" });
    const piece = Buffer.alloc(100_000, 97);
    let left = 100;
    reader.drained = () => {
      while (left > 0) {
        left--;
        if (!stream.write(piece)) return;
      }
      stream.end();
    };
    reader.drained();
    await reader.done();
    expect(reader.text.length).toBe(10_000_000);
  });

  test("a tunnel that breaks is noticed, and another made", async () => {
    using pool = poolOf();
    const ask = () => {
      const reader = new Collected();
      const head = requestOf("/", { method: "POST" });
      const stream = pool.send(host, head, false, reader, { downstreamProtocol: "HTTP/1.1" });
      return { reader, stream };
    };
    const first = ask();
    first.stream.write(Buffer.from("x"));
    await until(() => first.reader.text === "x", "an echo");
    for (const socket of listener.sockets) socket.resetAndDestroy();
    expect(await first.reader.resetReason()).toBe("connection-termination");
    await until(() => pool.counts.connections === 0, "nothing is left");
    const second = ask();
    second.stream.end();
    expect((await second.reader.done()).response?.status).toBe(200);
  });
});
