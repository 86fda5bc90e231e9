/** HTTP/2 frame by frame: heads and bodies that are not what they should be, and those that look so. */
import { frameTypes } from "#waypoint/http/http2-frames.ts";
import { fields, flag, frame, request, uint32 } from "#waypoint/http/testing/raw-http2.ts";
import type { Case } from "./case.ts";

const host = "plain.example";

type Pair = readonly [name: string, value: string];

const head = (method: string, path: string, ...more: readonly Pair[]): Buffer =>
  fields([":method", method], [":scheme", "http"], [":path", path], [":authority", host], ...more);

/** Whatever stands in the head, and nothing after it. */
const get = (name: string, status: number, block: Uint8Array): Case => ({
  name: `frames: ${name}`,
  listener: "main",
  status,
  request: request(1, block),
});

/** A head, and frames after it. */
const post = (name: string, status: number, more: readonly Pair[], ...frames: readonly Uint8Array[]): Case => ({
  name: `frames: ${name}`,
  listener: "main",
  status,
  request: Buffer.concat([request(1, head("POST", "/x", ...more), 0), ...frames]),
});

const data = (text: string, flags: number = flag.endStream): Buffer =>
  frame(frameTypes.data, flags, 1, Buffer.from(text));
const trailers = (...pairs: readonly Pair[]): Buffer => request(1, fields(...pairs));

/** A head in as many frames as it takes. */
const inFrames = (block: Buffer): Buffer => {
  const most = 16_384;
  const count = Math.ceil(block.length / most);
  return Buffer.concat(
    Array.from({ length: count }, (_, index) => {
      const last = index === count - 1 ? flag.endHeaders : 0;
      const part = block.subarray(index * most, (index + 1) * most);
      return index === 0
        ? frame(frameTypes.headers, flag.endStream | last, 1, part)
        : frame(frameTypes.continuation, last, 1, part);
    }),
  );
};

export const frameCases: readonly Case[] = [
  get("a head", 200, head("GET", "/x")),
  get("a name in capitals", 0, head("GET", "/x", ["X-A", "b"])),
  get("an empty name", 0, head("GET", "/x", ["", "b"])),
  get("a blank in a name", 0, head("GET", "/x", ["x a", "b"])),
  get("a colon in a name", 0, head("GET", "/x", ["x:a", "b"])),
  get("a zero in a value", 0, head("GET", "/x", ["x-a", "b\0c"])),
  get("a line break in a value", 0, head("GET", "/x", ["x-a", "b\r\nc"])),
  get("blanks around a value", 200, head("GET", "/x", ["x-a", " b "])),
  get("only blanks", 200, head("GET", "/x", ["x-a", "  "])),
  get("bytes above ASCII in a value", 200, head("GET", "/x", ["x-a", "\xe9\xff"])),
  get("connection", 0, head("GET", "/x", ["connection", "close"])),
  get("keep-alive", 0, head("GET", "/x", ["keep-alive", "5"])),
  get("transfer-encoding", 0, head("GET", "/x", ["transfer-encoding", "chunked"])),
  get("upgrade", 0, head("GET", "/x", ["upgrade", "websocket"])),
  get("te of trailers", 200, head("GET", "/x", ["te", "trailers"])),
  get("te of more", 0, head("GET", "/x", ["te", "gzip"])),
  get("no method", 0, fields([":scheme", "http"], [":path", "/x"], [":authority", host])),
  get("no scheme", 0, fields([":method", "GET"], [":path", "/x"], [":authority", host])),
  get("no path", 0, fields([":method", "GET"], [":scheme", "http"], [":authority", host])),
  get("no authority", 0, fields([":method", "GET"], [":scheme", "http"], [":path", "/x"])),
  get("a host instead", 200, fields([":method", "GET"], [":scheme", "http"], [":path", "/x"], ["host", host])),
  get("a host beside", 200, head("GET", "/x", ["host", host])),
  get("another host beside", 200, head("GET", "/x", ["host", "other.example"])),
  get("a path twice", 0, head("GET", "/x", [":path", "/y"])),
  get(
    "a pseudo-field late",
    0,
    fields([":method", "GET"], [":scheme", "http"], ["x-a", "b"], [":path", "/x"], [":authority", host]),
  ),
  get("an unknown pseudo-field", 0, head("GET", "/x", [":x", "b"])),
  get("a status", 0, head("GET", "/x", [":status", "200"])),
  get("an empty path", 0, head("GET", "")),
  get("a path without a slash", 0, head("GET", "x")),
  get("an absolute path", 0, head("GET", "http://plain.example/x")),
  get("a star", 404, head("OPTIONS", "*")),
  get("a fragment", 400, head("GET", "/a#b")),
  get("a blank in a path", 0, head("GET", "/a b")),
  get("a path beyond ASCII", 200, head("GET", "/caf\xc3\xa9")),
  get(
    "user information",
    0,
    fields([":method", "GET"], [":scheme", "http"], [":path", "/x"], [":authority", `me@${host}`]),
  ),
  get("a method of its own", 200, head("PURGE", "/x")),
  get("a method with a blank", 0, head("A B", "/x")),
  get("another scheme", 200, fields([":method", "GET"], [":scheme", "ftp"], [":path", "/x"], [":authority", host])),
  get("a length without a body", 0, head("POST", "/x", ["content-length", "3"])),
  get("a length of none", 200, head("POST", "/x", ["content-length", "0"])),
  get("a length with GET", 200, head("GET", "/x", ["content-length", "0"])),
  get("a length that is none", 0, head("POST", "/x", ["content-length", "x"])),
  get("two lengths", 0, head("POST", "/x", ["content-length", "0"], ["content-length", "0"])),
  get("cookies in crumbs", 200, head("GET", "/x", ["cookie", "a=1"], ["x-a", "b"], ["cookie", "c=2"])),
  get("CONNECT", 404, fields([":method", "CONNECT"], [":authority", `${host}:80`])),
  get("a frame that is too large", 0, head("GET", "/x", ["x-a", "v".repeat(70_000)])),
  {
    name: "frames: a head that is too large",
    listener: "main",
    status: 0,
    request: inFrames(head("GET", "/x", ["x-a", "v".repeat(70_000)])),
  },
  {
    name: "frames: a large head",
    listener: "main",
    status: 200,
    request: inFrames(head("GET", "/x", ["x-a", "v".repeat(12_000)])),
  },
  get("many fields", 0, head("GET", "/x", ...Array.from({ length: 120 }, (_, index) => [`x-${index}`, "v"] as const))),
  post("a body", 200, [], data("hello")),
  post("an empty body", 200, [], data("")),
  post("a body of its length", 200, [["content-length", "5"]], data("hello")),
  post("a body that is shorter", 0, [["content-length", "9"]], data("hello")),
  post("a body that is longer", 0, [["content-length", "3"]], data("hello")),
  post("a body in parts", 200, [], data("hel", 0), data("", 0), data("lo")),
  post("trailers", 200, [], data("hello", 0), trailers(["x-t", "1"])),
  post("trailers and no body", 200, [], trailers(["x-t", "1"])),
  post("trailers with a pseudo-field", 0, [], data("hello", 0), trailers([":path", "/y"])),
  post("trailers that do not end", 0, [], data("hello", 0), request(1, fields(["x-t", "1"]), 0)),
  post("data after the end", 0, [], data("hello"), data("more")),
  post("a reset", 0, [], data("hel", 0), frame(frameTypes.reset, 0, 1, uint32(8))),
  post("an expectation", 200, [["expect", "100-continue"]], data("hello")),
  post("another expectation", 417, [["expect", "tea"]], data("hello")),
];
