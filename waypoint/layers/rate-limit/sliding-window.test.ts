import { expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { SlidingWindow } from "./sliding-window.ts";

/** Requests every `gapMs` for `forMs`, beginning at `fromMs`; how many are admitted. */
function press(window: SlidingWindow, fromMs: number, forMs: number, gapMs: number): number {
  let admitted = 0;
  for (let ms = fromMs; ms < fromMs + forMs; ms += gapMs) if (window.take(ms)) admitted++;
  return admitted;
}

// prettier-ignore
test.each([ // requests per second, one before at this millisecond, gap of the others
  [10, undefined, 7], [10, undefined, 50], [10, -300, 7], [10, -990, 3], [1, undefined, 10], [100, -5, 1], [1000, undefined, 0.4],
])("%d per second over ten seconds, whatever was before (%s ms), asked every %d ms", (rate, beforeMs, gapMs) => {
  const window = new SlidingWindow(rate, 1000);
  if (beforeMs !== undefined) window.take(1000 + beforeMs);
  const admitted = press(window, 1000, 10_000, gapMs);
  expect(Math.abs(admitted - rate * 10)).toBeLessThanOrEqual(Math.max(1, rate * 10 * 0.01));
});

test("what was taken comes back one window later, and not before", () => {
  const window = new SlidingWindow(2, 1000);
  expect([
    window.take(0),
    window.take(400),
    window.take(999),
    window.take(1000),
    window.take(1399),
    window.take(1400),
  ]).toEqual([true, true, false, true, false, true]);
});

test("when there will be enough", () => {
  const window = new SlidingWindow(10, 1000);
  window.take(0, 4);
  window.take(500, 4);
  expect([window.untilMs(600, 2), window.untilMs(600, 3), window.untilMs(600, 7), window.untilMs(600, 11)]).toEqual([
    0,
    400,
    900,
    Infinity,
  ]);
  expect(window.untilFillMs(600)).toBe(400);
  expect(window.untilFillMs(5000)).toBe(0);
});

test("what is charged afterwards is owed for one window", () => {
  const window = new SlidingWindow(10, 1000);
  window.charge(0, 25);
  expect([window.tokens(0), window.tokens(999), window.tokens(1000)]).toEqual([-15, -15, 10]);
});

test("no stretch of one window admits more than the rate", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 300 }),
      (rate, gaps) => {
        const window = new SlidingWindow(rate, 1000);
        const admitted: number[] = [];
        let nowMs = 0;
        for (const gap of gaps) {
          nowMs += gap;
          if (window.take(nowMs)) admitted.push(nowMs);
        }
        for (const [index, at] of admitted.entries()) {
          const within = admitted.slice(index).filter((each) => each < at + 1000);
          expect(within.length).toBeLessThanOrEqual(rate);
        }
      },
    ),
  );
});

test("memory is bounded however many ask", () => {
  const window = new SlidingWindow(1_000_000, 1000);
  for (let ms = 0; ms < 20_000; ms += 0.25) window.take(ms);
  expect(window.size).toBeLessThan(600);
  // What was taken in the last second, and up to a 256th of one more.
  expect(window.tokens(20_000)).toBeLessThanOrEqual(996_000);
  expect(window.tokens(20_000)).toBeGreaterThan(995_980);
});
