import { describe, expect, test } from "@jest/globals";
import { fakeHost, pickerTools, tally, type FakeHost } from "../testing.ts";
import { EdfScheduler } from "./edf-scheduler.ts";
import { LeastRequest } from "./least-request.ts";
import { LoadBalancer, type HostGroup, type LoadBalancerConfig } from "./load-balancer.ts";
import type { BalancerConfig } from "./picker.ts";

const leastRequest: Extract<BalancerConfig, { readonly kind: "least-request" }> = {
  kind: "least-request",
  choices: 2,
  activeRequestBias: 1,
  scansAll: false,
  slowStart: undefined,
};
const roundRobin: BalancerConfig = { kind: "round-robin", slowStart: undefined };
const maglev: BalancerConfig = { kind: "maglev", tableSize: 1009, hashing: { usesHostname: false, balanceFactor: 0 } };

function balancer(config: Partial<LoadBalancerConfig> = {}, tools = pickerTools()) {
  const whole = { balancer: roundRobin, panicThreshold: 50, failsTrafficOnPanic: false, weighsLocalities: false };
  return new LoadBalancer<FakeHost>({ ...whole, ...config }, tools);
}
const levels = (...levels: (readonly HostGroup<FakeHost>[])[]) => ({
  levels,
  overprovisioningFactor: 140,
  countsWeights: false,
});
const group = (hosts: readonly FakeHost[], weight = 1): HostGroup<FakeHost> => ({ hosts, weight });
const hosts = (count: number, facts: Partial<FakeHost> = {}, prefix = "10.0.0") =>
  Array.from({ length: count }, (_, i) => fakeHost(`${prefix}.${i}:80`, facts));

describe("EDF", () => {
  test("interleaves by weight exactly", () => {
    const items = [
      { key: "a", weight: 5 },
      { key: "b", weight: 3 },
      { key: "c", weight: 2 },
    ];
    const weightOf = ({ weight }: { readonly weight: number }) => weight;
    const scheduler = new EdfScheduler(items, weightOf);
    expect([...tally(1000, () => scheduler.pick(weightOf))].toSorted(([a], [b]) => a.localeCompare(b))).toEqual([
      ["a", 500],
      ["b", 300],
      ["c", 200],
    ]);
    // Never far from its share, in any window.
    const window = tally(10, () => scheduler.pick(weightOf));
    expect(window.get("a")).toBe(5);
  });

  test("with nothing picks nothing", () => {
    expect(new EdfScheduler<number>([], () => 1).pick(() => 1)).toBeUndefined();
  });
});

describe("round robin", () => {
  test("goes round, and goes on where it was after an update", () => {
    const four = hosts(4);
    const lb = balancer();
    lb.update(levels([group(four)]));
    const order = [lb.pick({}), lb.pick({})].map((host) => four.indexOf(host as FakeHost));
    expect(((order[1] as number) - (order[0] as number) + 4) % 4).toBe(1);
    lb.update(levels([group(four)]));
    expect(four.indexOf(lb.pick({}) as FakeHost)).toBe(((order[1] as number) + 1) % 4);
  });

  test("keeps to weights", () => {
    const lb = balancer();
    lb.update(levels([group([fakeHost("a", { weight: 1 }), fakeHost("b", { weight: 9 })])]));
    const counts = tally(1000, () => lb.pick({}));
    expect(Math.abs((counts.get("b") ?? 0) - 900)).toBeLessThan(2);
  });

  test("warms a new host up slowly", async () => {
    const tools = pickerTools();
    const slowStart = { windowMs: 60_000, aggression: 1, minWeight: 0.1 };
    const lb = balancer({ balancer: { kind: "round-robin", slowStart } }, tools);
    const old = fakeHost("old", { readySinceMs: tools.clock.now() - 120_000 });
    const fresh = fakeHost("fresh", { readySinceMs: tools.clock.now() });
    lb.update(levels([group([old, fresh])]));
    expect((tally(1100, () => lb.pick({})).get("fresh") ?? 0) / 1100).toBeCloseTo(1 / 11, 1);
    await tools.clock.advance(30_000);
    expect((tally(1500, () => lb.pick({})).get("fresh") ?? 0) / 1500).toBeCloseTo(1 / 3, 1);
    await tools.clock.advance(30_000);
    expect((tally(1000, () => lb.pick({})).get("fresh") ?? 0) / 1000).toBeCloseTo(1 / 2, 1);
  });
});

describe("least request", () => {
  test("prefers the less busy of two", () => {
    const [idle, busy] = [fakeHost("idle"), fakeHost("busy", { active: 10 })];
    const lb = balancer({ balancer: leastRequest });
    lb.update(levels([group([idle, busy])]));
    // Both draws fall on the busy one in a quarter of the cases.
    expect((tally(4000, () => lb.pick({})).get("busy") ?? 0) / 4000).toBeCloseTo(0.25, 1);
  });

  test("of two that are as busy the first drawn", () => {
    const [first, second] = [fakeHost("first", { active: 3 }), fakeHost("second", { active: 3 })];
    for (const draws of [
      [0.1, 0.9],
      [0.9, 0.1],
    ]) {
      const left = [...draws];
      const lb = new LeastRequest([first, second], leastRequest, {
        ...pickerTools(),
        random: () => left.shift() ?? 0,
      });
      expect(lb.pick()).toBe(draws[0] === 0.1 ? first : second);
    }
  });

  test("spreads evenly where all are idle", () => {
    const lb = balancer({ balancer: leastRequest });
    lb.update(levels([group(hosts(10))]));
    for (const count of tally(10_000, () => lb.pick({})).values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  test("with weights divides by how busy hosts are", () => {
    const heavy = fakeHost("heavy", { weight: 4, active: 3 });
    const lb = balancer({ balancer: leastRequest });
    lb.update(levels([group([fakeHost("light", { weight: 1 }), heavy])]));
    expect((tally(2000, () => lb.pick({})).get("heavy") ?? 0) / 2000).toBeCloseTo(0.5, 1);
  });

  test("looks at all where asked to", () => {
    const lb = balancer({ balancer: { ...leastRequest, scansAll: true } });
    const many = hosts(50, { active: 2 });
    (many[17] as FakeHost).active = 1;
    lb.update(levels([group(many)]));
    expect(lb.pick({})).toBe(many[17]);
  });
});

describe("load balancer", () => {
  test("spills over to the next priority as health falls", () => {
    const p0 = hosts(10, { priority: 0 });
    for (const host of p0.slice(5)) host.health = "unhealthy";
    const p1 = hosts(10, { priority: 1 }, "10.1.0");
    const lb = balancer();
    lb.update(levels([group(p0)], [group(p1)]));
    const counts = tally(10_000, () => lb.pick({}));
    const first = [...counts].filter(([key]) => key.startsWith("10.0")).reduce((sum, [, count]) => sum + count, 0);
    expect(first / 10_000).toBeCloseTo(0.7, 1);
    for (const host of p0.slice(5)) expect(counts.has(host.key)).toBe(false);
  });

  test("in panic uses every host, or none where told to fail", () => {
    const four = hosts(4, { health: "unhealthy" });
    (four[0] as FakeHost).health = "healthy";
    const lb = balancer();
    lb.update(levels([group(four)]));
    expect(tally(100, () => lb.pick({})).size).toBe(4);
    const strict = balancer({ failsTrafficOnPanic: true });
    strict.update(levels([group(four)]));
    expect(strict.pick({})).toBeUndefined();
  });

  test("never panics at threshold 0: nobody healthy, nobody picked", () => {
    const lb = balancer({ panicThreshold: 0 });
    lb.update(levels([group(hosts(4, { health: "unhealthy" }))]));
    expect(lb.pick({})).toBeUndefined();
  });

  test("weighs localities by weight and health", () => {
    const near = hosts(4, {}, "10.0.0");
    for (const host of near.slice(2)) host.health = "unhealthy";
    const lb = balancer({ weighsLocalities: true });
    lb.update(levels([group(near, 60), group(hosts(1, {}, "10.2.0"), 40)]));
    const counts = tally(8200, () => lb.pick({}));
    // 60 x 1.4 x 2/4 = 42 against 40.
    expect((counts.get("10.2.0.0:80") ?? 0) / 8200).toBeCloseTo(40 / 82, 2);
  });

  test("flattens localities where nothing says otherwise", () => {
    const lb = balancer();
    lb.update(levels([group(hosts(3), 99), group(hosts(1, {}, "10.2.0"), 1)]));
    expect(tally(400, () => lb.pick({})).get("10.2.0.0:80")).toBe(100);
  });

  test("stays away from hosts tried before while attempts last", () => {
    const two = hosts(2);
    const lb = balancer({ balancer: { kind: "random" } });
    lb.update(levels([group(two)]));
    const counts = tally(1000, () => lb.pick({ tried: new Set([two[0]]), attempts: 6 }));
    // Six draws on the tried host in a row: one in 64.
    expect(counts.get("10.0.0.0:80") ?? 0).toBeLessThan(40);
    expect(tally(1000, () => lb.pick({ tried: new Set(two), attempts: 6 })).get("none")).toBeUndefined();
  });

  test("retries leave priorities out that were attempted, until all were", () => {
    const levelOf = (priority: number) => fakeHost(`10.${priority}.0.0:80`, { priority });
    const [p0, p1, p2] = [levelOf(0), levelOf(1), levelOf(2)];
    const lb = balancer();
    lb.update(levels([group([p0])], [group([p1])], [group([p2])]));
    const after = (...attempted: FakeHost[]) => lb.pick({ previousPriorities: { updateFrequency: 1, attempted } });
    expect(after()).toBe(p0);
    expect(after(p0)).toBe(p1);
    expect(after(p0, p1)).toBe(p2);
    expect(after(p0, p1, p2)).toBe(p0);
    expect(lb.pick({ previousPriorities: { updateFrequency: 2, attempted: [p0] } })).toBe(p0);
    expect(lb.pick({ previousPriorities: { updateFrequency: 2, attempted: [p0, p0] } })).toBe(p1);
  });

  test("consistent hashing stays with a host, and without a hash draws", () => {
    const lb = balancer({ balancer: maglev });
    lb.update(levels([group(hosts(10))]));
    expect(tally(50, () => lb.pick({ hash: 12_345n })).size).toBe(1);
    expect(tally(1000, () => lb.pick({})).size).toBe(10);
  });

  test("consistent hashing leaves out who is unhealthy, also across localities", () => {
    const one = hosts(3);
    const two = hosts(3, { health: "unhealthy" }, "10.3.0");
    const lb = balancer({ balancer: maglev, panicThreshold: 0, weighsLocalities: true });
    lb.update(levels([group(one, 1), group(two, 9)]));
    expect([...tally(500, () => lb.pick({})).keys()].every((key) => key.startsWith("10.0"))).toBe(true);
  });

  test("without hosts picks nobody", () => {
    const lb = balancer();
    expect(lb.pick({})).toBeUndefined();
    lb.update(levels([]));
    expect(lb.pick({})).toBeUndefined();
  });
});
