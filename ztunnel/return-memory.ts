/** Gives memory that traffic needed back to the system. */
import process from "node:process";
import type { Clock } from "#shared/clock/clock.ts";

/** How often to look. Milliseconds; trimming 100 MiB takes a few of them. */
const intervalMs = 5_000;

/** Growth since the last time that is worth a trim. Bytes. */
const worthwhileBytes = 8 * 1024 * 1024;

export interface ReturnMemoryOptions {
  readonly clock: Clock;
  /** `malloc_trim(3)`: the C library keeps what was freed between pieces still in use, unless it is told to. */
  readonly trim: () => void;
  /** Resident bytes. */
  readonly residentBytes?: () => number;
}

/** Trims while memory grows, until it is disposed of. */
export function returnMemory({
  clock,
  trim,
  residentBytes = () => process.memoryUsage.rss(),
}: ReturnMemoryOptions): Disposable {
  let leastBytes = residentBytes();
  const look = () => {
    if (residentBytes() - leastBytes >= worthwhileBytes) {
      trim();
      leastBytes = residentBytes();
    } else leastBytes = Math.min(leastBytes, residentBytes());
    cancel = clock.schedule(intervalMs, look);
  };
  let cancel = clock.schedule(intervalMs, look);
  return { [Symbol.dispose]: () => cancel() };
}
