import { describe, expect, test } from "@jest/globals";
import { combineHash, hash64, murmurHash2 } from "./hash.ts";

describe("hashes agree with Envoy", () => {
  // prettier-ignore
  test.each([ // text, xxHash64
    ["foo", 3_728_699_739_546_630_719n],
    ["/",   16_761_507_700_594_825_962n],
    ["",    17_241_709_254_077_376_921n],
  ])("xxHash64 of %j", (text, hash) => {
    expect(hash64(text)).toBe(hash);
  });

  // prettier-ignore
  test.each([ // text, std::hash of GNU's C++ library
    ["",               6_142_509_188_972_423_790n],
    ["foo",            9_631_199_822_919_835_226n],
    ["abcdefgh",       8_664_279_048_047_335_611n],
    ["abcdefghi",      13_036_955_925_923_793_583n],
    ["127.0.0.1:90_0", 5_656_417_760_668_758_976n],
  ])("MurmurHash2 of %j", (text, hash) => {
    expect(murmurHash2(text)).toBe(hash);
  });

  test("policies combine by rotation", () => {
    expect(combineHash(undefined, 5n)).toBe(5n);
    expect(combineHash(2n ** 63n, 0n)).toBe(1n);
    expect(combineHash(1n, 3n)).toBe(1n);
  });
});
