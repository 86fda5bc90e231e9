import { once } from "node:events";
import { connect as connectPlain, type AddressInfo, type Socket } from "node:net";
import { connect, createServer, type ConnectionOptions, type TLSSocket } from "node:tls";
import { describe, expect, test } from "@jest/globals";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { connectLoopback, endingOf, listenLoopback, socketPair, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { connectTls } from "./tls-client.ts";
import { secureContextOptions } from "./tls-options.ts";
import { TlsServer } from "./tls-server.ts";

const account = (serviceAccount: string, trustDomain = "cluster.local"): SpiffeId =>
  spiffeId({ trustDomain, namespace: "shop", serviceAccount });
const cart = account("cart");
const orders = account("orders");
const hourMs = 3_600_000;

const ca = await TestCa.create();
const otherCa = await TestCa.create("Other Root");
const ordersCertificate = await ca.issue(orders);
const cartCertificate = await ca.issue(cart);

interface Secured {
  readonly identity: SpiffeId;
  readonly socket: TLSSocket;
}
type Outcome = Secured | { readonly why: string };

/** One server-side handshake over one connection, from whatever `client` does with the other end. */
async function serve(
  certificate: WorkloadCertificate,
  client: (socket: Socket) => void,
  { deadlineMs = 5_000, allowTls12 = false } = {},
): Promise<Outcome> {
  const [near, far] = await socketPair();
  const server = new TlsServer({ deadlineMs, allowTls12 });
  client(near);
  const outcome = await new Promise<Outcome>((resolve) =>
    server.handshake(far, certificate, {
      secured: (socket, identity) => resolve({ socket, identity }),
      refused: (why) => resolve({ why }),
    }),
  );
  if ("socket" in outcome) outcome.socket.on("error", () => {});
  near.destroy();
  far.destroy();
  return outcome;
}

const speak = (certificate: WorkloadCertificate, more: ConnectionOptions = {}) => {
  return (socket: Socket) => {
    const { ca: _roots, ...ours } = secureContextOptions(certificate);
    connect({ ...ours, socket, rejectUnauthorized: false, ALPNProtocols: ["h2"], ...more }).on("error", () => {});
  };
};

async function serveWithoutAlpn() {
  const server = createServer({ ...secureContextOptions(ordersCertificate), requestCert: true });
  const secureConnection = once(server, "secureConnection").then(([socket]) => socket as TLSSocket);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { secureConnection, port, close: () => void server.close() };
}

describe("the server's side", () => {
  test("accepts a client of its trust domain and tells who it is", async () => {
    expect(await serve(ordersCertificate, speak(cartCertificate))).toMatchObject({ identity: cart });
  });

  test("accepts a chain with intermediates", async () => {
    const deep = await ca.issue(cart, { intermediates: 2 });
    expect(await serve(ordersCertificate, speak(deep))).toMatchObject({ identity: cart });
  });

  test("accepts a client of any root that came with its own certificate", async () => {
    const broad = await ca.issue(orders, { alsoTrust: [otherCa] });
    const foreign = await otherCa.issue(cart);
    expect(await serve(broad, speak(foreign))).toMatchObject({ identity: cart });
  });

  test("tolerates a client without ALPN", async () => {
    const silent: ConnectionOptions = { ALPNProtocols: [] };
    expect(await serve(ordersCertificate, speak(cartCertificate, silent))).toMatchObject({ identity: cart });
  });

  // prettier-ignore
  test.each<readonly [string, () => Promise<(socket: Socket) => void>, RegExp]>([
    ["another root",              async () => speak(await otherCa.issue(cart)),                                          /does not verify/],
    ["another trust domain",      async () => speak(await ca.issue(cart, { uris: [account("cart", "evil.test")] })),       /outside our trust domain "cluster.local"/],
    ["no SPIFFE name",            async () => speak(await ca.issue(cart, { uris: ["https://cart"] })),                     /no SPIFFE identity/],
    ["a smuggled name",           async () => speak(await ca.issue(cart, { uris: [`spiffe://evil/x, URI:${cart}`] })),     /no SPIFFE identity/],
    ["a DNS name alone",          async () => speak(await ca.issue(cart, { uris: [], dnsNames: [`a, URI:${cart}`] })),     /no SPIFFE identity/],
    ["an expired certificate",    async () => speak(await ca.issue(cart, { notAfterMs: Date.now() - 1_000, notBeforeMs: Date.now() - hourMs })), /CERT_HAS_EXPIRED/],
    ["one not valid yet",         async () => speak(await ca.issue(cart, { notBeforeMs: Date.now() + hourMs / 2 })),       /CERT_NOT_YET_VALID/],
    ["one for servers only",      async () => speak(await ca.issue(cart, { usage: ["server"] })),                          /does not verify/],
    ["no certificate",            async () => (socket) => void connect({ socket, rejectUnauthorized: false, ALPNProtocols: ["h2"] }).on("error", () => {}), /peer did not return a certificate/],
    ["another protocol",          async () => speak(cartCertificate, { ALPNProtocols: ["http/1.1"] }),                     /./],
    ["TLS 1.2",                   async () => speak(cartCertificate, { minVersion: "TLSv1.2", maxVersion: "TLSv1.2", ciphers: "DEFAULT" }), /./],
    ["ChaCha20",                  async () => speak(cartCertificate, { ciphers: "TLS_CHACHA20_POLY1305_SHA256" }),         /./],
    ["plain HTTP",                async () => (socket) => void socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),          /./],
    ["random bytes",              async () => (socket) => void socket.write(Buffer.alloc(3_000, 0xa7)),                    /./],
    ["a client that hangs up",    async () => (socket) => void socket.end(),                                               /./],
    ["a client that resets",      async () => (socket) => void socket.resetAndDestroy(),                                   /./],
  ])("refuses %s", async (_name, client, why) => {
    expect(await serve(ordersCertificate, await client())).toEqual({ why: expect.stringMatching(why) });
  });

  test("accepts TLS 1.2 where it is allowed, with authenticated encryption alone", async () => {
    const old = (ciphers: string) => speak(cartCertificate, { minVersion: "TLSv1.2", maxVersion: "TLSv1.2", ciphers });
    const allowed = { allowTls12: true };
    const { socket } = (await serve(ordersCertificate, old("ECDHE-ECDSA-AES128-GCM-SHA256"), allowed)) as Secured;
    expect(socket.getProtocol()).toBe("TLSv1.2");
    expect(await serve(ordersCertificate, speak(cartCertificate), allowed)).toMatchObject({ identity: cart });
    expect(await serve(ordersCertificate, old("ECDHE-ECDSA-AES128-SHA256"), allowed)).toHaveProperty("why");
  });

  test("gives up on a client that never finishes its handshake", async () => {
    const slow = await serve(ordersCertificate, (socket) => void socket.write(Buffer.from([0x16, 0x03, 0x01])), {
      deadlineMs: 50,
    });
    expect(slow).toEqual({ why: expect.stringMatching(/timeout/i) });
  });

  test("presents a renewed certificate to the handshakes that come after it", async () => {
    const server = new TlsServer();
    const shown: string[] = [];
    const renewed = await ca.issue(orders);
    for (const certificate of [ordersCertificate, ordersCertificate, renewed]) {
      const [near, far] = await socketPair();
      const secured = Promise.withResolvers<void>();
      server.handshake(far, certificate, { secured: () => secured.resolve(), refused: (why) => secured.reject(why) });
      const { socket } = await connectTls(near, {
        certificate: cartCertificate,
        expected: [orders],
        clock: systemClock,
      });
      shown.push(socket.getPeerX509Certificate()?.serialNumber.toLowerCase() ?? "");
      await secured.promise;
      socket.destroy();
      far.destroy();
    }
    expect(shown).toEqual([ordersCertificate.serial, ordersCertificate.serial, renewed.serial]);
  });

  test("never resumes a session", async () => {
    const server = new TlsServer();
    let session: Buffer | undefined;
    const reused: boolean[] = [];
    await using listener = await listenLoopback((socket) =>
      server.handshake(socket, ordersCertificate, {
        secured: (secure) => void secure.on("error", () => {}).end("x"),
        refused: () => {},
      }),
    );
    for (let round = 0; round < 2; round++) {
      const { ca: _roots, ...ours } = secureContextOptions(cartCertificate);
      const client = connect({
        ...ours,
        secureOptions: 0,
        port: listener.port,
        rejectUnauthorized: false,
        ALPNProtocols: ["h2"],
        ...(session && { session }),
      });
      client.on("session", (fresh: Buffer) => (session = fresh));
      await once(client, "secureConnect");
      reused.push(client.isSessionReused());
      client.resume();
      await once(client, "end");
      client.destroy();
    }
    expect(session).toBeDefined();
    expect(reused).toEqual([false, false]);
  });
});

describe("the client's side", () => {
  async function dial(server: WorkloadCertificate, expected: readonly SpiffeId[]): Promise<SpiffeId> {
    const tls = new TlsServer();
    await using listener = await listenLoopback((socket) =>
      tls.handshake(socket, server, { secured: (secure) => void secure.on("error", () => {}), refused: () => {} }),
    );
    const transport = connectPlain(listener.port, "127.0.0.1");
    const { identity, socket } = await connectTls(transport, {
      certificate: cartCertificate,
      expected,
      clock: systemClock,
    });
    expect(socket.getProtocol()).toBe("TLSv1.3");
    expect(socket.getCipher().name).toBe("TLS_AES_256_GCM_SHA384");
    socket.destroy();
    return identity;
  }

  test("accepts one of the expected", async () => {
    expect(await dial(ordersCertificate, [cart, orders])).toBe(orders);
  });

  // prettier-ignore
  test.each<readonly [string, () => Promise<WorkloadCertificate>, readonly SpiffeId[], string]>([
    ["somebody else",             async () => ordersCertificate,                                             [cart],   "PEER_UNVERIFIED"],
    ["anybody without expecting", async () => ordersCertificate,                                             [],       "PEER_UNVERIFIED"],
    ["another trust domain",      () => ca.issue(orders, { uris: [account("orders", "evil.test")] }),        [orders], "PEER_UNVERIFIED"],
    ["a smuggled name",           () => ca.issue(orders, { uris: [`spiffe://evil/x, URI:${orders}`] }),      [orders], "PEER_UNVERIFIED"],
    ["another root",              () => otherCa.issue(orders, { alsoTrust: [ca] }),                          [orders], "PEER_UNVERIFIED"],
    ["one for clients only",      () => ca.issue(orders, { usage: ["client"] }),                             [orders], "PEER_UNVERIFIED"],
    ["an expired certificate",    () => ca.issue(orders, { notBeforeMs: Date.now() - hourMs, notAfterMs: Date.now() - 1_000 }), [orders], "PEER_UNVERIFIED"],
  ])("refuses %s", async (_name, server, expected, code) => {
    await expect(dial(await server(), expected)).rejects.toMatchObject({ code });
  });

  test("tolerates a server without ALPN", async () => {
    const { secureConnection, port, close } = await serveWithoutAlpn();
    const transport = connectPlain(port, "127.0.0.1");
    const { socket } = await connectTls(transport, {
      certificate: cartCertificate,
      expected: [orders],
      clock: systemClock,
    });
    expect(socket.alpnProtocol).toBe(false);
    (await secureConnection).destroy();
    socket.destroy();
    close();
  });

  test("sends no server name", async () => {
    await using listener = await listenLoopback(() => {});
    const transport = connectPlain(listener.port, "127.0.0.1");
    const dialled = connectTls(transport, { certificate: cartCertificate, expected: [orders], clock: systemClock });
    await until(() => listener.sockets.size === 1, "the client connected");
    const [served] = listener.sockets;
    const [hello] = (await once(served!, "data")) as [Buffer];
    expect(hello.includes("localhost")).toBe(false);
    expect(hello.includes(Buffer.from("\u0002h2"))).toBe(true);
    served!.destroy();
    await expect(dialled).rejects.toMatchObject({ code: "HBONE_CONNECT_FAILED" });
  });

  test("gives up on a server that never answers", async () => {
    const clock = new FakeClock();
    await using listener = await listenLoopback((socket) => socket.resume());
    const transport = await connectLoopback(listener.port);
    const dialled = connectTls(transport, { certificate: cartCertificate, expected: [orders], clock });
    dialled.catch(() => {});
    await clock.advance(10_000);
    await expect(dialled).rejects.toThrow(/Cannot set up TLS/);
    expect(await endingOf(transport)).toBe("reset");
  });

  test("fails with the error of a transport that does not connect", async () => {
    const transport = connectPlain(1, "127.0.0.1");
    const dialled = connectTls(transport, { certificate: cartCertificate, expected: [orders], clock: systemClock });
    await expect(dialled).rejects.toHaveProperty("cause.code", "ECONNREFUSED");
  });
});
