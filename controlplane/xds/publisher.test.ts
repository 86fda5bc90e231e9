import { describe, expect, test } from "@jest/globals";
import { create } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { AddressSchema, type Address } from "#shared/proto/gen/workload/workload_pb.js";
import { Publisher } from "./publisher.ts";

const workload = (uid: string, name = ""): Address =>
  create(AddressSchema, { type: { case: "workload", value: { uid, name } } });

function setUp() {
  const clock = new FakeClock();
  const world = new Map<string, Address>();
  let translations = 0;
  let broken = false;
  let durationMs = 0;
  let publishedMs = 0;
  let passedMs = 0;
  const publisher = new Publisher({
    translate: () => {
      translations++;
      passedMs += durationMs;
      if (broken) throw new Error("impossible policy");
      return { addresses: new Map(world), authorizations: new Map() };
    },
    onPublished: () => void (passedMs += publishedMs),
    clock: { now: () => clock.now() + passedMs, schedule: (delayMs, action) => clock.schedule(delayMs, action) },
    log: silentLogger,
    quietMs: 100,
    longestMs: 10_000,
  });
  return {
    clock,
    world,
    publisher,
    translations: () => translations,
    takes: (ms: number) => void (durationMs = ms),
    publishingTakes: (ms: number) => void (publishedMs = ms),
    breakIt: (is: boolean) => void (broken = is),
  };
}

describe("Publisher", () => {
  test("waits for a quiet moment and translates once", async () => {
    const { clock, publisher, translations } = setUp();
    publisher.changed();
    await clock.advance(99);
    publisher.changed();
    await clock.advance(99);
    expect(translations()).toBe(0);
    await clock.advance(1);
    expect(translations()).toBe(1);
  });

  test.each([
    { what: "five quiet periods where translating is cheap", translationMs: 3, publishedAfterMs: 500 },
    { what: "ten times as long as a translation took", translationMs: 200, publishedAfterMs: 2_000 },
    { what: "the longest wait", translationMs: 3_000, publishedAfterMs: 10_000 },
  ])("but not for ever: a stream of changes waits for $what", async ({ translationMs, publishedAfterMs }) => {
    const { clock, publisher, translations, takes } = setUp();
    takes(translationMs);
    publisher.publish();
    for (let sinceMs = 0; sinceMs < publishedAfterMs; sinceMs += 50) {
      publisher.changed();
      expect(translations()).toBe(1);
      await clock.advance(50);
    }
    expect(translations()).toBe(2);
  });

  test("what is made of a translation counts as part of its cost", () => {
    const { publisher, takes, publishingTakes } = setUp();
    takes(80);
    publishingTakes(190);
    publisher.publish();
    expect(publisher.status.lastDurationMs).toBe(270);
  });

  test("tells only names that differ", () => {
    const { world, publisher } = setUp();
    const told: string[][] = [];
    publisher.addresses.onChange((names) => void told.push([...names].toSorted()));
    world.set("a", workload("a")).set("b", workload("b"));
    publisher.publish();
    world.set("a", workload("a")).set("b", workload("b", "renamed"));
    publisher.publish();
    world.delete("a");
    publisher.publish();
    publisher.publish();
    expect(told).toEqual([["a", "b"], ["b"], ["a"]]);
  });

  test("a translation that fails, or cannot be encoded, leaves the last good state in force", () => {
    const { world, publisher, breakIt } = setUp();
    world.set("a", workload("a"));
    publisher.publish();
    breakIt(true);
    world.delete("a");
    publisher.publish();
    expect(publisher.status.error).toBe("impossible policy");
    breakIt(false);
    world.set("b", create(AddressSchema));
    publisher.publish();
    expect(publisher.status.error).toContain("neither workload nor service");
    expect([...publisher.addresses.all()].map(({ name }) => name)).toEqual(["a"]);
    world.clear();
    publisher.publish();
    expect(publisher.status.error).toBeUndefined();
    expect([...publisher.addresses.all()]).toEqual([]);
  });
});
