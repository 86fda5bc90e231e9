import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { pino } from "pino";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { until } from "#shared/testing/loopback.ts";
import { LimitFolder } from "./limit-folder.ts";

let folder: string;
let clock: FakeClock;
let warnings: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "limits-"));
  clock = new FakeClock();
  warnings = [];
});

afterEach(() => rm(folder, { recursive: true }));

const limitOf = (requests: number | string): string =>
  `domain: shop\ndescriptors: [{ key: user, rate_limit: { unit: day, requests_per_unit: ${requests} } }]`;

const write = (text: string): Promise<void> => writeFile(join(folder, "a.yaml"), text);

const open = (): Promise<LimitFolder> =>
  LimitFolder.open(folder, clock, pino({ level: "warn" }, { write: (line) => warnings.push(line) }));

const requestsIn = ({ limits }: LimitFolder): number | undefined => {
  const known = limits.find("shop", [{ key: "user", value: "ann" }]);
  return known?.kind === "quota" ? known.quota.requestsPerUnit : undefined;
};

/** Moves time on, and lets the look at the files that falls due end: then it waits for the next. */
async function look(afterMs: number): Promise<void> {
  await clock.advance(afterMs);
  await until(() => clock.pending === 1, "the files have been looked at");
}

/** The next look, and the one that makes sure of what is new. */
async function lookTwice(): Promise<void> {
  await look(5_000);
  await look(100);
}

test("files that change are read again; a mistake leaves them as they were, and is told once", async () => {
  await write(limitOf(1));
  using limits = await open();
  expect(requestsIn(limits)).toBe(1);
  await write(limitOf(2));
  await lookTwice();
  expect(requestsIn(limits)).toBe(2);
  await write(limitOf("many"));
  for (let time = 0; time < 3; time++) await lookTwice();
  expect(requestsIn(limits)).toBe(2);
  expect(warnings).toEqual([expect.stringContaining('\\"many\\" is no whole number')]);
  await write(limitOf(3));
  await lookTwice();
  expect(requestsIn(limits)).toBe(3);
});

test("a file that is being written counts when it is whole", async () => {
  await write(limitOf(1));
  using limits = await open();
  for (const part of ["", "domain: shop\n", limitOf(2)]) {
    await write(part);
    await look(part === "" ? 5_000 : 100);
    expect(requestsIn(limits)).toBe(1);
  }
  await look(100);
  expect(requestsIn(limits)).toBe(2);
});

test("a file that is emptied for good has no limits", async () => {
  await write(limitOf(1));
  using limits = await open();
  await write("");
  await lookTwice();
  expect(requestsIn(limits)).toBeUndefined();
  expect(warnings).toEqual([]);
});

test("one that is closed looks no more", async () => {
  await write(limitOf(1));
  const limits = await open();
  await write(limitOf(2));
  await look(5_000);
  limits[Symbol.dispose]();
  await until(() => clock.pending === 0, "nothing is waited for");
  await clock.advance(60_000);
  expect(requestsIn(limits)).toBe(1);
});

test("a mistake at the start is told", async () => {
  await write(limitOf("many"));
  await expect(open()).rejects.toThrow('descriptors[0].rate_limit.requests_per_unit: "many" is no whole number');
  await expect(LimitFolder.open(join(folder, "none"), clock, silentLogger)).rejects.toThrow(
    "Cannot read RATE_LIMIT_CONFIG",
  );
});
