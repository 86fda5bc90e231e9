import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, Socket } from "node:net";
import { describe, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { HboneConnection, type ConnectHeaders, type Tunnel } from "#shared/hbone/hbone-client.ts";
import { windowSizesDefault as windows } from "#shared/hbone/http2-settings.ts";
import { parseIp } from "#shared/net/ip.ts";
import { connectLoopback, endingOf, listenLoopback, until } from "#shared/testing/loopback.ts";
import { connectTls } from "#shared/tls/tls-client.ts";
import { accountId, loopback, testCa, TestPod } from "#ztunnel/listener/test-pod.ts";
import { encodeProxyHeader } from "./proxy-header.ts";

const caller = await testCa.issue(accountId("web"));
const denied = { allowed: false, why: "explicitly denied by: shop/no", policy: "shop/no" };

async function dialTunnel(port: number, headers: Partial<ConnectHeaders> & { authority: string }) {
  const connection = await HboneConnection.open(connectTcp(port, "127.0.0.1"), {
    certificate: caller,
    expected: [accountId("cart")],
    clock: systemClock,
    windows,
    maxStreams: 100,
  });
  connection.reserve();
  const opened: Promise<Tunnel> = connection.connect({
    baggage: "service.name=web",
    forwarded: 'for="10.0.0.1:1";host=cart.shop.svc',
    traceparent: "",
    ...headers,
  });
  return { connection, opened };
}

const listenEcho = () => listenLoopback((socket) => void socket.pipe(socket));

describe("a CONNECT to a pod", () => {
  test("reaches the application; the record tells who, where and how much, once", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    await using listener = await pod.openHbone();
    const authority = `127.0.0.1:${application.port}`;
    const { connection, opened } = await dialTunnel(listener.port, { authority });
    const { stream, baggage } = await opened;
    expect(baggage).toEqual([expect.stringContaining("k8s.deployment.name=cart,service.name=cart")]);
    stream.end("hello");
    expect(String((await once(stream, "data"))[0])).toBe("hello");
    await once(stream, "close");
    await until(() => pod.reporter.isSettled, "reported");
    expect(pod.reporter.records).toMatchObject([
      {
        requestBytes: 5,
        responseBytes: 5,
        finished: [{ flag: "-", error: undefined }],
        facts: {
          reporter: "destination",
          sourceIdentity: accountId("web"),
          sourceDescription: { serviceName: "web" },
          destinationAddress: { ip: loopback, port: listener.port },
          hboneAddress: authority,
          mutualTls: true,
        },
      },
    ]);
    connection.destroy();
    await until(() => pod.reporter.sockets.destination === 0, "the socket is counted out");
  });

  test("neither sends nor believes baggage where that is off", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    await using listener = await pod.openHbone({ usesBaggage: false });
    const { opened, connection } = await dialTunnel(listener.port, { authority: `127.0.0.1:${application.port}` });
    expect((await opened).baggage).toEqual([]);
    expect(pod.reporter.records[0]?.facts.sourceDescription).toBeUndefined();
    connection.destroy();
  });

  test("behind a gateway is not attributed to whom the peer's address belongs", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    await using listener = await pod.openHbone({ workloadAt: () => pod.workload });
    const authority = `127.0.0.1:${application.port}`;
    for (const forwardedNetwork of [undefined, "", "other"]) {
      const { opened, connection } = await dialTunnel(listener.port, {
        authority,
        ...(forwardedNetwork !== undefined && { forwardedNetwork }),
      });
      await opened;
      connection.destroy();
    }
    expect(pod.reporter.records.map(({ facts }) => facts.source?.name)).toEqual(["cart", "cart", undefined]);
  });

  test("refuses with 400 what is not for us, with 503 what cannot be reached, and records neither as opened", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone();
    // prettier-ignore
    const rows = [ // authority              status  why
      ["10.9.9.9:80",                        400,    "ip mismatch: 127.0.0.1 != 10.9.9.9"],
      ["[::1]:80",                           400,    "ip mismatch: 127.0.0.1 != ::1"],
      ["cart",                               400,    "is not host:port"],
      ["unknown.shop.svc:80",                503,    "unknown.shop.svc"],
      ["127.0.0.1:15008",                    503,    "the proxy's own"],
      ["127.0.0.1:15001",                    503,    "the proxy's own"],
    ] as const;
    for (const [authority, status, why] of rows) {
      const { opened, connection } = await dialTunnel(listener.port, { authority });
      await expect(opened).rejects.toMatchObject({ message: expect.stringContaining(`http status: ${status}`) });
      expect(pod.reporter.early.at(-1)).toMatchObject({ direction: "inbound", error: expect.stringContaining(why) });
      connection.destroy();
    }
    expect(pod.reporter.records).toEqual([]);
  });

  test("refuses other methods with 400", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone();
    const { socket } = await connectTls(connectTcp(listener.port, "127.0.0.1"), {
      certificate: caller,
      expected: [accountId("cart")],
      clock: systemClock,
    });
    const session = connectHttp2("https://x", { createConnection: () => socket });
    const request = session.request({ ":method": "GET", ":path": "/", ":authority": "127.0.0.1:80" });
    const [response] = (await once(request, "response")) as [{ ":status": number }];
    expect(response[":status"]).toBe(400);
    session.destroy();
  });

  test("is 503 where nothing listens, and the record says CONNECT", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: "127.0.0.1:1" });
    await expect(opened).rejects.toMatchObject({ message: expect.stringContaining("503") });
    expect(pod.reporter.records).toMatchObject([{ finished: [{ flag: "CONNECT" }] }]);
    connection.destroy();
  });

  test("is 503 while nobody knows who the pod is", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone({ workload: () => Promise.reject(new Error("unknown workload")) });
    const { opened, connection } = await dialTunnel(listener.port, { authority: "127.0.0.1:80" });
    await expect(opened).rejects.toMatchObject({ message: expect.stringContaining("503") });
    expect(pod.reporter.early).toMatchObject([{ error: "unknown workload" }]);
    connection.destroy();
  });

  test("is 401 where policy denies, without ever reaching the application", async () => {
    const pod = await TestPod.create("cart");
    pod.verdict = denied;
    await using application = await listenEcho();
    await using listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: `127.0.0.1:${application.port}` });
    await expect(opened).rejects.toMatchObject({ message: expect.stringContaining("401") });
    expect(application.sockets.size).toBe(0);
    expect(pod.reporter.records).toMatchObject([
      { finished: [{ flag: "DENY", error: expect.stringContaining("shop/no") }] },
    ]);
    connection.destroy();
  });

  test("is broken off when a policy comes that forbids it", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    await using listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: `127.0.0.1:${application.port}` });
    const { stream } = await opened;
    stream.write("x");
    await once(stream, "data");
    pod.verdict = denied;
    pod.live.recheck();
    await once(stream, "close");
    const [served] = application.sockets;
    expect(await endingOf(served!)).toBe("reset");
    expect(pod.reporter.records).toMatchObject([
      { finished: [{ flag: "DENY", error: expect.stringContaining("shop/no") }] },
    ]);
    connection.destroy();
  });

  test("given up by the caller while the application is dialled leaves nothing behind", async () => {
    const pod = await TestPod.create("cart");
    const dialled: Socket[] = [];
    const never = () => {
      dialled.push(new Socket());
      return dialled[0]!;
    };
    await using listener = await pod.openHbone({ dial: never });
    const { opened, connection } = await dialTunnel(listener.port, { authority: "127.0.0.1:80" });
    opened.catch(() => {});
    await until(() => dialled.length === 1, "dialling");
    connection.destroy();
    await until(() => pod.reporter.isSettled, "reported");
    expect(dialled[0]?.destroyed).toBe(true);
    await expect(opened).rejects.toThrow(/Cannot open a tunnel|closing/);
  });

  test("begins with a PROXY header where the application asks for one", async () => {
    const pod = await TestPod.create("cart", { applicationTunnel: { protocol: "PROXY" } });
    await using application = await listenLoopback(() => {});
    await using listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: `10.5.5.5:${application.port}` });
    const { stream } = await opened;
    await until(() => application.sockets.size === 1, "connected");
    const [served] = application.sockets;
    const [head] = (await once(served!, "data")) as [Buffer];
    const { sourceAddress } = pod.reporter.records[0]!.facts;
    const target = { ip: parseIp("10.5.5.5"), port: application.port };
    expect(head.equals(encodeProxyHeader(sourceAddress, target, accountId("web")))).toBe(true);
    stream.write("payload");
    expect(String((await once(served!, "data"))[0])).toBe("payload");
    connection.destroy();
  });
});

describe("a pod's port 15008", () => {
  // prettier-ignore
  test.each<readonly [string, (socket: Socket) => void]>([
    ["plain HTTP",     (socket) => void socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")],
    ["random bytes",   (socket) => void socket.write(Buffer.alloc(5_000, 0x5a))],
    ["a PROXY header", (socket) => void socket.write("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n")],
    ["nothing, closed", (socket) => void socket.end()],
    ["nothing, reset", (socket) => void socket.resetAndDestroy()],
  ])("refuses %s with one log line", async (_what, speak) => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone();
    const socket = await connectLoopback(listener.port);
    // A connection that is reset before it is accepted is nobody's.
    await until(() => pod.reporter.sockets.destination === 1, "accepted");
    speak(socket);
    await until(() => pod.reporter.sockets.destination === 0 && pod.reporter.early.length > 0, "refused");
    expect(pod.reporter.early).toMatchObject([{ direction: "inbound" }]);
    socket.destroy();
  });

  test("refuses everybody while there is no certificate, and says why", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openHbone({ certificate: () => Promise.reject(new Error("CA is away")) });
    const { opened } = await dialTunnel(listener.port, { authority: "127.0.0.1:80" }).catch(() => ({
      opened: undefined,
    }));
    expect(opened).toBeUndefined();
    expect(pod.reporter.early).toMatchObject([{ error: "CA is away" }]);
  });

  test("drains: open streams go on, new ones are refused, and it stops when the last has ended", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    const listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: `127.0.0.1:${application.port}` });
    const { stream } = await opened;
    let stopped = false;
    const stopping = listener.inbound.stop({ deadlineMs: 60_000 }).then(() => (stopped = true));
    await once(stream.session!, "goaway");
    expect(connection.reserve()).toBe(false);
    stream.write("still here");
    expect(String((await once(stream, "data"))[0])).toBe("still here");
    expect(stopped).toBe(false);
    stream.end();
    await stopping;
    await expect(connectLoopback(listener.port)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    expect(pod.reporter.records).toMatchObject([{ finished: [{ flag: "-", error: undefined }] }]);
    connection.destroy();
  });

  test("breaks what is left after the deadline, and reports it as drained", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    const listener = await pod.openHbone();
    const { opened, connection } = await dialTunnel(listener.port, { authority: `127.0.0.1:${application.port}` });
    const { stream } = await opened;
    stream.on("error", () => {});
    await listener.inbound.stop({ deadlineMs: 20 });
    expect(pod.reporter.records).toMatchObject([{ finished: [{ error: expect.stringContaining("drain") }] }]);
    await until(() => stream.closed, "the client heard");
    connection.destroy();
  });
});

describe("a pod's port 15006", () => {
  test("passes plaintext on where policy allows it, without any identity", async () => {
    const pod = await TestPod.create("cart");
    await using application = await listenEcho();
    await using listener = await pod.openPlaintext(() => application.port);
    const socket = await connectLoopback(listener.port);
    socket.end("hello");
    expect(String((await once(socket, "data"))[0])).toBe("hello");
    await until(() => pod.reporter.isSettled && pod.reporter.records.length === 1, "reported");
    const [record] = pod.reporter.records;
    expect(record).toMatchObject({ requestBytes: 5, responseBytes: 5, finished: [{ flag: "-" }] });
    expect(record?.facts).toMatchObject({ mutualTls: false, destinationAddress: { port: application.port } });
    expect(record?.facts.sourceIdentity).toBeUndefined();
  });

  // prettier-ignore
  test.each([15_001, 15_006, 15_008])("refuses its own port %d", async (port) => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openPlaintext(() => port);
    expect(await endingOf(connectTcp(listener.port, "127.0.0.1"))).toBe("reset");
    expect(pod.reporter.early).toMatchObject([{ error: expect.stringContaining("the proxy's own") }]);
    expect(pod.reporter.records).toEqual([]);
  });

  test("resets what policy denies", async () => {
    const pod = await TestPod.create("cart");
    pod.verdict = denied;
    await using application = await listenEcho();
    await using listener = await pod.openPlaintext(() => application.port);
    expect(await endingOf(connectTcp(listener.port, "127.0.0.1"))).toBe("reset");
    expect(application.sockets.size).toBe(0);
    expect(pod.reporter.records).toMatchObject([{ finished: [{ flag: "DENY" }] }]);
  });

  test("resets where nothing listens", async () => {
    const pod = await TestPod.create("cart");
    await using listener = await pod.openPlaintext(() => 1);
    expect(await endingOf(connectTcp(listener.port, "127.0.0.1"))).toBe("reset");
    await until(() => pod.reporter.isSettled, "reported");
    expect(pod.reporter.records).toMatchObject([{ finished: [{ flag: "CONNECT" }] }]);
  });
});

describe("encodeProxyHeader", () => {
  const v4 = { ip: parseIp("10.0.0.1"), port: 0x1234 };
  const v6 = { ip: parseIp("fd00::1"), port: 80 };
  // prettier-ignore
  test.each([ // source  destination  identity       after the signature, hexadecimal
    [v4, v4, undefined,  "2111000c 0a000001 0a000001 12341234"],
    [v4, v4, "ab",       "21110011 0a000001 0a000001 12341234 d00002 6162"],
    [v6, v6, undefined,  "21210024 fd00 00000000000000000000000000 01 fd00 00000000000000000000000000 01 00500050"],
    [v4, v6, undefined,  "21000000"],
    [v6, v4, "ab",       "21000005 d00002 6162"],
  ])("%j to %j for %j", (source, destination, identity, expected) => {
    const text = encodeProxyHeader(source, destination, identity).toString("hex");
    expect(text).toBe(`0d0a0d0a000d0a515549540a${expected.replaceAll(" ", "")}`);
  });
});
