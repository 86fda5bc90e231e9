import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { returnMemory } from "./return-memory.ts";

const mib = 1024 * 1024;

test("trims when memory has grown, and not for less, until it is disposed of", async () => {
  const clock = new FakeClock();
  let resident = 90 * mib;
  let trims = 0;
  const tidy = returnMemory({
    clock,
    residentBytes: () => resident,
    trim: () => {
      trims++;
      resident = 95 * mib;
    },
  });
  resident = 92 * mib;
  await clock.advance(20_000);
  expect(trims).toBe(0);
  resident = 200 * mib;
  await clock.advance(5_000);
  expect(trims).toBe(1);
  await clock.advance(20_000);
  expect(trims).toBe(1);
  resident = 104 * mib;
  await clock.advance(5_000);
  expect(trims).toBe(2);
  tidy[Symbol.dispose]();
  resident = 300 * mib;
  await clock.advance(20_000);
  expect(trims).toBe(2);
});
