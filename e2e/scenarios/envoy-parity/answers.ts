/** What backends answer: every form of an answer, and what is none. */
import type { JsonObject } from "@bufbuild/protobuf";
import { http1, http2, type Case } from "./case.ts";

const to = (prefix: string, action: JsonObject = {}): JsonObject => ({
  match: { prefix },
  route: { cluster: "scripted", timeout: "0s", ...action },
});

export const answerRoutes: readonly JsonObject[] = [
  to("/retry", {
    retry_policy: {
      retry_on: "5xx,reset",
      num_retries: 1,
      retry_back_off: { base_interval: "0.001s", max_interval: "0.002s" },
    },
  }),
  to("/timeout", { timeout: "0.1s" }),
  to("/"),
];

const host = "answers.example";

interface Script {
  readonly ending?: "close" | "reset" | "stay";
  readonly method?: string;
  readonly path?: string;
  readonly body?: string;
  /** Further fields of the request. */
  readonly headers?: readonly (readonly [string, string])[];
}

const escaped = (bytes: string): string =>
  // oxlint-disable-next-line no-control-regex -- they are what cannot stand in a field
  bytes.replace(/[\x00-\x1f%\x7f-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);

/** HTTP/1 and HTTP/2 clients both. */
function answer(
  name: string,
  bytes: string,
  status: number | readonly [http1: number, http2: number],
  script: Script = {},
): readonly Case[] {
  const [first, second] = typeof status === "number" ? [status, status] : status;
  const { ending = "close", method = "GET", path = "/", body, headers = [] } = script;
  const told = [["x-bytes", escaped(bytes)], ["x-ending", ending], ...headers] as const;
  return [
    http1(name, host, path, first, { method, headers: told, ...(body !== undefined && { body }) }),
    http2(`${name} (HTTP/2)`, host, path, second, { ":method": method, ...Object.fromEntries(told) }, body),
  ];
}

const head = (status: string, ...fields: readonly string[]): string =>
  [`HTTP/1.1 ${status}`, ...fields, "", ""].join("\r\n");
const chunked = "transfer-encoding: chunked";

export const answerCases: readonly Case[] = [
  ...answer("an answer with a length", `${head("200 OK", "content-length: 5")}hello`, 200, { ending: "stay" }),
  ...answer("an answer of another length than told", `${head("200 OK", "content-length: 9")}hello`, 200),
  ...answer("an answer that is cut", `${head("200 OK", "content-length: 9")}hello`, 200, { ending: "reset" }),
  ...answer("an answer longer than told", `${head("200 OK", "content-length: 3")}hello`, 200),
  ...answer("an answer until the end", `${head("200 OK")}hello`, 200),
  ...answer("an answer until a reset", `${head("200 OK")}hello`, 200, { ending: "reset" }),
  ...answer("chunks", `${head("200 OK", chunked)}5\r\nhello\r\n0\r\n\r\n`, 200, { ending: "stay" }),
  ...answer("chunks with trailers", `${head("200 OK", chunked)}5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n`, 200),
  ...answer("chunks that are cut", `${head("200 OK", chunked)}5\r\nhello\r\n`, 200),
  ...answer("a broken chunk", `${head("200 OK", chunked)}x\r\nhello\r\n0\r\n\r\n`, 200),
  ...answer("an empty answer in chunks", `${head("200 OK", chunked)}0\r\n\r\n`, 200),
  ...answer("a length and chunks", `${head("200 OK", "content-length: 3", chunked)}5\r\nhello\r\n0\r\n\r\n`, 502),
  ...answer("another coding of an answer", `${head("200 OK", "transfer-encoding: gzip")}x`, 502),
  ...answer("two lengths of an answer", `${head("200 OK", "content-length: 3", "content-length: 4")}abcd`, 502),
  ...answer("a length twice", `${head("200 OK", "content-length: 3", "content-length: 3")}abc`, 502),
  ...answer("an answer's length that is none", `${head("200 OK", "content-length: -3")}abc`, 502),
  ...answer("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", 200),
  ...answer("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, { ending: "stay" }),
  ...answer("HTTP/1.0 in chunks", `HTTP/1.0 200 OK\r\n${chunked}\r\n\r\n5\r\nhello\r\n0\r\n\r\n`, 200),
  ...answer("no reason", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200),
  ...answer("another reason", head("200 Fine", "content-length: 0"), 200),
  ...answer("a status of its own", head("299 Own", "content-length: 0"), 299),
  ...answer("a status beyond", head("600 Own", "content-length: 0"), 600),
  ...answer("a status of two digits", head("20 OK", "content-length: 0"), [20, 0]),
  ...answer("no HTTP", "nonsense\r\n\r\n", 502),
  ...answer("another version", "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
  ...answer("nothing at all", "", 503),
  ...answer("nothing but a reset", "", 503, { ending: "reset" }),
  ...answer("half a head", "HTTP/1.1 200 OK\r\ncontent-le", 502),
  ...answer("half a head and a reset", "HTTP/1.1 200 OK\r\ncontent-le", 502, { ending: "reset" }),
  ...answer("nothing, and once more", "", 503, { path: "/retry" }),
  ...answer("half a head, and once more", "HTTP/1.1 200 OK\r\ncontent-le", 502, { path: "/retry" }),
  ...answer("a broken head, and once more", "nonsense\r\n\r\n", 502, { path: "/retry" }),
  ...answer("an answer of which nothing more comes", `${head("200 OK", "content-length: 9")}hello`, 200, {
    path: "/timeout",
    ending: "stay",
  }),
  ...answer("204 with a length", head("204 No Content", "content-length: 0"), 204),
  ...answer("204 with a body", `${head("204 No Content", "content-length: 3")}abc`, 502),
  ...answer("204 in chunks", `${head("204 No Content", chunked)}0\r\n\r\n`, 502),
  ...answer("304 with a length", head("304 Not Modified", "content-length: 5", "etag: x"), 304),
  ...answer("205 with a length", head("205 Reset Content", "content-length: 0"), 205),
  ...answer("HEAD answered with a length", head("200 OK", "content-length: 5"), 200, { method: "HEAD" }),
  ...answer("HEAD answered in chunks", head("200 OK", chunked), 200, { method: "HEAD" }),
  ...answer("HEAD answered with a body", `${head("200 OK", "content-length: 5")}hello`, 200, { method: "HEAD" }),
  ...answer("HEAD answered without a length", head("200 OK"), 200, { method: "HEAD" }),
  ...answer("early hints", `${head("103 Early Hints", "link: </a>")}${head("200 OK", "content-length: 0")}`, 200),
  ...answer("102 before the answer", `${head("102 Processing")}${head("200 OK", "content-length: 0")}`, 200),
  ...answer("100 that nobody waits for", `${head("100 Continue")}${head("200 OK", "content-length: 0")}`, 200),
  ...answer(
    "101 that nobody asked for",
    head("101 Switching Protocols", "upgrade: x", "connection: upgrade"),
    [101, 0],
  ),
  ...answer(
    "connection fields of an answer",
    head("200 OK", "content-length: 0", "connection: close, x-a", "x-a: 1", "keep-alive: 5"),
    200,
  ),
  ...answer("a folded field of an answer", head("200 OK", "content-length: 0", "x-a: b", " c"), 200),
  ...answer("a field of an answer without a colon", head("200 OK", "content-length: 0", "foo"), 502),
  ...answer("a space before a colon of an answer", head("200 OK", "content-length: 0", "x-a : b"), 502),
  ...answer("a zero in an answer", head("200 OK", "content-length: 0", "x-a: b\0c"), 502),
  ...answer("bytes above ASCII in an answer", head("200 OK", "content-length: 0", "x-a: \xe9\xff"), 200),
  ...answer("bare line feeds in an answer", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", 200),
  ...answer("a name of an answer with odd letters", head("200 OK", "content-length: 0", "x(a: b"), 502),
  ...answer("an empty name in an answer", head("200 OK", "content-length: 0", ": b"), 502),
  ...answer("two answers", `${head("200 OK", "content-length: 1")}a${head("200 OK", "content-length: 1")}b`, 200, {
    ending: "stay",
  }),
  ...answer(
    "many fields of an answer",
    head("200 OK", "content-length: 0", ...Array.from({ length: 150 }, (_, i) => `x-${i}: v`)),
    502,
  ),
  ...answer("a large field of an answer", head("200 OK", "content-length: 0", `x-a: ${"v".repeat(5_000)}`), 200),
  ...answer("the answer to a body", `${head("200 OK", "content-length: 2")}ok`, 200, {
    method: "POST",
    body: "hello",
    ending: "stay",
  }),
  ...answer("an error that closes", `${head("413 Too Large", "content-length: 2", "connection: close")}no`, 413, {
    method: "POST",
    body: "hello",
  }),
  ...answer(
    "fields that are Envoy's own",
    head(
      "200 OK",
      "content-length: 0",
      "x-envoy-overloaded: true",
      "x-envoy-upstream-service-time: 9",
      "x-envoy-attempt-count: 7",
      "x-envoy-degraded: 1",
      "x-envoy-immediate-health-check-fail: 1",
      "x-request-id: theirs",
      "server: theirs",
      "date: now",
      "via: them",
    ),
    200,
  ),
  ...answer(
    "gRPC without a status",
    `${head("200 OK", "content-type: application/grpc", "content-length: 2")}ok`,
    200,
    { method: "POST", body: "\0\0\0\0\0", headers: [["content-type", "application/grpc"]] },
  ),
  ...answer("an error of HTTP to gRPC", `${head("503 Busy", "content-type: text/plain", "content-length: 2")}no`, 503, {
    method: "POST",
    body: "\0\0\0\0\0",
    headers: [["content-type", "application/grpc"]],
  }),
];
