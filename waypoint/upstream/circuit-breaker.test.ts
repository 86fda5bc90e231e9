import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { CircuitBreaker, thresholdsDefault, type PoolGauge, type Thresholds } from "./circuit-breaker.ts";

const breaker = (thresholds: Partial<Thresholds> = {}, clock = new FakeClock(), pool?: () => PoolGauge) =>
  new CircuitBreaker({ ...thresholdsDefault, ...thresholds }, clock, pool);

function admit(breaker: CircuitBreaker, count: number): void {
  for (let i = 0; i < count; i++) breaker.admitRequest();
}

describe("requests", () => {
  test("as many at once as allowed; a place that is given back is free", () => {
    const requests = breaker({ maxRequests: 2 });
    const first = requests.admitRequest();
    requests.admitRequest();
    expect(requests.admitRequest()).toBeUndefined();
    expect(requests.overflows.requests).toBe(1);
    first?.release();
    expect(requests.admitRequest()).toBeDefined();
  });

  test("those that wait because no connection may be added are under the limit of pending ones", () => {
    const pool = { connections: 1, pending: 1 };
    const requests = breaker({ maxRequests: 1, maxConnections: 1 }, new FakeClock(), () => pool);
    admit(requests, 1);
    expect(requests.admitRequest()).toBeDefined();
    pool.pending = 0;
    expect(requests.admitRequest()).toBeUndefined();
  });

  test("a lower limit lets those in flight finish", () => {
    const requests = breaker();
    admit(requests, 5);
    requests.thresholds = { ...thresholdsDefault, maxRequests: 3 };
    expect(requests.admitRequest()).toBeUndefined();
    expect(requests.requests).toBe(5);
  });
});

describe("retries", () => {
  test("three at once by default", () => {
    const retries = breaker();
    const permits = [1, 2, 3].map(() => retries.admitRetry());
    expect(permits.every((permit) => permit !== undefined)).toBe(true);
    expect(retries.admitRetry()).toBeUndefined();
    permits[0]?.release();
    expect(retries.admitRetry()).toBeDefined();
  });

  // prettier-ignore
  test.each([ // percent, minimum, active, allowed
    [20, 3, 10,  3],
    [20, 3, 40,  8],
    [20, 3, 0,   3],
    [50, 0, 3,   1],
    [0,  0, 100, 0],
    [100, 3, 7,  7],
  ])("a budget of %d %%, at least %d, with %d requests: %d", (percent, minConcurrency, active, allowed) => {
    const retries = breaker({ retryBudget: { percent, minConcurrency, intervalMs: 0 } });
    admit(retries, active);
    expect(retries.maxRetries).toBe(allowed);
  });

  test("a budget over an interval counts what began in it", async () => {
    const clock = new FakeClock();
    const retries = breaker({ retryBudget: { percent: 20, minConcurrency: 0, intervalMs: 10_000 } }, clock);
    for (let i = 0; i < 50; i++) retries.admitRequest()?.release();
    expect(retries.maxRetries).toBe(10);
    await clock.advance(5_000);
    for (let i = 0; i < 50; i++) retries.admitRequest()?.release();
    expect(retries.maxRetries).toBe(20);
    await clock.advance(5_000);
    expect(retries.maxRetries).toBe(10);
    await clock.advance(60_000);
    expect(retries.maxRetries).toBe(0);
  });
});
