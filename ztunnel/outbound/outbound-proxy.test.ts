import { once } from "node:events";
import { connect as connectTcp, Socket } from "node:net";
import { describe, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { acceptConnect, HboneServer, type IncomingConnect } from "#shared/hbone/hbone-server.ts";
import { windowSizesDefault as windows } from "#shared/hbone/http2-settings.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import { hostPort, type Ip } from "#shared/net/ip.ts";
import { connectLoopback, endingOf, listenLoopback, readAll, until } from "#shared/testing/loopback.ts";
import type { ConnectRequest } from "#ztunnel/inbound/decide-inbound.ts";
import { listenInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import { accountId, loopback, testCa, TestPod, testWorkload } from "#ztunnel/listener/test-pod.ts";
import { destinationJoined } from "#ztunnel/state/live-connections.ts";
import type { OutboundDecision } from "./decide-outbound.ts";
import { OutboundProxy, type OutboundDeps } from "./outbound-proxy.ts";

const listenEcho = () => listenLoopback((socket) => void socket.pipe(socket));
const destination = testWorkload("cart");
const service = {
  name: "cart",
  namespace: "shop",
  hostname: "cart.shop.svc.cluster.local",
  vips: [],
  cidrVips: [],
  ports: new Map(),
  subjectAltNames: [],
  weightedWaypoints: [],
  ipFamilies: "AUTOMATIC",
  canonical: false,
  visibility: "PUBLIC",
} as const;

async function openOutbound(pod: TestPod, decide: () => OutboundDecision, more: Partial<OutboundDeps> = {}) {
  const { fd, port } = listenInNamespace(undefined, { address: loopback, port: 0 });
  const proxy = await OutboundProxy.open(fd, {
    ...pod.common,
    pool: { maxStreams: 100, idleMs: 300_000 },
    decide,
    originalDestination: () => ({ ip: loopback, port: 4_242 }),
    ...more,
  });
  return { port, proxy, [Symbol.asyncDispose]: () => proxy.stop({ deadlineMs: 0 }) };
}

interface Hop {
  readonly port: number;
  readonly authority: string;
  readonly expected?: readonly SpiffeId[];
}

const viaTunnel =
  ({ port, authority, expected = [accountId("cart")] }: Hop): (() => OutboundDecision) =>
  () => ({
    kind: "hbone",
    why: "test",
    via: "workload",
    hop: { ip: loopback, port },
    authority,
    expected,
    destination,
    service,
  });

/** Everything that a peer was asked, answered with an echo. */
async function openPeer(serviceAccount: string, onConnect: (connect: IncomingConnect) => void) {
  const certificate = await testCa.issue(accountId(serviceAccount));
  const server = new HboneServer({
    clock: systemClock,
    windows,
    certificate: () => certificate,
    onConnect: (connect) => {
      connect.stream.on("error", () => {});
      onConnect(connect);
    },
    onRefused: () => {},
  });
  const listener = await listenLoopback((socket) =>
    server.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
  return {
    port: listener.port,
    listener,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

describe("a captured connection", () => {
  test("goes through a tunnel to the other pod's application, reported once on each side", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using application = await listenEcho();
    await using far = await cart.openHbone();
    const authority = `127.0.0.1:${application.port}`;
    await using near = await openOutbound(web, viaTunnel({ port: far.port, authority }));
    const socket = await connectLoopback(near.port);
    socket.end("hello");
    expect(String(await readAll(socket))).toBe("hello");
    await until(() => web.reporter.isSettled && cart.reporter.isSettled, "reported");
    expect(web.reporter.records).toMatchObject([
      {
        requestBytes: 5,
        responseBytes: 5,
        finished: [{ flag: "-", error: undefined }],
        facts: {
          reporter: "source",
          mutualTls: true,
          sourceIdentity: accountId("web"),
          destinationIdentity: accountId("cart"),
          destinationAddress: { port: far.port },
          hboneAddress: authority,
        },
      },
    ]);
    expect(cart.reporter.records).toMatchObject([{ requestBytes: 5, responseBytes: 5, finished: [{ flag: "-" }] }]);
    expect([...web.live.outbound]).toEqual([]);
    await until(() => web.reporter.sockets.source === 0, "the socket is counted out");
  });

  test("shares its tunnel with the next one from the same pod", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using application = await listenEcho();
    await using far = await cart.openHbone();
    await using near = await openOutbound(
      web,
      viaTunnel({ port: far.port, authority: `127.0.0.1:${application.port}` }),
    );
    const answers = await Promise.all(
      Array.from({ length: 150 }, async (_, index) => {
        const socket = await connectLoopback(near.port);
        socket.end(`message ${index}`);
        return String(await readAll(socket));
      }),
    );
    expect(answers).toEqual(answers.map((_, index) => `message ${index}`));
    expect(near.proxy.tunnels).toBeLessThanOrEqual(2);
  });

  test("is asked for with Istio's headers, and no others", async () => {
    const web = await TestPod.create("web");
    const asked: IncomingConnect[] = [];
    await using peer = await openPeer("cart", (connect) => {
      asked.push(connect);
      acceptConnect(connect.stream, undefined);
    });
    await using near = await openOutbound(web, viaTunnel({ port: peer.port, authority: "10.1.1.1:80" }));
    const socket = await connectLoopback(near.port);
    await until(() => asked.length === 1, "asked");
    expect(asked[0]).toMatchObject({
      method: "CONNECT",
      authority: "10.1.1.1:80",
      forwardedHost: service.hostname,
      forwardedNetwork: undefined,
    });
    expect(asked[0]?.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    expect(asked[0]?.baggage()).toEqual({
      clusterId: "Kubernetes",
      namespace: "shop",
      workloadName: "web",
      serviceName: "web",
      revision: "v1",
    });
    socket.destroy();
  });

  test("to what is outside the mesh passes as it is", async () => {
    const web = await TestPod.create("web");
    await using application = await listenEcho();
    const target = { ip: loopback, port: application.port };
    await using near = await openOutbound(web, () => ({ kind: "passthrough", why: "unknown", target }));
    const socket = await connectLoopback(near.port);
    socket.end("hello");
    expect(String(await readAll(socket))).toBe("hello");
    await until(() => web.reporter.isSettled, "reported");
    expect(web.reporter.records).toMatchObject([
      { requestBytes: 5, facts: { mutualTls: false, destinationAddress: target }, finished: [{ flag: "-" }] },
    ]);
  });

  test("that is in clear is ended when its destination joins the mesh", async () => {
    const web = await TestPod.create("web");
    await using application = await listenEcho();
    const target = { ip: loopback, port: application.port };
    await using near = await openOutbound(web, () => ({ kind: "passthrough", why: "not in the mesh", target }));
    const socket = connectTcp(near.port, "127.0.0.1");
    const ending = endingOf(socket);
    socket.write("hello");
    await once(socket, "data");
    web.live.joined(new Set(["10.9.9.9" as Ip]));
    expect([...web.live.outbound]).toHaveLength(1);
    web.live.joined(new Set([loopback]));
    expect(await ending).toBe("reset");
    expect([...web.live.outbound]).toEqual([]);
    await until(() => web.reporter.isSettled, "reported");
    expect(web.reporter.records).toMatchObject([{ finished: [{ error: destinationJoined }] }]);
  });

  test("that may not go anywhere is reset, with one warning and no record", async () => {
    const web = await TestPod.create("web");
    await using near = await openOutbound(web, () => ({ kind: "refuse", why: "no healthy upstream" }));
    expect(await endingOf(connectTcp(near.port, "127.0.0.1"))).toBe("reset");
    expect(web.reporter.early).toMatchObject([
      { direction: "outbound", error: "no healthy upstream", destinationAddress: { port: 4_242 } },
    ]);
    expect(web.reporter.records).toEqual([]);
  });

  test("of a pod that nobody knows is reset", async () => {
    const web = await TestPod.create("web");
    const workload = () => Promise.reject(new MeshError("WORKLOAD_UNKNOWN", "unknown workload"));
    await using near = await openOutbound(web, () => ({ kind: "refuse", why: "never asked" }), { workload });
    expect(await endingOf(connectTcp(near.port, "127.0.0.1"))).toBe("reset");
    expect(web.reporter.early).toMatchObject([{ error: "unknown workload" }]);
  });
});

describe("a captured connection whose tunnel fails is reset, and its record says why", () => {
  const hangUp = () => {
    const socket = new Socket();
    setImmediate(() => socket.destroy(new MeshError("UPSTREAM_CONNECT_FAILED", "timed out after 10000 ms")));
    return socket;
  };
  // prettier-ignore
  test.each<readonly [string, Partial<Hop>, Partial<OutboundDeps>, string, RegExp]>([
    ["nobody listens",              { port: 1 },                           {},                                                                  "CONNECT",               /ECONNREFUSED/],
    ["the connect times out",       {},                                    { dial: hangUp },                                                    "NETWORK_POLICY",        /NetworkPolicy blocks the HBONE port 15008/],
    ["somebody else answers",       { expected: [accountId("orders")] },   {},                                                                  "CONNECT",               /expected "spiffe/],
    ["nobody is expected",          { expected: [] },                      {},                                                                  "CONNECT",               /nobody/],
    ["there is no certificate",     {},                                    { certificate: () => Promise.reject(new MeshError("CERTIFICATE_UNAVAILABLE", "no CA")) }, "IDENTITY_ERROR", /no CA/],
    ["the peer refuses",            { authority: "10.9.9.9:80" },          {},                                                                  "CONNECT",               /http status: 400/],
    ["the application is down",     { authority: "127.0.0.1:1" },          {},                                                                  "CONNECT",               /http status: 503/],
  ])("%s", async (_what, hop, deps, flag, error) => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using far = await cart.openHbone();
    await using near = await openOutbound(web, viaTunnel({ port: far.port, authority: "127.0.0.1:1", ...hop }), deps);
    expect(await endingOf(connectTcp(near.port, "127.0.0.1"))).toBe("reset");
    await until(() => web.reporter.records.length === 1 && web.reporter.isSettled, "reported");
    expect(web.reporter.records).toMatchObject([{ finished: [{ flag, error: expect.stringMatching(error) }] }]);
  });

  test("the peer resets before it answers", async () => {
    const web = await TestPod.create("web");
    await using peer = await openPeer("cart", ({ stream }) => stream.close(2));
    await using near = await openOutbound(web, viaTunnel({ port: peer.port, authority: "10.1.1.1:80" }));
    expect(await endingOf(connectTcp(near.port, "127.0.0.1"))).toBe("reset");
    expect(web.reporter.records).toMatchObject([{ finished: [{ flag: "H2_HANDSHAKE_FAILURE" }] }]);
  });

  test("the tunnel is lost while data flows", async () => {
    const web = await TestPod.create("web");
    await using peer = await openPeer("cart", ({ stream }) => {
      acceptConnect(stream, undefined);
      stream.write("first");
    });
    await using near = await openOutbound(web, viaTunnel({ port: peer.port, authority: "10.1.1.1:80" }));
    const socket = await connectLoopback(near.port);
    await once(socket, "data");
    for (const tunnel of peer.listener.sockets) tunnel.resetAndDestroy();
    expect(await endingOf(socket)).toBe("reset");
    await until(() => web.reporter.isSettled, "reported");
    expect(web.reporter.records).toMatchObject([{ finished: [{ flag: "CONNECT" }] }]);
  });
});

describe("a tunnel inside of a tunnel", () => {
  /** A gateway passes what it gets on, without looking inside. */
  const openGateway = (port: () => number, asked: IncomingConnect[]) =>
    openPeer("gateway", (connect) => {
      asked.push(connect);
      const inner = connectTcp(port(), "127.0.0.1");
      inner.on("error", () => connect.stream.close());
      connect.stream.on("close", () => inner.destroy());
      inner.once("connect", () => {
        acceptConnect(connect.stream, undefined);
        connect.stream.pipe(inner).pipe(connect.stream);
      });
    });

  const twice = (port: number, expected: readonly SpiffeId[]): OutboundDecision => ({
    kind: "double-hbone",
    why: "another network",
    gateway: { ip: loopback, port },
    gatewayExpected: [accountId("gateway")],
    authority: "cart.shop.svc.cluster.local:80",
    expected,
    destination: testWorkload("gateway"),
    service,
  });

  test("reaches the far end, which tells who it is", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using application = await listenEcho();
    const inner: ConnectRequest[] = [];
    await using far = await cart.openHbone({
      decide: (request) => {
        inner.push(request);
        const target = { ip: loopback, port: application.port };
        return { kind: "connect", target, policyTarget: target, keepSource: false };
      },
    });
    const outer: IncomingConnect[] = [];
    await using gateway = await openGateway(() => far.port, outer);
    await using near = await openOutbound(web, () => twice(gateway.port, [accountId("cart")]), { network: "west" });
    const answers = await Promise.all(
      ["one", "two"].map(async (text) => {
        const socket = await connectLoopback(near.port);
        socket.end(text);
        return String(await readAll(socket));
      }),
    );
    expect(answers).toEqual(["one", "two"]);
    expect(outer.map(({ authority, forwardedNetwork }) => [authority, forwardedNetwork])).toEqual([
      ["cart.shop.svc.cluster.local:80", undefined],
      ["cart.shop.svc.cluster.local:80", undefined],
    ]);
    expect(inner.map(({ authority }) => authority)).toEqual(outer.map(({ authority }) => authority));
    expect(outer[0]?.tunnel.identity).toBe(accountId("web"));
    await until(() => web.reporter.isSettled, "reported");
    for (const record of web.reporter.records) {
      expect(record).toMatchObject({ requestBytes: 3, responseBytes: 3, finished: [{ flag: "-", error: undefined }] });
      expect(record.facts).toMatchObject({
        destinationIdentity: accountId("cart"),
        destinationDescription: { workloadName: "cart", serviceName: "cart", namespace: "shop" },
        destinationAddress: { ip: loopback, port: gateway.port },
      });
    }
    await until(() => cart.reporter.sockets.destination === 0, "inner tunnels end with their connection");
    expect(near.proxy.tunnels).toBe(1); // the outer one is shared
  });

  test("fails where the far end is somebody else", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using far = await cart.openHbone();
    await using gateway = await openGateway(() => far.port, []);
    await using near = await openOutbound(web, () => twice(gateway.port, [accountId("orders")]));
    expect(await endingOf(connectTcp(near.port, "127.0.0.1"))).toBe("reset");
    await until(() => web.reporter.isSettled && web.reporter.records.length === 1, "reported");
    expect(web.reporter.records).toMatchObject([{ finished: [{ flag: "CONNECT" }] }]);
    await until(() => cart.reporter.sockets.destination === 0, "nothing is left open");
  });

  test("shows the far end where it came from", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    const networks: (string | undefined)[] = [];
    await using far = await openPeer("cart", ({ stream, forwardedNetwork }) => {
      networks.push(forwardedNetwork);
      acceptConnect(stream, undefined);
    });
    await using gateway = await openGateway(() => far.port, []);
    await using near = await openOutbound(web, () => twice(gateway.port, [accountId("cart")]), { network: "west" });
    const socket = await connectLoopback(near.port);
    await until(() => networks.length === 1, "asked");
    expect(networks).toEqual(["west"]);
    socket.destroy();
    expect(cart.reporter.records).toEqual([]);
  });
});

describe("stopping", () => {
  test("lets open connections go on until the deadline, then resets them", async () => {
    const [web, cart] = [await TestPod.create("web"), await TestPod.create("cart")];
    await using application = await listenEcho();
    await using far = await cart.openHbone();
    const authority = hostPort(loopback, application.port);
    const near = await openOutbound(web, viaTunnel({ port: far.port, authority }));
    const socket = await connectLoopback(near.port);
    socket.write("x");
    await once(socket, "data");
    const ending = endingOf(socket);
    await near.proxy.stop({ deadlineMs: 50 });
    expect(await ending).toBe("reset");
    expect(web.reporter.records).toMatchObject([{ finished: [{ error: expect.stringContaining("drain") }] }]);
    expect(near.proxy.tunnels).toBe(0);
    await until(() => cart.reporter.isSettled, "the far side ended too");
  });

  test("at once breaks what is still being dialled", async () => {
    const web = await TestPod.create("web");
    const target = { ip: loopback, port: 80 };
    const near = await openOutbound(web, () => ({ kind: "passthrough", why: "unknown", target }), {
      dial: () => new Socket(),
    });
    const socket = connectTcp(near.port, "127.0.0.1");
    const ending = endingOf(socket);
    await until(() => web.reporter.records.length === 1, "dialling");
    await near.proxy.stop({ deadlineMs: 0 });
    expect(await ending).toBe("reset");
    expect(web.reporter.records).toMatchObject([{ finished: [{ error: expect.stringContaining("drain") }] }]);
  });
});
