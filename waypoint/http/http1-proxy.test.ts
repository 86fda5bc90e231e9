/** The two codecs back to back over real sockets, between a client and a server that are not ours. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, RequestOptions } from "node:http";
import { Agent, createServer, request } from "node:http";
import { connect, createServer as createRawServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { WebSocket, WebSocketServer } from "ws";
import { exchangeBytes, listen, openProxy, turns, type TestProxy } from "./http1-testing.ts";

const hashOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

const backend = createServer({ keepAliveTimeout: 0 }, (incoming, response) => {
  const chunks: Buffer[] = [];
  incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
  incoming.on("end", () => {
    const body = Buffer.concat(chunks);
    if (incoming.url === "/echo-length") response.setHeader("content-length", body.length);
    response.setHeader("x-trailers", JSON.stringify(incoming.trailers));
    if (incoming.url === "/trailers") response.setHeader("trailer", "x-sum");
    response.write(body);
    if (incoming.url === "/trailers") response.addTrailers({ "x-sum": hashOf(body) });
    response.end();
  });
});
const sockets = new WebSocketServer({ server: backend });
sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));

let proxy: TestProxy;
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

beforeAll(async () => {
  proxy = await openProxy(await listen(backend));
});
afterAll(async () => {
  agent.destroy();
  await proxy[Symbol.asyncDispose]();
  sockets.close();
  backend.closeAllConnections();
  await new Promise((resolve) => backend.close(resolve));
});

async function send(
  options: RequestOptions,
  pieces: readonly Buffer[],
): Promise<{ answer: IncomingMessage; body: Buffer }> {
  const outgoing = request({ agent, port: proxy.port, host: "127.0.0.1", method: "POST", ...options });
  const answered = once(outgoing, "response") as Promise<[IncomingMessage]>;
  for (const piece of pieces) if (!outgoing.write(piece)) await once(outgoing, "drain");
  outgoing.end();
  const [answer] = await answered;
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return { answer, body: Buffer.concat(chunks) };
}

describe("between others", () => {
  test("large bodies arrive as they were sent, framed either way, one connection for all", async () => {
    const pieces = Array.from({ length: 40 }, (_, i) => randomBytes(1 + i * 5_000));
    const whole = Buffer.concat(pieces);
    for (const path of ["/echo", "/echo-length", "/echo"]) {
      const headers = path === "/echo" ? {} : { "content-length": whole.length };
      const { answer, body } = await send({ path, headers }, pieces);
      expect(answer.headers).not.toHaveProperty("x-reset");
      expect(hashOf(body)).toBe(hashOf(whole));
    }
  });

  test("many small requests at once", async () => {
    const many = new Agent({ keepAlive: true, maxSockets: 20 });
    const bodies = await Promise.all(
      Array.from({ length: 300 }, async (_, i) => {
        const { body } = await send({ agent: many, path: "/echo" }, [Buffer.from(`number ${i}`)]);
        return body.toString();
      }),
    );
    many.destroy();
    expect(bodies).toEqual(bodies.map((_, i) => `number ${i}`));
  });

  test("trailers both ways", async () => {
    const outgoing = request({
      agent,
      port: proxy.port,
      host: "127.0.0.1",
      method: "POST",
      path: "/trailers",
      headers: { te: "trailers", connection: "te, keep-alive", trailer: "x-mine" },
    });
    outgoing.write("abc");
    outgoing.addTrailers({ "x-mine": "1" });
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    answer.resume();
    await once(answer, "end");
    expect(answer.headers["x-trailers"]).toBe('{"x-mine":"1"}');
    expect(answer.trailers).toEqual({ "x-sum": hashOf(Buffer.from("abc")) });
  });

  test("HEAD, and a body behind 100-continue", async () => {
    const head = await send({ method: "HEAD", path: "/echo-length" }, []);
    expect(head.answer.statusCode).toBe(200);
    const outgoing = request({
      agent,
      port: proxy.port,
      host: "127.0.0.1",
      method: "POST",
      path: "/echo",
      headers: { expect: "100-continue", "content-length": 3 },
    });
    outgoing.flushHeaders();
    await once(outgoing, "continue");
    outgoing.end("abc");
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    expect(String((await answer.toArray()) as unknown as Buffer[])).toBe("abc");
  });

  test("a WebSocket", async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/chat`);
    await once(socket, "open");
    const large = randomBytes(300_000);
    const echoes: Buffer[] = [];
    const done = new Promise<void>((resolve) => {
      socket.on("message", (data: Buffer) => {
        if (echoes.push(data) === 3) resolve();
      });
    });
    socket.send("one");
    socket.send(large);
    socket.send("three");
    await done;
    expect(echoes.map((data) => data.length)).toEqual([3, 300_000, 5]);
    expect(hashOf(echoes[1] as Buffer)).toBe(hashOf(large));
    socket.close();
    await once(socket, "close");
  });

  test("an upstream that answers with nonsense, or not at all", async () => {
    for (const answer of ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", ""]) {
      const upstream = createRawServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", () => socket.end(answer));
      });
      await using own = await openProxy(await listen(upstream));
      const text = await exchangeBytes(own.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      expect(text).toMatch(/^HTTP\/1\.1 502 /);
      expect(text).toContain(`x-reset: ${answer === "" ? "connection-termination" : "protocol-error"}`);
      upstream.close();
    }
  });

  test("a client that closes its half still gets its answer", async () => {
    const socket = connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.end("POST /echo-length HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    const text = (await socket.toArray()).join("");
    socket.destroy();
    expect(text.endsWith("\r\n\r\nok")).toBe(true);
  });

  test("a download that nobody reads does not fill our memory", async () => {
    let written = 0;
    const upstream = createServer((_, response) => {
      const chunk = Buffer.alloc(64 * 1024);
      const fill = () => {
        while (response.write(chunk)) written += chunk.length;
        written += chunk.length;
        if (written < 100 * 1024 * 1024) response.once("drain", fill);
      };
      fill();
    });
    await using own = await openProxy(await listen(upstream));
    const outgoing = request({ port: own.port, host: "127.0.0.1" });
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    answer.pause();
    let before = -1;
    // Until everything between the two has filled up.
    while (before !== written) {
      before = written;
      await turns(200);
    }
    expect(written).toBeLessThan(40 * 1024 * 1024);
    outgoing.destroy();
    upstream.closeAllConnections();
    upstream.close();
  });
});
