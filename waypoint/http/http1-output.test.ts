import { Duplex } from "node:stream";
import { describe, expect, test } from "@jest/globals";
import { Headers } from "./headers.ts";
import { Http1Output, type Framing } from "./http1-output.ts";

/** What it was given to write, as it was given. */
function makeOutput() {
  const written: unknown[] = [];
  const duplex = new Duplex({
    decodeStrings: false,
    read: () => {},
    write: (chunk: unknown, _encoding, done) => {
      written.push(chunk);
      done();
    },
  });
  const invalid: string[] = [];
  const output = new Http1Output(duplex, { outputInvalid: (why) => invalid.push(why) }, "lower");
  return { output, written, invalid };
}

describe("strings are never written: those of HTTP/2 streams may be freed before they are sent", () => {
  test.each<[Framing, number]>([
    ["chunks", 10],
    ["chunks", 100_000],
    ["length", 10],
    ["length", 100_000],
    ["until-close", 100_000],
  ])("%s, pieces of %i bytes", (framing, size) => {
    const { output, written, invalid } = makeOutput();
    const piece = Buffer.alloc(size, "a");
    output.begin("HTTP/1.1 200 OK\r\n", 1, framing, 3 * size);
    for (let count = 0; count < 3; count++) output.write(piece);
    output.end(framing === "chunks" ? new Headers(["x-sum", "1"]) : undefined);
    expect(invalid).toEqual([]);
    expect(written.filter((chunk) => !Buffer.isBuffer(chunk))).toEqual([]);
    const text = Buffer.concat(written as Buffer[]).toString("latin1");
    const frames = { chunks: `${size.toString(16)}\r\n${"a".repeat(size)}\r\n`.repeat(3), other: "a".repeat(3 * size) };
    expect(text).toBe(
      framing === "chunks"
        ? `HTTP/1.1 200 OK\r\n\r\n${frames.chunks}0\r\nx-sum: 1\r\n\r\n`
        : `HTTP/1.1 200 OK\r\n\r\n${frames.other}`,
    );
  });
});
