import { expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { returnMemory } from "./return-memory.ts";

const mib = 1024 * 1024;

function open() {
  const clock = new FakeClock();
  const process = { resident: 90 * mib, cpuMs: 0 };
  const did: string[] = [];
  const tidy = returnMemory({
    clock,
    residentBytes: () => process.resident,
    cpuMs: () => process.cpuMs,
    collect: () => void did.push("collect"),
    release: () => void did.push("release"),
    trim: () => {
      did.push("trim");
      process.resident = 95 * mib;
    },
  });
  /** One interval in which so much CPU was used. */
  const pass = async (cpuMs: number) => {
    process.cpuMs += cpuMs;
    await clock.advance(5_000);
    return did.splice(0);
  };
  return { process, pass, tidy };
}

test("tidies up twice after each busy time", async () => {
  const { pass } = open();
  expect(await pass(4_000)).toEqual([]);
  const tidying = ["collect", "trim", "release"];
  expect(await pass(10)).toEqual(tidying);
  expect(await pass(10)).toEqual(tidying);
  expect(await pass(10)).toEqual([]);
  expect(await pass(1_000)).toEqual([]);
  expect(await pass(10)).toEqual(tidying);
});

test("under load, trims when memory has grown by much, until it is disposed of", async () => {
  const { process, pass, tidy } = open();
  process.resident = 110 * mib;
  expect(await pass(4_000)).toEqual([]);
  process.resident = 200 * mib;
  expect(await pass(4_000)).toEqual(["trim"]);
  expect(await pass(4_000)).toEqual([]);
  process.resident = 128 * mib;
  expect(await pass(4_000)).toEqual(["trim"]);
  tidy[Symbol.dispose]();
  process.resident = 300 * mib;
  expect(await pass(4_000)).toEqual([]);
});
