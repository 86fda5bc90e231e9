/** Connections to hosts over real sockets, real TLS and real tunnels. */
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { createServer as createTlsServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { codeOf, explain } from "#shared/errors/mesh-error.ts";
import { acceptConnect, HboneServer, refuseConnect } from "#shared/hbone/hbone-server.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { relay } from "#shared/hbone/relay.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { listenLoopback, readAll, refusingPort, until, type LoopbackServer } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { ConnectTimeout } from "./connect-error.ts";
import { createConnector, type Connector, type ConnectorOptions } from "./connector.ts";
import { hostAt } from "./testing/collected.ts";
import type { OnBehalfOf, Transport, UpstreamTls } from "./transport.ts";

const account = (name: string, trustDomain = "cluster.local") =>
  spiffeId({ trustDomain, namespace: "shop", serviceAccount: name });
const loopback = parseIp("127.0.0.1");
let ca: TestCa;
let waypoint: WorkloadCertificate;
let pod: WorkloadCertificate;

beforeAll(async () => {
  ca = await TestCa.create();
  waypoint = await ca.issue(account("waypoint"));
  pod = await ca.issue(account("pod"));
});

const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).toReversed()) await close();
});

function connectorOf(options: Partial<ConnectorOptions> = {}): Connector {
  const connector = createConnector({
    clock: systemClock,
    certificate: () => waypoint,
    trustDomains: ["cluster.local", "old.local"],
    ...options,
  });
  opened.push(() => connector[Symbol.dispose]());
  return connector;
}

/** Answers with what it heard, up to the end of it. */
async function echo(): Promise<LoopbackServer> {
  const server = await listenLoopback((socket) => void socket.pipe(socket));
  opened.push(() => server[Symbol.asyncDispose]());
  return server;
}

const never = new AbortController().signal;
const plain: Transport = { connectTimeoutMs: 5_000 };
const client: OnBehalfOf = {
  source: { ip: parseIp("10.1.2.3"), port: 40_000 },
  destination: { ip: parseIp("10.96.0.1"), port: 80 },
};

/** What comes back after the words were said and the half closed. */
async function say(duplex: Duplex, words: string): Promise<string> {
  opened.push(() => void duplex.destroy());
  duplex.on("error", () => {});
  duplex.end(words);
  return (await readAll(duplex as Socket)).toString("latin1");
}

describe("TCP", () => {
  test("bytes go both ways, halves close apart, small ones are not held back", async () => {
    const server = await echo();
    const duplex = await connectorOf().connectHost(hostAt(server.port), plain, never);
    expect(await say(duplex, "hello")).toBe("hello");
  });

  test("refused", async () => {
    const server = await echo();
    await opened.pop()?.();
    const attempt = connectorOf().connectHost(hostAt(server.port), plain, never);
    await expect(attempt).rejects.toMatchObject({ code: "UPSTREAM_CONNECT_FAILED" });
    await expect(attempt.catch(explain)).resolves.toMatch(/ECONNREFUSED/);
  });

  test("too late", async () => {
    const clock = new FakeClock();
    // Nobody answers there (RFC 5737), or the network says so at once: either is an error.
    const attempt = connectorOf({ clock }).connectHost(
      hostAt(9, "socket", { address: { kind: "socket", ip: "192.0.2.1", port: 9 } }),
      plain,
      never,
    );
    const outcome = attempt.catch((error: unknown) => error);
    await clock.advance(5_000);
    expect(codeOf(await outcome)).toBe("UPSTREAM_CONNECT_FAILED");
  });

  test("given up", async () => {
    const server = await echo();
    const abort = new AbortController();
    const attempt = connectorOf().connectHost(hostAt(server.port), plain, abort.signal);
    abort.abort(new Error("nobody waits"));
    await expect(attempt).rejects.toThrow("nobody waits");
    await expect(connectorOf().connectHost(hostAt(server.port), plain, abort.signal)).rejects.toThrow("nobody waits");
  });

  test("keep-alive as configured", async () => {
    const server = await echo();
    const transport = { ...plain, keepAlive: { probes: 3, timeSeconds: 30, intervalSeconds: 5 } };
    const duplex = await connectorOf().connectHost(hostAt(server.port), transport, never);
    expect(await say(duplex, "x")).toBe("x");
  });
});

describe("PROXY protocol", () => {
  test("version 1, both families, and nobody in particular", async () => {
    const server = await echo();
    const connector = connectorOf();
    const transport: Transport = { ...plain, proxyProtocol: "v1" };
    const heard = async (onBehalfOf?: OnBehalfOf) =>
      say(await connector.connectHost(hostAt(server.port), transport, never, { onBehalfOf }), "!");
    expect(await heard(client)).toBe("PROXY TCP4 10.1.2.3 10.96.0.1 40000 80\r\n!");
    const six = { source: { ip: parseIp("fd00::1"), port: 1 }, destination: client.destination };
    expect(await heard(six)).toBe("PROXY TCP6 fd00::1 ::ffff:10.96.0.1 1 80\r\n!");
    expect(await heard()).toBe("PROXY UNKNOWN\r\n!");
  });

  test("version 2", async () => {
    const server = await echo();
    const connector = connectorOf();
    const transport: Transport = { ...plain, proxyProtocol: "v2" };
    const heard = async (onBehalfOf?: OnBehalfOf) =>
      Buffer.from(
        await say(await connector.connectHost(hostAt(server.port), transport, never, { onBehalfOf }), "!"),
        "latin1",
      );
    const signature = "0d0a0d0a000d0a515549540a";
    expect((await heard(client)).toString("hex")).toBe(`${signature}2111000c0a0102030a6000019c40005021`);
    expect((await heard()).toString("hex")).toBe(`${signature}2000000021`);
    const six = { source: { ip: parseIp("fd00::1"), port: 1 }, destination: client.destination };
    const prefix = `${signature}21210024fd000000000000000000000000000001`;
    expect((await heard(six)).toString("hex")).toBe(`${prefix}00000000000000000000ffff0a6000010001005021`);
  });
});

describe("TLS", () => {
  /** Answers with what it was told of the client, then with what it hears. */
  async function tlsServer(options: TlsOptions = {}, dnsNames = ["shop.example", "*.wild.example"]): Promise<number> {
    const certificate = await ca.issue(account("server"), { dnsNames });
    const server: Server = createTlsServer(
      { cert: certificate.chainPem, key: certificate.keyPem, ca: ca.rootPem, ...options },
      (socket: TLSSocket) => {
        socket.on("error", () => {});
        const peer = socket.getPeerX509Certificate();
        socket.write(
          `${socket.servername || "-"} ${socket.alpnProtocol || "-"} ${socket.getProtocol()} ${peer === undefined ? "-" : "certificate"} `,
        );
        socket.pipe(socket);
      },
    );
    server.on("tlsClientError", () => {});
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    opened.push(() => server.close());
    return (server.address() as AddressInfo).port;
  }

  const tlsOf = (wish: Partial<UpstreamTls> = {}): UpstreamTls => ({
    serverName: "shop.example",
    alpn: [],
    trust: { kind: "pem", pem: ca.rootPem },
    subjectAltNames: [],
    ...wish,
  });
  const exactly = (type: "dns" | "uri" | "any", expected: string) => ({
    type,
    matches: (value: string) => value === expected,
  });

  async function ask(port: number, tls: UpstreamTls, hostname = ""): Promise<string> {
    const host = hostAt(port, "socket", { hostname });
    return say(await connectorOf().connectHost(host, { ...plain, tls }, never), "hi");
  }

  test("SNI, ALPN, versions", async () => {
    const port = await tlsServer({ ALPNProtocols: ["h2", "http/1.1"] });
    expect(await ask(port, tlsOf())).toBe("shop.example - TLSv1.3 - hi");
    expect(await ask(port, tlsOf({ alpn: ["h2"], maxVersion: "TLSv1.2" }))).toBe("shop.example h2 TLSv1.2 - hi");
    expect(await ask(port, tlsOf({ serverName: "" }))).toBe("- - TLSv1.3 - hi");
    expect(await ask(port, tlsOf({ serverName: "127.0.0.1" }))).toBe("- - TLSv1.3 - hi");
    expect(await ask(port, tlsOf({ usesHostName: true }), "pod-1.example")).toBe("pod-1.example - TLSv1.3 - hi");
    await expect(ask(await tlsServer({ maxVersion: "TLSv1.2" }), tlsOf({ minVersion: "TLSv1.3" }))).rejects.toThrow(
      "Cannot set up TLS",
    );
  });

  test("a certificate of ours where the server asks for one", async () => {
    const port = await tlsServer({ requestCert: true, rejectUnauthorized: true });
    const certificate = { chainPem: waypoint.chainPem, keyPem: waypoint.keyPem };
    expect(await ask(port, tlsOf({ certificate }))).toBe("shop.example - TLSv1.3 certificate hi");
  });

  test("an authority that is not ours, and one that nobody asks for", async () => {
    const port = await tlsServer();
    const other = await TestCa.create("Other");
    await expect(ask(port, tlsOf({ trust: { kind: "pem", pem: other.rootPem } }))).rejects.toMatchObject({
      code: "UPSTREAM_CONNECT_FAILED",
    });
    await expect(ask(port, tlsOf({ trust: { kind: "system" } }))).rejects.toMatchObject({
      code: "UPSTREAM_CONNECT_FAILED",
    });
    expect(await ask(port, tlsOf({ trust: { kind: "none" } }))).toContain("hi");
  });

  test("names", async () => {
    const port = await tlsServer();
    const uri = account("server");
    const refused = { code: "PEER_UNVERIFIED" };
    expect(await ask(port, tlsOf({ subjectAltNames: [exactly("dns", "no"), exactly("uri", uri)] }))).toContain("hi");
    expect(await ask(port, tlsOf({ subjectAltNames: [exactly("any", uri)] }))).toContain("hi");
    await expect(ask(port, tlsOf({ subjectAltNames: [exactly("dns", uri)] }))).rejects.toMatchObject(refused);
    await expect(
      ask(port, tlsOf({ trust: { kind: "none" }, subjectAltNames: [exactly("dns", "no")] })),
    ).rejects.toMatchObject(refused);
    expect(await ask(port, tlsOf({ verifiesServerName: true }))).toContain("hi");
    expect(await ask(port, tlsOf({ verifiesServerName: true, serverName: "A.wild.Example" }))).toContain("hi");
    for (const serverName of ["wild.example", "a.b.wild.example", "other.example", "127.0.0.1", ""]) {
      await expect(ask(port, tlsOf({ verifiesServerName: true, serverName }))).rejects.toMatchObject(refused);
    }
  });

  test("a server that says nothing is given up", async () => {
    const clock = new FakeClock();
    const silent = await listenLoopback(() => {});
    opened.push(() => silent[Symbol.asyncDispose]());
    const attempt = connectorOf({ clock }).connectHost(hostAt(silent.port), { ...plain, tls: tlsOf() }, never);
    const outcome = attempt.catch((error: unknown) => error);
    await until(() => silent.sockets.size === 1, "it is connected");
    await clock.advance(5_000);
    expect(await outcome).toBeInstanceOf(ConnectTimeout);
    await until(
      () =>
        [...silent.sockets].every((socket) => socket.readableEnded || socket.destroyed || socket.readableLength > 0),
      "let go",
    );
  });

  test("under PROXY protocol the header comes first", async () => {
    const port = await tlsServer();
    const seen: Buffer[] = [];
    const front = await listenLoopback((socket) => {
      socket.once("data", (first: Buffer) => {
        const end = first.indexOf("\r\n") + 2;
        seen.push(first.subarray(0, end));
        const behind = connect({ port, host: "127.0.0.1" });
        behind.on("error", () => {});
        behind.write(first.subarray(end));
        socket.pipe(behind).pipe(socket);
      });
    });
    opened.push(() => front[Symbol.asyncDispose]());
    const transport: Transport = { ...plain, proxyProtocol: "v1", tls: tlsOf() };
    const duplex = await connectorOf().connectHost(hostAt(front.port), transport, never, { onBehalfOf: client });
    expect(await say(duplex, "hi")).toContain("hi");
    expect(seen.map(String)).toEqual(["PROXY TCP4 10.1.2.3 10.96.0.1 40000 80\r\n"]);
  });
});

describe("tunnels", () => {
  interface Asked {
    readonly authority: string;
    readonly identity: string;
    readonly forwardedPort: number | undefined;
  }

  async function hboneServer(certificate: WorkloadCertificate, target: () => number, status?: 400 | 503) {
    const asked: Asked[] = [];
    const hbone = new HboneServer({
      clock: systemClock,
      windows: windowSizesDefault,
      certificate: () => certificate,
      onConnect: ({ stream, authority, tunnel, forwardedPort }) => {
        stream.on("error", () => {});
        asked.push({ authority, identity: tunnel.identity, forwardedPort });
        if (status !== undefined) {
          refuseConnect(stream, status);
          return;
        }
        const upstream = connect({ port: target(), host: "127.0.0.1", allowHalfOpen: true });
        upstream.once("connect", () => {
          acceptConnect(stream, undefined);
          relay({ downstream: stream, upstream }, { requestBytes() {}, responseBytes() {}, ended() {} });
        });
      },
      onRefused: () => {},
    });
    const listener = await listenLoopback((socket) =>
      hbone.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
    );
    opened.push(
      () => listener[Symbol.asyncDispose](),
      () => hbone.close(),
    );
    return { asked, hbonePort: listener.port, listener };
  }

  test("CONNECT with our own identity, one connection for all", async () => {
    const server = await echo();
    const { asked, hbonePort, listener } = await hboneServer(pod, () => server.port);
    const connector = connectorOf({ hbonePort });
    const host = hostAt(server.port, "hbone");
    for (const words of ["one", "two"]) {
      const duplex = await connector.connectHost(host, plain, never, { onBehalfOf: client });
      expect(await say(duplex, words)).toBe(words);
    }
    expect(asked.map(({ authority, identity }) => [authority, identity])).toEqual([
      [`127.0.0.1:${server.port}`, account("waypoint")],
      [`127.0.0.1:${server.port}`, account("waypoint")],
    ]);
    expect(listener.sockets.size).toBe(1);
  });

  test("the peer has to be of the mesh, and who the index says", async () => {
    const server = await echo();
    const host = hostAt(server.port, "hbone");
    const ask = async (certificate: WorkloadCertificate, options: Partial<ConnectorOptions>) => {
      const { hbonePort } = await hboneServer(certificate, () => server.port);
      return say(await connectorOf({ hbonePort, ...options }).connectHost(host, plain, never), "hi");
    };
    // A server takes clients of its own trust domain only, so that a stranger's names ours as a second one.
    const stranger = await ca.issue(account("pod"), { uris: [account("pod", "evil.local")] });
    await expect(ask(stranger, {})).rejects.toMatchObject({ code: "PEER_UNVERIFIED" });
    expect(await ask(pod, { expectedIdentity: () => account("pod") })).toBe("hi");
    await expect(ask(pod, { expectedIdentity: () => account("other") })).rejects.toMatchObject({
      code: "PEER_UNVERIFIED",
    });
    const former = await ca.issue(account("pod"), { uris: [account("pod", "old.local"), account("pod")] });
    expect(await ask(former, {})).toBe("hi");
    await expect(ask(former, { trustDomains: [] })).rejects.toMatchObject({ code: "PEER_UNVERIFIED" });
  });

  test("refused by the peer, no certificate, nobody there", async () => {
    const { hbonePort } = await hboneServer(pod, () => 1, 503);
    const host = hostAt(80, "hbone");
    await expect(connectorOf({ hbonePort }).connectHost(host, plain, never)).rejects.toMatchObject({
      code: "HBONE_REFUSED",
    });
    const without = connectorOf({ hbonePort, certificate: () => Promise.reject(new Error("no certificate yet")) });
    await expect(without.connectHost(host, plain, never)).rejects.toThrow("no certificate yet");
    await using nobody = await refusingPort();
    await expect(connectorOf({ hbonePort: nobody.port }).connectHost(host, plain, never)).rejects.toMatchObject({
      code: "UPSTREAM_CONNECT_FAILED",
    });
  });

  test("a peer that does not answer is given up after the cluster's own deadline", async () => {
    const clock = new FakeClock();
    const silent = await listenLoopback(() => {});
    opened.push(() => silent[Symbol.asyncDispose]());
    const attempt = connectorOf({ clock, hbonePort: silent.port }).connectHost(
      hostAt(80, "hbone"),
      { connectTimeoutMs: 250 },
      never,
    );
    const outcome = attempt.catch((error: unknown) => error);
    await until(() => silent.sockets.size === 1, "it is connected");
    await clock.advance(250);
    expect(await outcome).toBeInstanceOf(ConnectTimeout);
  });
});
