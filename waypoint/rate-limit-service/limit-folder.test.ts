import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { LimitFolder } from "./limit-folder.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "limits-"));
});

afterEach(() => rm(folder, { recursive: true }));

const write = (requests: number | string): Promise<void> =>
  writeFile(
    join(folder, "a.yaml"),
    `domain: shop\ndescriptors: [{ key: user, rate_limit: { unit: day, requests_per_unit: ${requests} } }]`,
  );

const requestsIn = ({ limits }: LimitFolder): number | undefined => {
  const known = limits.find("shop", [{ key: "user", value: "ann" }]);
  return known?.kind === "quota" ? known.quota.requestsPerUnit : undefined;
};

async function untilSame(clock: FakeClock, read: () => unknown, wanted: unknown): Promise<void> {
  for (let look = 0; look < 200 && read() !== wanted; look++) {
    await clock.advance(5_000);
    await new Promise(setImmediate);
  }
  expect(read()).toBe(wanted);
}

test("files that change are read again; a mistake leaves them as they were", async () => {
  await write(1);
  const clock = new FakeClock();
  using limits = await LimitFolder.open(folder, clock, silentLogger);
  expect(requestsIn(limits)).toBe(1);
  await write(2);
  await untilSame(clock, () => requestsIn(limits), 2);
  await write("many");
  await clock.advance(5_000);
  expect(requestsIn(limits)).toBe(2);
  await write(3);
  await untilSame(clock, () => requestsIn(limits), 3);
});

test("a mistake at the start is told", async () => {
  await write("many");
  await expect(LimitFolder.open(folder, new FakeClock(), silentLogger)).rejects.toThrow(
    'descriptors[0].rate_limit.requests_per_unit: "many" is no whole number',
  );
  await expect(LimitFolder.open(join(folder, "none"), new FakeClock(), silentLogger)).rejects.toThrow(
    "Cannot read RATE_LIMIT_CONFIG",
  );
});
