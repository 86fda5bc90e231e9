import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { persist } from "./persist.ts";

function setUp(outcomes: readonly (string | Error)[]) {
  const clock = new FakeClock();
  const stop = new AbortController();
  const told: string[] = [];
  let tries = 0;
  const done = persist(
    async () => {
      const outcome = outcomes[Math.min(tries++, outcomes.length - 1)] ?? "";
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    { clock, everyMs: 1_000, signal: stop.signal, onFailure: (why) => void told.push(why) },
  );
  done.catch(() => undefined);
  return { clock, stop, told, done, tries: () => tries };
}

test("tries again until it works, and tells a reason once", async () => {
  const full = new Error("no address is free");
  const { clock, done, told } = setUp([full, full, new Error("busy"), "address"]);
  await clock.advance(3_000);
  expect(await done).toBe("address");
  expect(told).toEqual(["no address is free", "busy"]);
});

test("gives up when it is asked to", async () => {
  const { clock, stop, done, tries } = setUp([new Error("no address is free")]);
  await clock.advance(1_000);
  stop.abort(new Error("the pod is being deleted"));
  await expect(done).rejects.toThrow("the pod is being deleted");
  await clock.advance(10_000);
  expect(tries()).toBe(2);
});
