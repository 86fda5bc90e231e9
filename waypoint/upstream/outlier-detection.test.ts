import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import type { AttemptOutcome } from "./clusters.ts";
import { OutlierDetector, successRateThreshold, type OutlierConfig, type Watched } from "./outlier-detection.ts";
import { OutlierRecord } from "./outlier-record.ts";

/** Envoy's defaults, but that rates eject nobody: as Istio configures it. */
const base: OutlierConfig = {
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 300_000,
  maxJitterMs: 0,
  maxEjectionPercent: 10,
  alwaysEjectsOne: false,
  consecutive5xx: { threshold: 5, enforcing: 100 },
  consecutiveGatewayFailures: { threshold: 5, enforcing: 0 },
  consecutiveLocalOriginFailures: { threshold: 5, enforcing: 100 },
  errorStatuses: undefined,
  splitsLocalOrigin: false,
  successRate: { minHosts: 5, minRequests: 100, stdevFactor: 1900, enforcing: 0, enforcingLocalOrigin: 0 },
  failurePercentage: { minHosts: 5, minRequests: 50, threshold: 85, enforcing: 0, enforcingLocalOrigin: 0 },
};

class TestHost implements Watched {
  readonly outlier = new OutlierRecord();
  readySinceMs = 0;
}

function setUp(config: Partial<OutlierConfig> = {}, count = 10, random: () => number = () => 0.5) {
  const clock = new FakeClock();
  const hosts = Array.from({ length: count }, () => new TestHost());
  const events: string[] = [];
  const detector = new OutlierDetector<TestHost>({
    config: { ...base, ...config },
    clock,
    random,
    hosts: () => hosts,
    onChange: (host, change) =>
      events.push(`${hosts.indexOf(host)} ${change === "returned" ? change : `ejected: ${change.ejected}`}`),
  });
  const host = hosts[0] as TestHost;
  const report = (...outcomes: (AttemptOutcome | number)[]) => {
    for (const outcome of outcomes) {
      detector.report(host, typeof outcome === "number" ? { kind: "answered", status: outcome } : outcome);
    }
  };
  return { clock, hosts, host, events, detector, report };
}

const grpc = (grpcStatus: number): AttemptOutcome => ({ kind: "answered", status: 200, grpcStatus });
const reset: AttemptOutcome = { kind: "reset" };
const timeout: AttemptOutcome = { kind: "timeout" };
const connectFailure: AttemptOutcome = { kind: "connect-failure" };
const connected: AttemptOutcome = { kind: "connected" };
const gateway: Partial<OutlierConfig> = { consecutiveGatewayFailures: { threshold: 3, enforcing: 100 } };
const split: Partial<OutlierConfig> = { splitsLocalOrigin: true };
const times = (count: number, outcome: AttemptOutcome | number) => Array.from({ length: count }, () => outcome);

type Row = [why: string, config: Partial<OutlierConfig>, outcomes: (AttemptOutcome | number)[], events: string[]];

describe("ejection", () => {
  // prettier-ignore
  test.each<Row>([
    ["five 5xx in a row",                          {},      times(5, 500),                    ["0 ejected: consecutive_5xx"]],
    ["four are too few",                           {},      times(4, 500),                    []],
    ["a success in between begins anew",           {},      [...times(4, 500), 200, 500],     []],
    ["404 is the client's mistake",                {},      times(20, 404),                   []],
    ["gateway failures are 5xx, too",              {},      times(5, 503),                    ["0 ejected: consecutive_5xx"]],
    ["gateway failures apart, where enforced",     gateway, times(3, 502),                    ["0 ejected: consecutive_gateway_failure"]],
    ["500 is no gateway failure",                  gateway, [502, 502, 500, 502],             []],
    ["gRPC unavailable is 503",                    gateway, times(3, grpc(14)),               ["0 ejected: consecutive_gateway_failure"]],
    ["gRPC internal is 500",                       {},      times(5, grpc(13)),               ["0 ejected: consecutive_5xx"]],
    ["gRPC not found is 404",                      {},      times(9, grpc(5)),                []],
    ["timeouts are 504",                           gateway, times(3, timeout),                ["0 ejected: consecutive_gateway_failure"]],
    ["resets are 503",                             gateway, times(3, reset),                  ["0 ejected: consecutive_gateway_failure"]],
    ["refused connections are 503",                {},      times(5, connectFailure),         ["0 ejected: consecutive_5xx"]],
    ["split: connections count apart",             split,   [...times(4, connectFailure), ...times(4, 500)], []],
    ["split: five failures to connect",            split,   times(5, connectFailure),         ["0 ejected: consecutive_local_origin_failure"]],
    ["split: timeouts need a connection first",    split,   times(9, timeout),                []],
    ["split: so do resets",                        split,   times(9, reset),                  []],
    ["split: a connection begins anew",            split,   [...times(4, connectFailure), connected, connectFailure], []],
    ["split: an answer needs a connection, too",   split,   [...times(4, connectFailure), 200, connectFailure], []],
    ["split: a timeout counts against it, too",    { ...split, consecutiveLocalOriginFailures: { threshold: 2, enforcing: 100 } }, [timeout, connectFailure], ["0 ejected: consecutive_local_origin_failure"]],
    ["statuses that are said to be errors",        { errorStatuses: new Set([429]) },                times(5, 429),    ["0 ejected: consecutive_5xx"]],
    ["others are none then",                       { errorStatuses: new Set([429]) },                times(9, 503),    []],
    ["nor is what gRPC says",                      { errorStatuses: new Set([429]) },                times(9, grpc(13)), []],
    ["they may be gateway failures",               { ...gateway, errorStatuses: new Set([503]) },    times(3, 503),    ["0 ejected: consecutive_gateway_failure"]],
    ["connections fail as ever",                   { errorStatuses: new Set([429]) },                times(5, connectFailure), ["0 ejected: consecutive_5xx"]],
    ["enforcing 0 only finds",                     { consecutive5xx: { threshold: 5, enforcing: 0 } }, times(9, 500), []],
    ["ejected once only",                          {},      times(30, 500),                   ["0 ejected: consecutive_5xx"]],
  ])("%s", (_, config, outcomes, events) => {
    const test = setUp(config);
    test.report(...outcomes);
    expect(test.events).toEqual(events);
    test.detector[Symbol.dispose]();
  });

  // prettier-ignore
  test.each([ // hosts, max percent, ejected, why
    [10,  10, 1,  "a tenth of ten is one"],
    [9,   10, 0,  "one of nine is more than a tenth"],
    [5,   10, 0,  "one of five is more"],
    [20,  10, 2,  "two of twenty"],
    [4,   50, 2,  "half"],
    [3,  100, 3,  "all of them"],
    [3,    0, 0,  "none at all"],
  ])("of %d hosts at most %d %% go: %d (%s)", (count, maxEjectionPercent, ejected) => {
    const { detector, hosts } = setUp({ maxEjectionPercent }, count);
    for (const host of hosts) for (let i = 0; i < 5; i++) detector.report(host, { kind: "answered", status: 500 });
    expect(detector.ejected).toBe(ejected);
    detector[Symbol.dispose]();
  });

  test("one may always go, where configured", () => {
    const { report, detector } = setUp({ maxEjectionPercent: 0, alwaysEjectsOne: true }, 3);
    report(...times(5, 500));
    expect(detector.ejected).toBe(1);
    detector[Symbol.dispose]();
  });

  test("enforcing is a probability", () => {
    const config = { consecutive5xx: { threshold: 1, enforcing: 40 } };
    expect(setUp(config, 10, () => 0.39).report).toBeDefined();
    const likely = setUp(config, 10, () => 0.39);
    likely.report(500);
    const unlikely = setUp(config, 10, () => 0.4);
    unlikely.report(500);
    expect([likely.detector.ejected, unlikely.detector.ejected]).toEqual([1, 0]);
    expect(unlikely.detector.detected.get("consecutive_5xx")).toBe(1);
    expect(unlikely.detector.enforced.get("consecutive_5xx")).toBeUndefined();
  });
});

describe("return", () => {
  test("at the first interval after the time has passed; slow start begins then", async () => {
    const { clock, report, events, host, detector } = setUp();
    await clock.advance(5_000);
    report(...times(5, 500));
    await clock.advance(34_999);
    expect(events).toEqual(["0 ejected: consecutive_5xx"]);
    await clock.advance(1);
    // Ejected at 5 s for 30 s: at the interval of 40 s.
    expect(events).toEqual(["0 ejected: consecutive_5xx", "0 returned"]);
    expect(host.readySinceMs).toBe(clock.now());
    detector[Symbol.dispose]();
  });

  test("takes longer each time, up to the largest", async () => {
    const { clock, report, host, detector } = setUp({ maxEjectionMs: 80_000 });
    const awayMs: number[] = [];
    for (let time = 0; time < 4; time++) {
      report(...times(5, 500));
      const fromMs = clock.now();
      while (host.outlier.isEjected) await clock.advance(10_000);
      awayMs.push(clock.now() - fromMs);
    }
    expect(awayMs).toEqual([30_000, 60_000, 80_000, 80_000]);
    detector[Symbol.dispose]();
  });

  test("good behaviour makes the next time shorter", async () => {
    const { clock, report, host, detector } = setUp();
    report(...times(5, 500));
    await clock.advance(30_000);
    expect(host.outlier).toMatchObject({ isEjected: false, multiplier: 1 });
    await clock.advance(10_000);
    expect(host.outlier.multiplier).toBe(0);
    await clock.advance(10_000);
    expect(host.outlier.multiplier).toBe(0);
    detector[Symbol.dispose]();
  });

  test("jitter is added to the time", async () => {
    const { clock, report, host, detector } = setUp({ maxJitterMs: 20_000 }, 10, () => 0.5);
    report(...times(5, 500));
    expect(host.outlier.jitterMs).toBe(10_000);
    await clock.advance(30_000);
    expect(host.outlier.isEjected).toBe(true);
    await clock.advance(10_000);
    expect(host.outlier.isEjected).toBe(false);
    detector[Symbol.dispose]();
  });

  test("counters begin at zero", async () => {
    const { clock, report, host, detector } = setUp();
    report(...times(5, 500), ...times(4, 500));
    await clock.advance(30_000);
    report(500);
    expect(host.outlier.isEjected).toBe(false);
    detector[Symbol.dispose]();
  });
});

describe("rates", () => {
  const answer = (detector: OutlierDetector<TestHost>, host: TestHost, good: number, bad: number) => {
    for (let i = 0; i < good; i++) detector.report(host, { kind: "answered", status: 200 });
    for (let i = 0; i < bad; i++) {
      detector.report(host, { kind: "answered", status: 500 });
      // Alternates, so that no run of failures is what ejects.
      detector.report(host, { kind: "answered", status: 200 });
    }
  };

  test("threshold is the mean less so many deviations", () => {
    expect(successRateThreshold([100, 100, 100, 100, 50], 1900)).toBeCloseTo(90 - 1.9 * 20);
    expect(successRateThreshold([100, 100], 1900)).toBe(100);
  });

  test("a host far below the others goes", async () => {
    const { clock, hosts, events, detector } = setUp({ successRate: { ...base.successRate, enforcing: 100 } });
    for (const host of hosts) answer(detector, host, 200, 0);
    answer(detector, hosts[3] as TestHost, 0, 150);
    await clock.advance(10_000);
    expect(events).toEqual(["3 ejected: success_rate"]);
    detector[Symbol.dispose]();
  });

  test("too few requests, or too few hosts, say nothing", async () => {
    const config = { successRate: { ...base.successRate, enforcing: 100 } };
    const few = setUp(config);
    for (const host of few.hosts) answer(few.detector, host, 90, 0);
    answer(few.detector, few.host, 0, 4);
    const small = setUp({ ...config, maxEjectionPercent: 100 }, 4);
    for (const host of small.hosts) answer(small.detector, host, 200, 0);
    answer(small.detector, small.host, 0, 150);
    await few.clock.advance(10_000);
    await small.clock.advance(10_000);
    expect([few.events, small.events]).toEqual([[], []]);
  });

  test("a percentage of failures, where enforced", async () => {
    const { clock, hosts, events, detector } = setUp({
      consecutive5xx: { threshold: 1_000, enforcing: 0 },
      failurePercentage: { ...base.failurePercentage, enforcing: 100 },
    });
    for (const host of hosts) answer(detector, host, 60, 0);
    for (let i = 0; i < 400; i++) detector.report(hosts[2] as TestHost, { kind: "answered", status: 500 });
    await clock.advance(10_000);
    expect(events).toEqual(["2 ejected: failure_percentage"]);
    detector[Symbol.dispose]();
  });

  test("each interval begins anew", async () => {
    const { clock, hosts, events, detector } = setUp({
      consecutive5xx: { threshold: 1_000, enforcing: 0 },
      failurePercentage: { ...base.failurePercentage, enforcing: 100 },
    });
    for (const host of hosts) answer(detector, host, 60, 0);
    for (let i = 0; i < 49; i++) detector.report(hosts[2] as TestHost, { kind: "answered", status: 500 });
    await clock.advance(10_000);
    for (let i = 0; i < 49; i++) detector.report(hosts[2] as TestHost, { kind: "answered", status: 500 });
    await clock.advance(10_000);
    expect(events).toEqual([]);
    detector[Symbol.dispose]();
  });
});

test("a disposed detector leaves no timer", () => {
  const { clock, detector } = setUp();
  expect(clock.pending).toBe(1);
  detector[Symbol.dispose]();
  expect(clock.pending).toBe(0);
});
