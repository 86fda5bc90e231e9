import { describe, expect, test } from "@jest/globals";
import { decodeErrorStatuses, encodeErrorStatuses } from "./error-statuses.ts";

const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex");

test("one status is a condition, several are alternatives", () => {
  // error_matcher { http_response_headers_match { headers { name: ":status" string_match { exact: "429" } } } }
  const one = "0a14 3a12 0a10 0a07 3a737461747573 6a05 0a03 343239";
  expect(Buffer.from(encodeErrorStatuses([429])).toString("hex")).toBe(one.replaceAll(" ", ""));
  expect(decodeErrorStatuses(encodeErrorStatuses([429]))).toEqual(new Set([429]));
  expect(decodeErrorStatuses(encodeErrorStatuses([500, 503, 500]))).toEqual(new Set([500, 503]));
});

describe("what is no list of statuses", () => {
  test.each([
    ["nothing", ""],
    ["no condition", "0a00"],
    ["no alternatives", "0a02 0a00"],
    ["any answer", "0a02 2001"],
    ["requests", "0a14 2a12 0a10 0a07 3a737461747573 6a05 0a03 343239"],
    ["another header", "0a14 3a12 0a10 0a07 3a737461747574 6a05 0a03 343239"],
    ["no status", "0a14 3a12 0a10 0a07 3a737461747573 6a05 0a03 343278"],
    ["a prefix", "0a14 3a12 0a10 0a07 3a737461747573 6a05 1203 343239"],
    ["other than that", "0a16 3a14 0a12 0a07 3a737461747573 6a05 0a03 343239 4001"],
    ["two headers", "0a26 3a24 0a10 0a07 3a737461747573 6a05 0a03 343239 0a10 0a07 3a737461747573 6a05 0a03 343239"],
  ])("%s", (_what, bytes) => {
    expect(decodeErrorStatuses(hex(bytes))).toBeUndefined();
  });

  test("alternatives without end", () => {
    let bytes = hex("3a12 0a10 0a07 3a737461747573 6a05 0a03 343239");
    for (let depth = 0; depth < 12; depth++) {
      bytes = Buffer.concat([Uint8Array.of(0x0a, bytes.length), bytes]);
      bytes = Buffer.concat([Uint8Array.of(0x0a, bytes.length), bytes]);
    }
    expect(decodeErrorStatuses(Buffer.concat([Uint8Array.of(0x0a, bytes.length), bytes]))).toBeUndefined();
  });

  test("what is no message is said to be none", () => {
    expect(() => decodeErrorStatuses(hex("0a14 3a"))).toThrow("premature EOF");
  });
});
