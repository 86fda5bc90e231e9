import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { readSettled } from "./read-settled.ts";

// prettier-ignore
test.each<readonly [string, readonly string[], string, number]>([ // why, what each look finds, what is read, looks
  ["nothing has changed",                     ["old"],                        "old",   1],
  ["it is whole",                             ["new", "new"],                 "new",   2],
  ["it is empty while it is written",         ["", "new", "new"],             "new",   3],
  ["it is written in several steps",          ["", "ne", "new", "new"],       "new",   4],
  ["it is as before again",                   ["", "old"],                    "old",   2],
  ["it is empty and stays so",                ["", ""],                       "",      2],
  ["it is written to all the time",           Array.from({ length: 99 }, (_, at) => `${at}`), "20", 21],
])("%s", async (_why, finds, expected, looks) => {
  const clock = new FakeClock();
  let looked = 0;
  const reading = readSettled({
    read: () => Promise.resolve(finds[looked++]),
    isAsBefore: (found) => found === "old",
    clock,
  });
  await clock.advance(10_000);
  expect(await reading).toBe(expected);
  expect(looked).toBe(looks);
});

test("the signal ends the wait", async () => {
  const closing = new AbortController();
  const clock = new FakeClock();
  const read = () => Promise.resolve("new");
  const reading = readSettled({ read, isAsBefore: () => false, clock, signal: closing.signal });
  await clock.advance(0);
  closing.abort(new Error("closed"));
  await expect(reading).rejects.toThrow("closed");
  expect(clock.pending).toBe(0);
});
