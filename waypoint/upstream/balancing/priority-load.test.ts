import { describe, expect, test } from "@jest/globals";
import { loadWithout, priorityLoad, type PriorityHealth } from "./priority-load.ts";
import { effectiveLocalityWeight } from "./load-balancer.ts";
import { slowStartFactor } from "./slow-start.ts";

/** healthy/total, degraded after a plus sign: `5/10`, `1+3/10`. */
function level(text: string): PriorityHealth {
  const [have = "", total = "0"] = text.split("/");
  const [healthy = "0", degraded = "0"] = have.split("+");
  const counts = { hosts: Number(total), healthy: Number(healthy), degraded: Number(degraded) };
  return {
    ...counts,
    totalWeight: counts.hosts,
    healthyWeight: counts.healthy,
    degradedWeight: counts.degraded,
    overprovisioningFactor: 140,
  };
}

type Row = [
  priorities: string[],
  threshold: number,
  healthy: number[],
  degraded: number[],
  panic: boolean[],
  why: string,
];

describe("priority load", () => {
  // prettier-ignore
  test.each([ // priorities, panic threshold, healthy, degraded, panic, why
    [["5/10", "10/10"],          50, [70, 30],     [0, 0],     [false, false], "half of P0 keeps 70 %"],
    [["9/10", "10/10"],          50, [100, 0],     [0, 0],     [false, false], "overprovisioned P0 keeps all"],
    [["1/10", "1/10"],           50, [50, 50],     [0, 0],     [true, true],   "both panic: by number of hosts"],
    [["1/10", "1/10"],            0, [50, 50],     [0, 0],     [false, false], "threshold 0 never panics"],
    [["0/10", "10/10"],          50, [0, 100],     [0, 0],     [false, false], "P1 takes over"],
    [["0/10", "0/10"],           50, [100, 0],     [0, 0],     [true, false],  "nobody: all to P0, in panic"],
    [["0/10", "0/10"],            0, [100, 0],     [0, 0],     [false, false], "nobody, never in panic"],
    [["0/0", "10/10"],           50, [0, 100],     [0, 0],     [false, false], "an empty P0 takes nothing"],
    [["2/10", "2/10", "2/10"],   50, [34, 33, 33], [0, 0, 0],  [true, true, true], "28 % each, in total panic by hosts"],
    [["3/10", "0+10/10"],        50, [42, 0],      [0, 58],    [false, false], "degraded hosts take what healthy ones cannot"],
    [["0+10/10"],                50, [0],          [100],      [false],        "only degraded hosts"],
    [["10/10"],                  50, [100],        [0],        [false],        "one priority"],
    [["1/20", "19/19"],          50, [7, 93],      [0, 0],     [false, false], "enough elsewhere: no panic"],
    [["1/20", "3/10", "1/100"],  50, [17, 7, 76],  [0, 0, 0],  [true, true, true], "all below: by number of hosts"],
  ] as readonly Row[])("%j, threshold %d: %j", (priorities, threshold, healthy, degraded, panic) => {
    expect(priorityLoad(priorities.map(level), threshold)).toEqual({ healthy, degraded, panic });
  });

  test("total panic goes by number of hosts, rounding to the first", () => {
    expect(priorityLoad([level("1/20"), level("1/80")], 50).healthy).toEqual([20, 80]);
    expect(priorityLoad([level("1/10"), level("1/10"), level("1/10")], 50).healthy).toEqual([34, 33, 33]);
    expect(priorityLoad([level("0/0"), level("1/10"), level("1/20")], 50).healthy).toEqual([0, 34, 66]);
  });

  test("without some priorities the others take their load", () => {
    const levels = [level("10/10"), level("10/10"), level("5/10")];
    expect(loadWithout(levels, new Set([0]))?.healthy).toEqual([0, 100, 0]);
    expect(loadWithout(levels, new Set([0, 1]))?.healthy).toEqual([0, 0, 100]);
    expect(loadWithout(levels, new Set([0, 1, 2]))).toBeUndefined();
  });
});

test("a locality keeps its weight as far as its health goes", () => {
  expect(effectiveLocalityWeight(60, { eligible: 2, total: 4 }, 140)).toBeCloseTo(42);
  expect(effectiveLocalityWeight(60, { eligible: 3, total: 4 }, 140)).toBe(60);
  expect(effectiveLocalityWeight(60, { eligible: 0, total: 0 }, 140)).toBe(0);
});

// prettier-ignore
test.each([ // age s, aggression, factor
  [0,  1, 0.1],
  [3,  1, 0.1],
  [30, 1, 0.5],
  [15, 2, 0.5],
  [59, 1, 59 / 60],
  [60, 1, 1],
  [90, 1, 1],
])("after %d s of 60 with aggression %d a host has %d of its weight", (ageSeconds, aggression, factor) => {
  const config = { windowMs: 60_000, aggression, minWeight: 0.1 };
  expect(slowStartFactor(config, ageSeconds * 1000)).toBeCloseTo(factor);
});
