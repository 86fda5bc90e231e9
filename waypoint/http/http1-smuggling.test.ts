/** What two servers might read differently is refused, the connection closed, and nothing of it reaches the backend. */
import { createServer } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { exchangeBytes, listen, openProxy, type TestProxy } from "./http1-testing.ts";

/** What an HTTP server that is not ours has seen. */
let seen: string[] = [];
const backend = createServer((request, response) => {
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

const next = "GET /next HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
const head = (...lines: string[]) => `${lines.join("\r\n")}\r\n\r\n`;
const post = (...lines: string[]) => head("POST / HTTP/1.1", "Host: b", ...lines);
const get = (...lines: string[]) => head("GET / HTTP/1.1", "Host: b", ...lines);
const chunked = "Transfer-Encoding: chunked";

const ambiguities: [why: string, bytes: string, status?: number][] = [
  ["both lengths", post("Content-Length: 5", chunked) + "0\r\n\r\n"],
  ["both lengths, the other way round", post(chunked, "Content-Length: 5") + "0\r\n\r\n"],
  ["two lengths that differ", post("Content-Length: 5", "Content-Length: 6") + "hello"],
  ["two lengths that agree", post("Content-Length: 5", "Content-Length: 5") + "hello"],
  ["a list of lengths", post("Content-Length: 5, 5") + "hello"],
  ["a length with a plus", post("Content-Length: +5") + "hello"],
  ["a length with a minus", post("Content-Length: -5") + "hello"],
  ["a length in hexadecimal", post("Content-Length: 0x5") + "hello"],
  ["a length with a space in it", post("Content-Length: 5 5") + "hello"],
  ["an empty length", post("Content-Length:") + "hello"],
  ["a length beyond all numbers", post("Content-Length: 99999999999999999999")],
  ["chunked twice", post(chunked, chunked) + "0\r\n\r\n"],
  ["chunked twice in a list", post("Transfer-Encoding: chunked, chunked") + "0\r\n\r\n"],
  ["an unknown coding", post("Transfer-Encoding: gzip") + "0\r\n\r\n", 501],
  ["a coding besides chunked", post("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n", 501],
  ["chunked that is not last", post("Transfer-Encoding: chunked, identity") + "0\r\n\r\n", 501],
  ["almost chunked", post("Transfer-Encoding: xchunked") + "0\r\n\r\n", 501],
  ["chunked with a parameter", post("Transfer-Encoding: chunked;q=1") + "0\r\n\r\n"],
  ["chunked in quotes", post('Transfer-Encoding: "chunked"') + "0\r\n\r\n"],
  ["chunked behind a vertical tab", post("Transfer-Encoding: \vchunked") + "0\r\n\r\n"],
  ["no coding at all", post("Transfer-Encoding:") + "0\r\n\r\n"],
  ["a folded coding", post("Transfer-Encoding:\r\n chunked") + "0\r\n\r\n"],
  ["a folded field", get("X-A: 1\r\n 2")],
  ["a first field that is folded", head("GET / HTTP/1.1", " X: 1", "Host: b")],
  ["space before the colon", post("Content-Length : 5") + "hello"],
  ["tab before the colon", post("Transfer-Encoding\t: chunked") + "0\r\n\r\n"],
  ["a field without a colon", get("X-A")],
  ["a field without a name", get(": 1")],
  ["a name that is no token", get("X(A): 1")],
  ["a name with a control byte", get("X\u0001A: 1")],
  ["a name beyond ASCII", get("X\u00e9: 1")],
  ["NUL in a value", get("X-A: a\0b")],
  ["a control byte in a value", get("X-A: a\u0007b")],
  ["DEL in a value", get("X-A: a\u007fb")],
  ["a bare CR in a value", get("X-A: a\rb")],
  ["a bare LF in a value", get("X-A: a\nX-B: b")],
  ["bare LFs all over", "GET / HTTP/1.1\nHost: b\n\n"],
  ["a bare LF behind the first line", "GET / HTTP/1.1\nHost: b\r\n\r\n"],
  ["a bare LF at the end of the head", "GET / HTTP/1.1\r\nHost: b\r\n\n"],
  ["CR CR LF", "GET / HTTP/1.1\r\r\nHost: b\r\n\r\n"],
  ["two empty lines first", `\r\n\r\n${get()}`],
  ["a bare LF first", `\n${get()}`],
  ["a space first", ` ${get()}`],
  ["two spaces in the first line", head("GET  / HTTP/1.1", "Host: b")],
  ["a tab in the first line", head("GET\t/ HTTP/1.1", "Host: b")],
  ["a space in the target", head("GET /a b HTTP/1.1", "Host: b")],
  ["a space behind the version", head("GET / HTTP/1.1 ", "Host: b")],
  ["NUL in the target", head("GET /\0 HTTP/1.1", "Host: b")],
  ["a byte beyond ASCII in the target", head("GET /\u00e9 HTTP/1.1", "Host: b")],
  ["a fragment", head("GET /a#b HTTP/1.1", "Host: b")],
  ["no version", "GET /\r\n\r\n"],
  ["HTTP/2.0", head("GET / HTTP/2.0", "Host: b")],
  ["HTTP/1.2", head("GET / HTTP/1.2", "Host: b")],
  ["HTTP/1.10", head("GET / HTTP/1.10", "Host: b")],
  ["HTTP/01.1", head("GET / HTTP/01.1", "Host: b")],
  ["http/1.1", head("GET / http/1.1", "Host: b")],
  ["HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
  ["HTTP/1.0 where it is not enabled", head("GET / HTTP/1.0", "Host: b"), 426],
  ["a method that is no token", head("G(T / HTTP/1.1", "Host: b")],
  ["no method", head(" / HTTP/1.1", "Host: b")],
  ["a target that is no path", head("GET b HTTP/1.1", "Host: b")],
  ["a star for GET", head("GET * HTTP/1.1", "Host: b")],
  ["another scheme", head("GET ftp://b/ HTTP/1.1", "Host: b")],
  ["user information", head("GET http://a@b/ HTTP/1.1", "Host: b")],
  ["CONNECT", head("CONNECT b:80 HTTP/1.1", "Host: b:80"), 403],
  ["no Host", head("GET / HTTP/1.1")],
  ["an empty Host", head("GET / HTTP/1.1", "Host:")],
  ["no Host with an absolute target", head("GET http://b/ HTTP/1.1")],
  ["two Hosts", get("Host: c")],
  ["two Hosts that agree", get("Host: b")],
  ["Host with user information", head("GET / HTTP/1.1", "Host: a@b")],
  ["Host with a path", head("GET / HTTP/1.1", "Host: b/c")],
  ["Host with a space", head("GET / HTTP/1.1", "Host: b c")],
  ["Hosts in a list", head("GET / HTTP/1.1", "Host: b, c")],
  ["Host with a port that is none", head("GET / HTTP/1.1", "Host: b:x")],
  ["Host with a port beyond all ports", head("GET / HTTP/1.1", "Host: b:65536")],
  ["Connection nominates Host", get("Connection: host")],
  ["Connection nominates Content-Length", post("Connection: content-length", "Content-Length: 5") + "hello"],
  ["Connection nominates Authorization", get("Connection: close, Authorization")],
  ["Connection nominates X-Forwarded-For", get("Connection: x-forwarded-for")],
  ["a chunk without a size", post(chunked) + "\r\n\r\n"],
  ["a chunk size with a sign", post(chunked) + "+1\r\na\r\n0\r\n\r\n"],
  ["a chunk size with 0x", post(chunked) + "0x1\r\na\r\n0\r\n\r\n"],
  ["a chunk size behind a space", post(chunked) + " 1\r\na\r\n0\r\n\r\n"],
  ["a chunk size before a space", post(chunked) + "1 \r\na\r\n0\r\n\r\n"],
  ["a chunk size before a bare LF", post(chunked) + "1\na\r\n0\r\n\r\n"],
  ["a chunk size beyond all numbers", post(chunked) + "ffffffffffffffff1\r\na\r\n0\r\n\r\n"],
  ["a chunk extension with a bare LF", post(chunked) + "1;a\nb\r\na\r\n0\r\n\r\n"],
  ["a chunk extension with a control byte", post(chunked) + "1;a\0\r\na\r\n0\r\n\r\n"],
  ["a chunk extension without end", post(chunked) + `1;${"a".repeat(300)}\r\na\r\n0\r\n\r\n`],
  ["a chunk longer than its size", post(chunked) + "1\r\nab\r\n0\r\n\r\n"],
  ["a chunk that ends with a bare LF", post(chunked) + "1\r\na\n0\r\n\r\n"],
  ["a chunk that ends with a bare CR", post(chunked) + "1\r\na\r0\r\n\r\n"],
  ["a length as a trailer", post(chunked) + "0\r\nContent-Length: 5\r\n\r\n"],
  ["a coding as a trailer", post(chunked) + "0\r\nTransfer-Encoding: chunked\r\n\r\n"],
  ["Host as a trailer", post(chunked) + "0\r\nHost: c\r\n\r\n"],
  ["a folded trailer", post(chunked) + "0\r\nX-A: 1\r\n 2\r\n\r\n"],
  ["too many fields", get(...Array.from({ length: 100 }, (_, i) => `X-${i}: 1`)), 431],
  ["a head too large", get(`X-A: ${"a".repeat(62_000)}`), 431],
  ["a target too long", head(`GET /${"a".repeat(40_000)} HTTP/1.1`, "Host: b"), 414],
  ["trailers too large", post(chunked) + `0\r\nX-A: ${"a".repeat(62_000)}\r\n\r\n`, 431],
];

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

const harmless: [why: string, bytes: string, seen: string[]][] = [
  ["nothing special", get(), ["GET /"]],
  ["one empty line first", `\r\n${get()}`, ["GET /"]],
  ["a body with a length", `${post("Content-Length: 5")}hello`, ["POST / hello"]],
  ["a length with leading zeros", `${post("Content-Length: 005")}hello`, ["POST / hello"]],
  ["a body in chunks", `${post(chunked)}5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n`, ["POST / hello!"]],
  ["chunked in capitals", `${post("Transfer-Encoding: CHUNKED")}0\r\n\r\n`, ["POST /"]],
  ["a body that looks like a request", `${post(`Content-Length: ${next.length}`)}${next}`, [`POST / ${next.trim()}`]],
  ["GET with a body", `${get("Content-Length: 5")}hello`, ["GET / hello"]],
  ["an absolute target", head("GET http://c/d?e HTTP/1.1", "Host: b"), ["GET /d?e"]],
  ["an absolute target without a path", head("GET http://c?e HTTP/1.1", "Host: b"), ["GET /?e"]],
  ["OPTIONS *", head("OPTIONS * HTTP/1.1", "Host: b"), ["OPTIONS *"]],
  ["underscores", get("X_A: 1"), ["GET /"]],
  ["bytes beyond ASCII in a value", get("X-A: \u00e9\u0080"), ["GET /"]],
  ["an offer of h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"), ["GET /"]],
  ["a nominated field", get("Connection: x-secret", "X-Secret: 1"), ["GET /"]],
];

describe("requests that only look odd", () => {
  test.each(harmless)("%s", async (_, bytes, expected) => {
    const answer = await exchangeBytes(proxy.port, bytes + next);
    expect(answersIn(answer)).toBe(2);
    expect(answer).not.toMatch(/HTTP\/1\.1 [345]/);
    expect(seen).toEqual([...expected, "GET /next"]);
  });
});
