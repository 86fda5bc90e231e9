import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { ResetBudget } from "./reset-budget.ts";

test("a burst of 2 000 passes, then 500 a second, and a pause does not save up more than a burst", async () => {
  const clock = new FakeClock();
  const budget = new ResetBudget(clock);
  const taken = () => {
    let count = 0;
    while (budget.take()) count++;
    return count;
  };
  expect(taken()).toBe(2_000);
  await clock.advance(1_000);
  expect(taken()).toBe(500);
  await clock.advance(1);
  expect(taken()).toBe(0); // half a reset is none, and is not lost
  await clock.advance(1);
  expect(taken()).toBe(1);
  await clock.advance(3_600_000);
  expect(taken()).toBe(2_000);
});
