import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { HpackDecoder, HpackError } from "./http2-hpack-decoder.ts";
import { fieldOverhead, HpackEncoder, roomFor } from "./http2-hpack-encoder.ts";
import { seen } from "./http2-hpack-tables.ts";
import { hpackInteger, latest, literal, remembered } from "./testing/raw-http2.ts";

const limits = { maxBytes: 61_440, maxFields: 100 };

function decode(decoder: HpackDecoder, hex: string): Record<string, unknown> {
  const block = Buffer.from(hex.replaceAll(" ", ""), "hex");
  decoder.decode(block, 0, block.length);
  const { method, scheme, path, authority, status, pairs } = decoder;
  const pseudo = Object.entries({ method, scheme, path, authority, status }).filter(
    ([name]) => (decoder.seen & seen[name as "method"]) !== 0,
  );
  return { ...Object.fromEntries(pseudo), pairs };
}

// The examples of RFC 7541, appendix C.
test("requests without Huffman code", () => {
  const decoder = new HpackDecoder(limits);
  expect(decode(decoder, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")).toEqual({
    method: "GET",
    scheme: "http",
    path: "/",
    authority: "www.example.com",
    pairs: [],
  });
  expect(decode(decoder, "8286 84be 5808 6e6f 2d63 6163 6865")).toMatchObject({ pairs: ["cache-control", "no-cache"] });
  expect(decode(decoder, "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")).toEqual({
    method: "GET",
    scheme: "https",
    path: "/index.html",
    authority: "www.example.com",
    pairs: ["custom-key", "custom-value"],
  });
});

test("requests with Huffman code", () => {
  const decoder = new HpackDecoder(limits);
  expect(decode(decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).toMatchObject({ authority: "www.example.com" });
  expect(decode(decoder, "8286 84be 5886 a8eb 1064 9cbf")).toMatchObject({ pairs: ["cache-control", "no-cache"] });
  expect(decode(decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")).toMatchObject({
    pairs: ["custom-key", "custom-value"],
  });
});

test("responses with Huffman code", () => {
  const decoder = new HpackDecoder(limits);
  const first =
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
  const date = "Mon, 21 Oct 2013 20:13:21 GMT";
  const location = ["location", "https://www.example.com"];
  expect(decode(decoder, first)).toEqual({
    status: "302",
    pairs: ["cache-control", "private", "date", date, ...location],
  });
  expect(decode(decoder, "4883 640e ffc1 c0bf")).toMatchObject({ status: "307" });
  const third =
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
  expect(decode(decoder, third)).toMatchObject({
    status: "200",
    pairs: [
      "cache-control",
      "private",
      "date",
      "Mon, 21 Oct 2013 20:13:22 GMT",
      ...location,
      "content-encoding",
      "gzip",
      "set-cookie",
      "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
  });
});

// prettier-ignore
test.each<readonly [string, string]>([
  ["80",                        "index 0"],
  ["be",                        "an entry that is not there"],
  ["ffffff03",                  "an index far outside"],
  ["ffffffffffffff7f",          "a number without end"],
  ["400a63757374",              "a string cut off"],
  ["40",                        "no string at all"],
  ["3fe21f",                    "a table larger than allowed"],
  ["8220",                      "a table resized within a section"],
  ["0081008100"  ,           "Huffman padding of zeros"],
  ["0085ffffffffff00",          "Huffman padding longer than seven bits"],
  ["0084fffffffc00",            "the end-of-string symbol"],
])("%s is refused: %s", (hex) => {
  expect(() => decode(new HpackDecoder(limits), hex)).toThrow(HpackError);
});

describe("what a section may say", () => {
  const decodeFields = (...parts: readonly Uint8Array[]) => {
    const decoder = new HpackDecoder(limits);
    const block = Buffer.concat(parts);
    decoder.decode(block, 0, block.length);
    return decoder;
  };

  // prettier-ignore
  test.each<readonly [string, string, boolean, string]>([
    ["x-a",        "b",             false, "ordinary"],
    ["X-A",        "b",             true,  "upper case"],
    ["x a",        "b",             true,  "a blank in a name"],
    ["x\0a",       "b",             true,  "a zero in a name"],
    ["",           "b",             true,  "no name"],
    [":x",         "b",             true,  "unknown pseudo-field"],
    ["x-a",        "b\r\nc: d",     true,  "line feed in a value"],
    ["x-a",        "b\0c",          true,  "zero in a value"],
    ["x-a",        " b",            true,  "blank before a value"],
    ["x-a",        "b\t",           true,  "tab after a value"],
    ["x-a",        "b c\td",        false, "blank and tab within"],
    ["x-a",        "\xe9",          false, "octets beyond ASCII"],
    ["x-a",        "",              false, "an empty value"],
  ])("%j: %j is malformed: %j, %s", (name, value, isMalformed) => {
    const decoder = decodeFields(literal(name, value));
    expect((decoder.seen & seen.malformed) !== 0).toBe(isMalformed);
  });

  test("a malformed field stays malformed in the table", () => {
    expect(decodeFields(remembered("x", "a\nb"), latest).seen & seen.malformed).not.toBe(0);
    const decoder = decodeFields(remembered("x", "a\nb"));
    decoder.decode(latest, 0, 1);
    expect(decoder.seen & seen.malformed).not.toBe(0);
  });

  test("pseudo-fields come first, and once", () => {
    expect(decodeFields(literal("a", "b"), literal(":path", "/")).seen & seen.malformed).not.toBe(0);
    expect(decodeFields(literal(":path", "/"), literal(":path", "/")).seen & seen.malformed).not.toBe(0);
  });

  test("a list that unpacks is counted, not kept", () => {
    const decoder = decodeFields(remembered("x", "y".repeat(3_900)), ...Array.from({ length: 10_000 }, () => latest));
    expect(decoder.isTooLarge).toBe(true);
    expect(decoder.bytes).toBeGreaterThan(39_000_000);
    expect(decoder.pairs.length).toBeLessThan(40);
  });
});

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const value = fc.oneof(
  fc.constantFrom("gzip", "0", "text/plain", ""),
  fc.stringMatching(/^[\x21-\x7e]{0,80}$/),
  fc.stringMatching(/^[\xa1-\xff]{1,5}$/),
  fc.nat(3).map((n) => `v${n}`.repeat(60 * n)),
);
const section = fc.array(fc.tuple(fc.oneof(fc.constantFrom("date", "x-request-id", "cookie", "etag"), name), value), {
  maxLength: 30,
});

test("what the encoder writes, the decoder reads, whatever the table did meanwhile", () => {
  const dropped = new Set([
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "host",
    "te",
  ]);
  fc.assert(
    fc.property(fc.array(fc.tuple(section, fc.option(fc.nat(5_000))), { maxLength: 40 }), (sections) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder({ maxBytes: 10_000_000, maxFields: 1_000 });
      for (const [pairs, limit] of sections) {
        if (limit !== null) encoder.limit(limit);
        const sent = pairs.filter(([key]) => !dropped.has(key));
        const room = 16 + sent.reduce((sum, [key, text]) => sum + roomFor(key) + roomFor(text) + fieldOverhead, 16);
        const out = Buffer.alloc(room);
        let at = encoder.begin(out, 0);
        at = encoder.status(out, at, 503);
        for (const [key, text] of pairs) at = encoder.field(out, at, key, text);
        decoder.decode(out, 0, at);
        expect(decoder.status).toBe("503");
        expect(decoder.pairs).toEqual(sent.flat());
      }
    }),
    { numRuns: 200 },
  );
});

test("octets of any kind are decoded or refused, and nothing else happens", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (blocks) => {
      const decoder = new HpackDecoder(limits);
      let failure: unknown;
      try {
        for (const block of blocks) decoder.decode(Buffer.from(block), 0, block.length);
      } catch (error) {
        failure = error;
      }
      expect(failure === undefined || failure instanceof HpackError).toBe(true);
    }),
  );
});

test("what repeats shrinks to an octet each; secrets and what always changes do not fill the table", () => {
  const encoder = new HpackEncoder();
  const out = Buffer.alloc(4_096);
  const size = (pairs: readonly (readonly [string, string])[]) =>
    pairs.reduce((at, [key, text]) => encoder.field(out, at, key, text), encoder.begin(out, 0));
  const stable: readonly (readonly [string, string])[] = [
    ["content-type", "application/grpc"],
    ["server", "istio-envoy"],
  ];
  size(stable);
  for (let round = 0; round < 50; round++)
    size([
      ["x-request-id", `${round}-4b3c-9f`],
      ["authorization", "Bearer abcdef"],
    ]);
  expect(size(stable)).toBe(2);
  expect(size([["authorization", "Bearer abcdef"]])).toBeGreaterThan(10);
  expect(hpackInteger(0, 5, 1_337)).toEqual(Buffer.from([31, 154, 10]));
});

test("a name beyond Latin-1 cannot smuggle a line feed", () => {
  const encoder = new HpackEncoder();
  const out = Buffer.alloc(64);
  const decoder = new HpackDecoder(limits);
  decoder.decode(out, 0, encoder.field(out, 0, "x", "a\u010ab"));
  expect(decoder.pairs).toEqual(["x", Buffer.from("a\u010ab").toString("latin1")]);
  expect(decoder.seen & seen.malformed).toBe(0);
});
