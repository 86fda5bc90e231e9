import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { bucketRate, TokenBucket } from "./token-bucket.ts";

describe("a bucket of 10, filled with 10 every second", () => {
  const taken = (bucket: TokenBucket, nowMs: number, tries: number): number => {
    let count = 0;
    for (let each = 0; each < tries; each++) if (bucket.take(nowMs)) count++;
    return count;
  };

  // prettier-ignore
  test.each([ // at which millisecond, tries, admitted (one bucket, in this order)
    [[[0, 25, 10], [350, 5, 0], [999, 5, 0], [1000, 25, 10]]],
    [[[0, 3, 3], [500, 25, 7], [1000, 25, 10], [3999, 25, 10], [4000, 25, 10]]],
  ])("%j", (steps) => {
    const bucket = new TokenBucket(bucketRate(10, 1000), 0);
    expect(steps.map(([ms = 0, tries = 0]) => [ms, tries, taken(bucket, ms, tries)])).toEqual(steps);
  });

  test("a caller who never stops asking gets exactly its share", () => {
    const bucket = new TokenBucket(bucketRate(10, 1000), 0);
    let admitted = 0;
    for (let ms = 0; ms < 10_000; ms += 7) if (bucket.take(ms)) admitted++;
    expect(admitted).toBe(100);
  });
});

test("a burst below the rate spreads the requests over the interval", () => {
  expect(bucketRate(100, 60_000, 20)).toEqual({ maxTokens: 20, tokensPerFill: 20, fillIntervalMs: 12_000 });
});

test("a burst above the rate is there at first only", () => {
  const bucket = new TokenBucket(bucketRate(10, 1000, 30), 0);
  expect(bucket.take(0, 30)).toBe(true);
  expect(bucket.tokens(1000)).toBe(10);
});

test("what is charged afterwards is owed", () => {
  const bucket = new TokenBucket(bucketRate(10, 1000), 0);
  bucket.charge(0, 25);
  expect(bucket.tokens(0)).toBe(-15);
  expect(bucket.tokens(1000)).toBe(-5);
  expect(bucket.untilMs(1000, 1)).toBe(1000);
  expect(bucket.take(2000)).toBe(true);
});

test("more than a bucket holds is never there", () => {
  const bucket = new TokenBucket(bucketRate(10, 1000), 0);
  expect(bucket.take(0, 11)).toBe(false);
  expect(bucket.untilMs(0, 11)).toBe(Infinity);
});

test("no interval, counted from the first request, lets more pass than the rate", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 5000 }),
      fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 200 }),
      (requests, perMs, gaps) => {
        const bucket = new TokenBucket(bucketRate(requests, perMs), 0);
        const admitted = new Map<number, number>();
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          const interval = Math.floor(nowMs / perMs);
          if (bucket.take(nowMs)) admitted.set(interval, (admitted.get(interval) ?? 0) + 1);
        }
        for (const count of admitted.values()) expect(count).toBeLessThanOrEqual(requests);
      },
    ),
  );
});
