import { expect, test } from "@jest/globals";
import { readQuantity } from "./quantity.ts";

test.each([
  ["250m", 0.25],
  ["1.5", 1.5],
  ["64Mi", 64 * 2 ** 20],
  ["1e3", 1000],
  ["2G", 2e9],
  ["-1", -1],
  [2, 2],
])("readQuantity(%j) is %d", (value, amount) => {
  expect(readQuantity(value)).toBeCloseTo(amount);
});

test.each(["", "many", "1Xi", undefined, null, {}])("readQuantity(%j) is none", (value) => {
  expect(readQuantity(value)).toBeUndefined();
});
