import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { CertificateManager, prefetchBound } from "./certificate-manager.ts";
import type { WorkloadCertificate } from "./workload-certificate.ts";

const hourMs = 3_600_000;
const id = (serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount });

interface Fetch {
  readonly identity: SpiffeId;
  readonly signal: AbortSignal;
  succeed(): void;
  fail(why?: string): void;
}

/** A CA that answers when told to, or at once. */
class FakeCa {
  readonly fetches: Fetch[] = [];
  readonly clock: FakeClock;
  readonly lifetimeMs: number;
  automatic: "succeed" | "fail" | "wait";
  serial = 0;

  constructor(clock: FakeClock, automatic: "succeed" | "fail" | "wait" = "succeed", lifetimeMs = 24 * hourMs) {
    this.clock = clock;
    this.automatic = automatic;
    this.lifetimeMs = lifetimeMs;
  }

  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkloadCertificate>();
    const fetch: Fetch = {
      identity,
      signal,
      succeed: () => resolve(this.issue(identity)),
      fail: (why = "CA is down") => reject(new Error(why)),
    };
    signal.addEventListener("abort", () => reject(signal.reason as Error));
    this.fetches.push(fetch);
    if (this.automatic === "succeed") fetch.succeed();
    if (this.automatic === "fail") fetch.fail();
    return promise;
  }

  issue(identity: SpiffeId): WorkloadCertificate {
    return {
      identity,
      chainPem: "",
      keyPem: "",
      rootsPem: [],
      notBeforeMs: this.clock.now(),
      notAfterMs: this.clock.now() + this.lifetimeMs,
      serial: String(++this.serial),
    };
  }

  get asked(): readonly string[] {
    return this.fetches.map(({ identity }) => identity.split("/").at(-1) ?? "");
  }
}

function setUp(automatic: "succeed" | "fail" | "wait" = "succeed", lifetimeMs?: number) {
  const clock = new FakeClock();
  const ca = new FakeCa(clock, automatic, lifetimeMs);
  const manager = new CertificateManager({ source: ca, clock, log: silentLogger, random: () => 0 });
  return { clock, ca, manager };
}

describe("CertificateManager", () => {
  test("fetches once for all who wait, and gives them the same object", async () => {
    const { ca, manager } = setUp("wait");
    const waiting = Promise.all([manager.certificateFor(id("a")), manager.certificateFor(id("a"))]);
    expect(ca.asked).toEqual(["a"]);
    ca.fetches[0]?.succeed();
    const [first, second] = await waiting;
    expect(first).toBe(second);
    expect(manager.current(id("a"))).toBe(first);
    expect(await manager.certificateFor(id("a"))).toBe(first);
  });

  test("renews at half of the certificate's life, not before", async () => {
    const { clock, ca, manager } = setUp();
    const rotated: string[] = [];
    manager.onRotated(({ serial }) => void rotated.push(serial));
    await manager.certificateFor(id("a"));
    await clock.advance(12 * hourMs - 1);
    expect(ca.asked).toHaveLength(1);
    await clock.advance(1);
    expect(ca.asked).toHaveLength(2);
    expect(manager.current(id("a"))?.serial).toBe("2");
    expect(rotated).toEqual(["1", "2"]);
    await clock.advance(12 * hourMs);
    expect(ca.asked).toHaveLength(3);
  });

  test("spreads renewals by at most a hundredth of a life", async () => {
    const clock = new FakeClock();
    const ca = new FakeCa(clock);
    const manager = new CertificateManager({ source: ca, clock, log: silentLogger, random: () => 0.999 });
    await manager.certificateFor(id("a"));
    await clock.advance(12 * hourMs + 0.239 * hourMs);
    expect(ca.asked).toHaveLength(1);
    await clock.advance(0.002 * hourMs);
    expect(ca.asked).toHaveLength(2);
  });

  test("holds 800 identities with eight requests at once, and rotates them all", async () => {
    const { clock, ca, manager } = setUp("wait");
    const waiting = Promise.all(Array.from({ length: 800 }, (_, index) => manager.certificateFor(id(`sa-${index}`))));
    expect(ca.asked).toHaveLength(8);
    for (let answered = 0; answered < 800; answered += 8) {
      expect(ca.asked).toHaveLength(answered + 8);
      for (const fetch of ca.fetches.slice(answered)) fetch.succeed();
      await clock.advance(0);
    }
    expect(new Set((await waiting).map(({ identity }) => identity)).size).toBe(800);
    expect(manager.states().size).toBe(800);
    ca.automatic = "succeed";
    await clock.advance(12 * hourMs);
    expect(ca.asked).toHaveLength(1600);
  });

  test("serves who waits now before who came ahead, and both before renewals", async () => {
    const { clock, ca, manager } = setUp();
    await manager.certificateFor(id("renewed"));
    ca.automatic = "wait";
    const busy = Array.from({ length: 8 }, (_, index) => manager.certificateFor(id(`busy-${index}`)));
    manager.prefetch(id("ahead"));
    await clock.advance(12 * hourMs);
    const now = manager.certificateFor(id("now"));
    for (let next = 1; next < 12; next++) {
      ca.fetches[next]?.succeed();
      await clock.advance(0);
    }
    expect(ca.asked.slice(9)).toEqual(["now", "ahead", "renewed"]);
    await Promise.all([...busy, now]);
  });

  test("a connection overtakes what is fetched ahead, also for the same identity", async () => {
    const { clock, ca, manager } = setUp("wait");
    const busy = Array.from({ length: 8 }, (_, index) => manager.certificateFor(id(`busy-${index}`)));
    manager.prefetch(id("ahead"));
    await clock.advance(0);
    const other = manager.certificateFor(id("other"));
    const same = manager.certificateFor(id("ahead"));
    ca.automatic = "succeed";
    ca.fetches[0]?.succeed();
    await clock.advance(0);
    // Both are wanted by a connection now; "ahead" has waited longer.
    expect(ca.asked.slice(8)).toEqual(["ahead", "other"]);
    for (const fetch of ca.fetches) fetch.succeed();
    await Promise.all([...busy, other, same]);
  });

  test("after a failure the known error comes at once, and the next attempt by itself", async () => {
    const { clock, ca, manager } = setUp("fail");
    await expect(manager.certificateFor(id("a"))).rejects.toThrow("the CA did not issue one");
    await expect(manager.certificateFor(id("a"))).rejects.toThrow("the CA did not issue one");
    expect(ca.asked).toHaveLength(1);
    expect(manager.states().get(id("a"))?.at).toBe("unavailable");
    ca.automatic = "succeed";
    await clock.advance(800);
    expect(ca.asked).toHaveLength(2);
    expect((await manager.certificateFor(id("a"))).serial).toBe("1");
  });

  test("backs off from about a second, doubling, to 150 s; success starts anew", async () => {
    const { clock, ca, manager } = setUp("fail");
    await manager.certificateFor(id("a")).catch(() => {});
    for (const delayMs of [800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 150_000, 150_000]) {
      const before = ca.asked.length;
      await clock.advance(delayMs - 1);
      expect(ca.asked).toHaveLength(before);
      await clock.advance(1);
      expect(ca.asked).toHaveLength(before + 1);
    }
    ca.automatic = "succeed";
    await clock.advance(150_000);
    ca.automatic = "fail";
    await clock.advance(12 * hourMs);
    const failedAgain = ca.asked.length;
    await clock.advance(800);
    expect(ca.asked).toHaveLength(failedAgain + 1);
  });

  test("keeps serving the old certificate while renewal fails, until it expires", async () => {
    const { clock, ca, manager } = setUp();
    const old = await manager.certificateFor(id("a"));
    ca.automatic = "fail";
    await clock.advance(24 * hourMs - 1);
    expect(await manager.certificateFor(id("a"))).toBe(old);
    await clock.advance(1);
    await expect(manager.certificateFor(id("a"))).rejects.toThrow("the CA did not issue one");
  });

  test("refuses a certificate that has expired already, and does not ask in a tight loop", async () => {
    const { clock, ca, manager } = setUp("succeed", -1);
    await expect(manager.certificateFor(id("a"))).rejects.toThrow("the CA did not issue one");
    await clock.advance(10_000);
    expect(ca.asked.length).toBeLessThan(6);
  });

  test("a very short life is renewed in steps of at least a second", async () => {
    const { clock, ca, manager } = setUp("succeed", 1_000);
    await manager.certificateFor(id("a"));
    await clock.advance(10_000);
    expect(ca.asked.length).toBeLessThanOrEqual(11);
  });

  test("forget drops the identity, aborts its request and tells who waits", async () => {
    const { clock, ca, manager } = setUp("wait");
    const waiting = manager.certificateFor(id("a"));
    manager.forget(id("a"));
    await expect(waiting).rejects.toThrow("its last pod left this node");
    expect(ca.fetches[0]?.signal.aborted).toBe(true);
    ca.fetches[0]?.succeed();
    await clock.advance(0);
    expect(manager.states().size).toBe(0);
    await clock.advance(24 * hourMs);
    expect(ca.asked).toHaveLength(1);
  });

  test("prefetches one after another, drops what exceeds the bound, and forgets what waits", async () => {
    const { clock, ca, manager } = setUp("wait");
    for (let index = 0; index <= prefetchBound; index++) expect(manager.prefetch(id(`sa-${index}`))).toBe(true);
    expect(manager.prefetch(id("one-too-many"))).toBe(false);
    expect(ca.asked).toEqual(["sa-0"]);
    manager.forget(id("sa-1"));
    ca.fetches[0]?.succeed();
    await clock.advance(0);
    expect(ca.asked).toEqual(["sa-0", "sa-2"]);
  });

  test("a signal ends the wait of one, not the request", async () => {
    const { ca, manager } = setUp("wait");
    const impatient = new AbortController();
    const waiting = manager.certificateFor(id("a"), impatient.signal);
    const patient = manager.certificateFor(id("a"));
    impatient.abort(new Error("deadline"));
    await expect(waiting).rejects.toThrow("deadline");
    ca.fetches[0]?.succeed();
    expect((await patient).serial).toBe("1");
  });

  test("closing ends every wait and every timer", async () => {
    const { clock, ca, manager } = setUp();
    await manager.certificateFor(id("a"));
    ca.automatic = "wait";
    const waiting = manager.certificateFor(id("b"));
    manager[Symbol.dispose]();
    await expect(waiting).rejects.toThrow("shutting down");
    await expect(manager.certificateFor(id("c"))).rejects.toThrow("shutting down");
    expect(clock.pending).toBe(0);
  });
});
