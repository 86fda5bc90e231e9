/** What two servers might read differently is refused, the connection closed, and nothing of it reaches the backend. */
import { createServer } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { exchangeBytes, listen, openProxy, type TestProxy } from "./http1-testing.ts";
import { ambiguities, harmless, next } from "./testing/ambiguities.ts";

/** What an HTTP server that is not ours has seen. */
let seen: string[] = [];
const backend = createServer({ keepAliveTimeout: 0 }, (request, response) => {
  let body = "";
  request.on("data", (chunk: Buffer) => (body += chunk.toString("latin1")));
  request.on("end", () => {
    seen.push(`${request.method} ${request.url} ${body}`.trim());
    response.end("ok");
  });
});
let proxy: TestProxy;

beforeAll(async () => {
  proxy = await openProxy(await listen(backend));
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  backend.closeAllConnections();
  await new Promise((resolve) => backend.close(resolve));
});
beforeEach(() => {
  seen = [];
});

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
const answersIn = (answer: string) => answer.split(/HTTP\/1\.1 (?=\d{3} )/).length - 1;

describe("ambiguous requests", () => {
  test.each(ambiguities)("%s", async (_, bytes, status = 400) => {
    const answer = await exchangeBytes(proxy.port, bytes + next);
    expect(statusOf(answer)).toBe(status);
    expect(answer).toMatch(/\r\nconnection: close\r\n/);
    expect(answersIn(answer)).toBe(1);
    expect(seen).toEqual([]);
  });

  test.each(ambiguities)("%s, behind a good request and in two pieces", async (_, bytes, status = 400) => {
    const good = "GET /good HTTP/1.1\r\nHost: b\r\n\r\n";
    const half = bytes.length >> 1;
    const answer = await exchangeBytes(proxy.port, good + bytes.slice(0, half), bytes.slice(half) + next);
    expect(answersIn(answer)).toBe(2);
    expect(statusOf(answer)).toBe(200);
    expect(statusOf(answer.slice(answer.indexOf("HTTP/1.1", 1)))).toBe(status);
    expect(seen).toEqual(["GET /good"]);
  });
});

describe("requests that only look odd", () => {
  test.each(harmless)("%s", async (_, bytes, expected) => {
    const answer = await exchangeBytes(proxy.port, bytes + next);
    expect(answersIn(answer)).toBe(2);
    expect(answer).not.toMatch(/HTTP\/1\.1 [345]/);
    expect(seen).toEqual([...expected, "GET /next"]);
  });
});
