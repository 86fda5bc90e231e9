/** What requests look like: paths and their corners, versions of HTTP, heads, bodies. */
import { http1, http2, raw, type Case } from "./case.ts";

const host = "plain.example";

const corners = [
  "/a/../b",
  "/a/./b",
  "/a/b/..",
  "/a/b/.",
  "/..",
  "/../../x",
  "//a//b",
  "/a//../b",
  "/a%2Fb",
  "/a%2fb%5Cc",
  "/a\\b",
  "/a\\..\\b",
  "/%2e%2e/b",
  "/a/%2E%2e/b",
  "/a/.%2e/b?x=../y",
  "/%41%7E%25",
  "/a%zz",
  "/a%",
  "/a%00b",
  "/a;b=c/d",
  "/caf%C3%A9",
  "/a?b?c#d",
  "/a#frag",
  "/a b",
  "/%2f%2f",
  "/a/%5c../b",
  "/?",
  "/a/..;/b",
  "/.a/...",
] as const;

/** Where the answer is not 200, for every listener. */
const refusedCorners: Readonly<Record<string, number>> = {
  "/a%00b": 400,
  "/a?b?c#d": 400,
  "/a#frag": 400,
  "/a b": 400,
};

/** Listener → path → status, where that listener has rules of its own. */
const slashes = ["/a%2Fb", "/a%2fb%5Cc", "/%2f%2f", "/a/%5c../b"];
const special: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "as-written": { "/a%00b": 200 },
  "escapes-rejected": Object.fromEntries(slashes.map((path) => [path, 400])),
  "escapes-redirected": Object.fromEntries(slashes.map((path) => [path, 307])),
};

const cornersOf = (listener: string): readonly Case[] =>
  corners.map((path) =>
    http1(`${listener}: ${path}`, host, path, special[listener]?.[path] ?? refusedCorners[path] ?? 200, { listener }),
  );

export const pathCases: readonly Case[] = [
  ...["main", "as-written", "merging", "escapes-rejected", "escapes-redirected", "escapes-undone"].flatMap(cornersOf),
  raw("an absolute target", 200, `GET http://plain.example/abs?x HTTP/1.1\r\nHost: other.example\r\n\r\n`),
  raw("an absolute target without a path", 200, `GET http://plain.example HTTP/1.1\r\nHost: other.example\r\n\r\n`),
  raw(
    "an absolute target with a query only",
    404,
    `GET http://plain.example?x=1 HTTP/1.1\r\nHost: other.example\r\n\r\n`,
  ),
  raw("an absolute target of https", 200, `GET https://plain.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n`),
  raw("an absolute target with a port", 200, `GET http://plain.example:8080/x HTTP/1.1\r\nHost: other.example\r\n\r\n`),
  raw("a target without a slash", 400, `GET x HTTP/1.1\r\nHost: plain.example\r\n\r\n`),
  raw("OPTIONS of everything", 404, `OPTIONS * HTTP/1.1\r\nHost: plain.example\r\n\r\n`),
  http2("dots over HTTP/2", host, "/a/../b?c", 200),
];

export const protocolCases: readonly Case[] = [
  http1("HEAD", host, "/x", 200, { method: "HEAD" }),
  http1("HEAD of an error", "nobody.example", "/x", 404, { method: "HEAD" }),
  http1("a method of its own", host, "/x", 200, { method: "PURGE" }),
  http1("a body", host, "/x", 200, { method: "POST", body: "hello" }),
  http1("an empty body", host, "/x", 200, { method: "POST", body: "" }),
  raw("POST without a length", 200, `POST /x HTTP/1.1\r\nHost: ${host}\r\n\r\n`),
  http1("a body with DELETE", host, "/x", 200, { method: "DELETE", body: "x" }),
  raw(
    "a body in chunks",
    200,
    `POST /x HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
  ),
  raw(
    "chunks with extensions and trailers",
    200,
    `POST /x HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n`,
  ),
  raw(
    "length and chunks",
    400,
    `POST /x HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ),
  raw("two lengths", 400, `POST /x HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`),
  raw("a length that is none", 400, `POST /x HTTP/1.1\r\nHost: ${host}\r\nContent-Length: abc\r\n\r\n`),
  raw("another coding", 501, `POST /x HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: gzip\r\n\r\n`),
  raw(
    "expected to continue",
    200,
    `POST /x HTTP/1.1\r\nHost: ${host}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc`,
  ),
  raw(
    "something else expected",
    417,
    `POST /x HTTP/1.1\r\nHost: ${host}\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc`,
  ),
  raw("no host", 400, "GET /x HTTP/1.1\r\n\r\n"),
  raw("an empty host", 404, "GET /x HTTP/1.1\r\nHost:\r\n\r\n"),
  raw("two hosts", 404, `GET /x HTTP/1.1\r\nHost: ${host}\r\nHost: b\r\n\r\n`),
  raw("a header without a colon", 400, `GET /x HTTP/1.1\r\nHost: ${host}\r\nfoo\r\n\r\n`),
  raw("a space before a colon", 400, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX-A : b\r\n\r\n`),
  raw("a folded header", 200, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX-A: b\r\n c\r\n\r\n`),
  raw("an underscore in a header", 200, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX_A: b\r\n\r\n`),
  raw("a zero in a header", 400, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX-A: b\0c\r\n\r\n`),
  raw("spaces around a value", 200, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX-A:  \t b  \t\r\n\r\n`),
  raw("bytes above ASCII", 200, `GET /x HTTP/1.1\r\nHost: ${host}\r\nX-A: \xe9\xff\r\n\r\n`),
  raw("bare line feeds", 200, `GET /x HTTP/1.1\nHost: ${host}\n\n`),
  raw("no HTTP at all", 400, "nonsense\r\n\r\n"),
  raw("HTTP of the future", 426, `GET /x HTTP/3.0\r\nHost: ${host}\r\n\r\n`),
  raw(
    "connection fields end here",
    200,
    `GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: X-A, close\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\n\r\n`,
  ),
  raw("TE of trailers", 200, `GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: te\r\nTE: trailers\r\n\r\n`),
  raw(
    "an upgrade that is not allowed",
    403,
    `GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: upgrade\r\nUpgrade: spdy\r\n\r\n`,
  ),
  raw(
    "an upgrade to h2c",
    200,
    `GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
  ),
  raw("CONNECT", 404, `CONNECT ${host}:80 HTTP/1.1\r\nHost: ${host}:80\r\n\r\n`),
  http1("headers that are Envoy's own", host, "/x", 200, {
    headers: [
      ["x-envoy-internal", "true"],
      ["x-envoy-original-path", "/y"],
      ["x-envoy-decorator-operation", "z"],
      ["x-forwarded-proto", "https"],
      ["x-request-id", "mine"],
      ["x-envoy-expected-rq-timeout-ms", "5"],
      ["x-forwarded-host", "h"],
      ["x-envoy-external-address", "1.2.3.4"],
      ["x-envoy-downstream-service-cluster", "c"],
      ["forwarded", "for=1"],
    ],
  }),
  http1("a list of addresses", host, "/x", 200, { headers: [["x-forwarded-for", "1.1.1.1, 2.2.2.2"]] }),
  http1("at the edge: a list of addresses", host, "/x", 200, {
    listener: "edge",
    headers: [
      ["x-forwarded-for", "1.1.1.1"],
      ["x-forwarded-proto", "https"],
      ["x-request-id", "mine"],
      ["x-envoy-retry-on", "5xx"],
    ],
  }),
  http1("at the edge: nothing", host, "/x", 200, { listener: "edge" }),
  http1("a server's name that passes", host, "/x", 200, {
    listener: "passing-server",
    headers: [["x-answer-with", '{"server":"theirs"}']],
  }),
  http1("a server's name that is replaced", host, "/x", 200, {
    headers: [
      ["x-answer-with", '{"server":"theirs","connection":"close","x-two":["a","b"],"set-cookie":["a=1","b=2"]}'],
    ],
  }),
  http1("a port taken from the host", "plain.example:1234", "/x", 200, { listener: "stripping" }),
  http1("a dot taken from the host", "plain.example.", "/x", 200, { listener: "stripping" }),
  http1("too many headers", host, "/x", 431, {
    listener: "small-heads",
    headers: Array.from({ length: 30 }, (_each, index) => [`x-${index}`, "v"] as const),
  }),
  http1("too large a head", host, "/x", 431, { listener: "small-heads", headers: [["x-large", "v".repeat(20_000)]] }),
  http1("too long a target", host, `/${"x".repeat(20_000)}`, 431, { listener: "small-heads" }),
  http1("HTTP/1.0 where it is not taken", host, "/x", 426, { version: "1.0" }),
  http1("HTTP/1.0", host, "/x", 200, { version: "1.0", listener: "old" }),
  http1("HTTP/1.0 that stays", host, "/x", 200, {
    version: "1.0",
    listener: "old",
    headers: [["Connection", "keep-alive"]],
  }),
  raw("HTTP/1.0 without a host", 200, "GET /x HTTP/1.0\r\n\r\n", "old"),
  http1("HTTP/1.0 with a body", host, "/x", 200, { version: "1.0", listener: "old", method: "POST", body: "abc" }),
  http2("HTTP/2", host, "/x?y", 200, { "x-a": ["1", "2"], cookie: ["a=1", "b=2"] }),
  http2("HTTP/2 with a body", host, "/x", 200, {}, "hello"),
  http2("HEAD over HTTP/2", host, "/x", 200, { ":method": "HEAD" }),
  http2("another scheme over HTTP/2", host, "/x", 200, { ":scheme": "https" }),
];
