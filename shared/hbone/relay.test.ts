import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { describe, expect, test } from "@jest/globals";
import { systemClock } from "#shared/clock/clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { parseIp } from "#shared/net/ip.ts";
import { endingOf, listenLoopback, readAll, socketPair, until } from "#shared/testing/loopback.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { HboneConnection } from "./hbone-client.ts";
import { acceptConnect, HboneServer } from "./hbone-server.ts";
import { windowSizesDefault as windows } from "./http2-settings.ts";
import { relay, type Relay } from "./relay.ts";

const account = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });
const ca = await TestCa.create();
const clientCertificate = await ca.issue(account("client"));
const serverCertificate = await ca.issue(account("server"));
const headers = { authority: "10.0.0.1:80", baggage: "", forwarded: "", traceparent: "" };
const loopback = parseIp("127.0.0.1");

interface Report {
  request: number;
  response: number;
  ended: boolean;
  error: Error | undefined;
}

interface Path extends AsyncDisposable {
  /** What the calling application holds. */
  readonly caller: Socket;
  /** What the called application holds. */
  readonly called: Socket;
  readonly reports: readonly Report[];
  readonly relays: readonly Relay[];
  /** Cuts the connection between the two proxies. */
  readonly cut: () => void;
}

const reporter = (): { readonly report: Report; readonly observer: Parameters<typeof relay>[1] } => {
  const report: Report = { request: 0, response: 0, ended: false, error: undefined };
  return {
    report,
    observer: {
      requestBytes: (bytes) => (report.request += bytes),
      responseBytes: (bytes) => (report.response += bytes),
      ended: (error) => {
        expect(report.ended).toBe(false); // once
        report.ended = true;
        report.error = error;
      },
    },
  };
};

/** caller ⇄ relay ⇄ called */
async function plainPath(): Promise<Path> {
  const [caller, downstream] = await socketPair();
  const [upstream, called] = await socketPair();
  const { report, observer } = reporter();
  return {
    caller,
    called,
    reports: [report],
    relays: [relay({ downstream, upstream }, observer)],
    cut: () => upstream.destroy(new Error("cut")),
    [Symbol.asyncDispose]: async () => [caller, called].forEach((socket) => socket.destroy()),
  };
}

/** caller ⇄ relay ⇄ tunnel ⇄ relay ⇄ called */
async function tunnelPath(): Promise<Path> {
  const [caller, downstream] = await socketPair();
  const [application, called] = await socketPair();
  const near = reporter();
  const far = reporter();
  const relays: Relay[] = [];
  const server = new HboneServer({
    clock: systemClock,
    windows,
    certificate: () => serverCertificate,
    onConnect: ({ stream }) => {
      acceptConnect(stream, undefined);
      relays.push(relay({ downstream: stream, upstream: application }, far.observer));
    },
    onRefused: () => {},
  });
  const listener = await listenLoopback((socket) =>
    server.accept(socket, { local: { ip: loopback, port: 15_008 }, peer: { ip: loopback, port: 1 } }),
  );
  const connection = await HboneConnection.open(connectTcp(listener.port, "127.0.0.1"), {
    certificate: clientCertificate,
    expected: [account("server")],
    clock: systemClock,
    windows,
    maxStreams: 100,
  });
  connection.reserve();
  const { stream } = await connection.connect(headers);
  relays.unshift(relay({ downstream, upstream: stream }, near.observer));
  return {
    caller,
    called,
    reports: [near.report, far.report],
    relays,
    cut: () => listener.sockets.forEach((socket) => socket.resetAndDestroy()),
    [Symbol.asyncDispose]: async () => {
      [caller, called].forEach((socket) => socket.destroy());
      connection.destroy();
      server.close();
      await listener[Symbol.asyncDispose]();
    },
  };
}

describe.each([
  ["plain", plainPath],
  ["tunnel", tunnelPath],
] as const)("a relay over a %s path", (_name, openPath) => {
  const settled = (path: Path) => until(() => path.reports.every(({ ended }) => ended), "every relay has ended");

  test("carries bytes both ways, counts them and ends once, without error", async () => {
    await using path = await openPath();
    path.caller.end("a question");
    expect(String(await readAll(path.called))).toBe("a question");
    path.called.end("an answer, longer");
    expect(String(await readAll(path.caller))).toBe("an answer, longer");
    await settled(path);
    for (const report of path.reports)
      expect(report).toEqual({ request: 10, response: 17, ended: true, error: undefined });
  });

  test("lets the server speak first", async () => {
    await using path = await openPath();
    path.called.write("220 ready");
    expect(String((await once(path.caller, "data"))[0])).toBe("220 ready");
  });

  test("passes the caller's end on and keeps the other direction open", async () => {
    await using path = await openPath();
    path.caller.end();
    expect(await endingOf(path.called)).toBe("end");
    for (let round = 0; round < 3; round++) {
      path.called.write(`part ${round}`);
      expect(String((await once(path.caller, "data"))[0])).toBe(`part ${round}`);
    }
    path.called.end();
    expect(await endingOf(path.caller)).toBe("end");
    await settled(path);
  });

  test("passes the called side's end on and keeps the other direction open", async () => {
    await using path = await openPath();
    path.called.end();
    expect(await endingOf(path.caller)).toBe("end");
    for (let round = 0; round < 3; round++) {
      path.caller.write(`part ${round}`);
      expect(String((await once(path.called, "data"))[0])).toBe(`part ${round}`);
    }
    path.caller.end();
    expect(await endingOf(path.called)).toBe("end");
    await settled(path);
  });

  test.each(["caller", "called"] as const)("tells the other side when the %s resets", async (who) => {
    await using path = await openPath();
    path.caller.write("x");
    await once(path.called, "data");
    const [from, to] = who === "caller" ? [path.caller, path.called] : [path.called, path.caller];
    const ending = endingOf(to);
    from.resetAndDestroy();
    await ending;
    to.end();
    await settled(path);
    expect(path.reports.map(({ error }) => error)).toEqual(path.reports.map(() => undefined));
  });

  test("moves 32 MB in pieces of 32 KiB and of random sizes without changing a byte", async () => {
    await using path = await openPath();
    const sent = createHash("sha256");
    const received = createHash("sha256");
    let total = 0;
    const reading = (async () => {
      for await (const chunk of path.called) received.update(chunk as Buffer);
    })();
    for (let index = 0; index < 1_000; index++) {
      const chunk = randomBytes(index % 3 === 0 ? 1 + ((index * 7_919) % 100_000) : 32_768);
      sent.update(chunk);
      total += chunk.length;
      if (!path.caller.write(chunk)) await once(path.caller, "drain");
    }
    path.caller.end();
    await reading;
    expect(received.digest("hex")).toBe(sent.digest("hex"));
    expect(path.reports.every(({ request }) => request === total)).toBe(true);
  });

  test("stops reading when the other side does not, and loses nothing", async () => {
    await using path = await openPath();
    const block = Buffer.alloc(1_048_576, 1);
    let written = 0;
    const startedMs = performance.now();
    // A reader that sleeps: the writer must come to a stand, well below what was offered.
    while (performance.now() - startedMs < 1_000) {
      if (path.caller.write(block)) written += block.length;
      else {
        written += block.length;
        const drained = await Promise.race([
          once(path.caller, "drain").then(() => true),
          new Promise((resolve) => setTimeout(resolve, 300, false)),
        ]);
        if (drained === false) break;
      }
    }
    expect(written).toBeLessThan(64 * 1_048_576);
    path.caller.end();
    expect((await readAll(path.called)).length).toBe(written);
  });

  test("resets both sides when it is aborted", async () => {
    await using path = await openPath();
    path.caller.write("x");
    await once(path.called, "data");
    const endings = Promise.all([endingOf(path.caller), endingOf(path.called)]);
    path.relays[0]?.abort(new Error("policy"));
    const [caller] = await endings;
    expect(caller).toBe("reset");
    await settled(path);
    expect(path.reports[0]?.error?.message).toBe("policy");
  });
});

test("a tunnel that breaks resets the applications: nobody takes cut off data for whole", async () => {
  await using path = await tunnelPath();
  path.caller.write("x");
  await once(path.called, "data");
  const endings = Promise.all([endingOf(path.caller), endingOf(path.called)]);
  path.cut();
  expect(await endings).toEqual(["reset", "reset"]);
  await until(() => path.reports.every(({ ended }) => ended), "both ended");
  expect(path.reports.every(({ error }) => error !== undefined)).toBe(true);
});

test("sockets that are dead already end at once", async () => {
  const [caller, downstream] = await socketPair();
  const [upstream, called] = await socketPair();
  downstream.destroy();
  await once(downstream, "close");
  const { report, observer } = reporter();
  relay({ downstream, upstream }, observer);
  await until(() => report.ended, "ended");
  expect(report).toMatchObject({ request: 0, response: 0 });
  [caller, called].forEach((socket) => socket.destroy());
});
