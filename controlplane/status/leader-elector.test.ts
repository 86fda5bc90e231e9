import { describe, expect, test } from "@jest/globals";
import { FakeApiServer } from "#controlplane/sources/testing/fake-api-server.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { until } from "#shared/testing/loopback.ts";
import { LeaderElector } from "./leader-elector.ts";

const leases = "/apis/coordination.k8s.io/v1/leases";
const holder = (server: FakeApiServer): unknown =>
  (server.get(leases, "istio-system", "leader")?.["spec"] as { holderIdentity?: string } | undefined)?.holderIdentity;

function candidate(server: FakeApiServer, identity: string, clock: FakeClock) {
  const stop = new AbortController();
  let wins = 0;
  const elector = new LeaderElector({
    client: server.client(),
    namespace: "istio-system",
    name: "leader",
    identity,
    log: silentLogger,
    clock,
    onLead: () => wins++,
  });
  const running = elector.run(stop.signal);
  return {
    elector,
    wins: () => wins,
    stop: async () => {
      stop.abort();
      await running;
    },
  };
}

/** Moves time on, while every candidate has its requests answered, and waits for its next turn. */
async function pass(clock: FakeClock, seconds: number, candidates = 1): Promise<void> {
  const areWaiting = () => until(() => clock.pending === candidates, "the requests are answered");
  await areWaiting();
  for (let second = 0; second < seconds; second++) {
    await clock.advance(1_000);
    await areWaiting();
  }
}

describe("LeaderElector", () => {
  test("the first to come leads, and keeps leading", async () => {
    await using server = await FakeApiServer.start();
    const clock = new FakeClock();
    const a = candidate(server, "a", clock);
    await server.until(() => holder(server) === "a");
    await pass(clock, 60);
    expect(a.elector.isLeader()).toBe(true);
    expect(a.wins()).toBe(1);
    await a.stop();
    expect(holder(server)).toBe("");
  });

  test("a second waits, and takes over as soon as the first gives the lease back", async () => {
    await using server = await FakeApiServer.start();
    const clock = new FakeClock();
    const a = candidate(server, "a", clock);
    await server.until(() => holder(server) === "a");
    const b = candidate(server, "b", clock);
    await pass(clock, 30, 2);
    expect(b.elector.isLeader()).toBe(false);
    await a.stop();
    await pass(clock, 6);
    expect(holder(server)).toBe("b");
    expect(b.elector.isLeader()).toBe(true);
    expect(b.wins()).toBe(1);
    await b.stop();
  });

  test("a lease that nobody renews is free after its time, by our own clock", async () => {
    await using server = await FakeApiServer.start();
    const clock = new FakeClock();
    server.put(leases, {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "leader", namespace: "istio-system" },
      // A clock far ahead must not keep us out for ever.
      spec: {
        holderIdentity: "dead",
        renewTime: "2099-01-01T00:00:00.000000Z",
        leaseDurationSeconds: 15,
        leaseTransitions: 3,
      },
    });
    const b = candidate(server, "b", clock);
    await pass(clock, 10);
    expect(holder(server)).toBe("dead");
    await pass(clock, 12);
    expect(holder(server)).toBe("b");
    expect(server.get(leases, "istio-system", "leader")?.["spec"]).toMatchObject({ leaseTransitions: 4 });
    await b.stop();
  });

  test("without an API server leadership ends with the lease", async () => {
    await using server = await FakeApiServer.start();
    const clock = new FakeClock();
    const a = candidate(server, "a", clock);
    await server.until(() => holder(server) === "a");
    await pass(clock, 6);
    expect(a.elector.isLeader()).toBe(true);
    server.override = () => ({ status: 503, body: { message: "away" } });
    await pass(clock, 25);
    expect(a.elector.isLeader()).toBe(false);
    server.override = undefined;
    await pass(clock, 12);
    expect(a.elector.isLeader()).toBe(true);
    expect(a.wins()).toBe(2);
    await a.stop();
  });
});
