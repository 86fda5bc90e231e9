/** Gives memory that traffic needed back to the system. */
import process from "node:process";
import type { Clock } from "#shared/clock/clock.ts";

/** How often to look. Milliseconds. */
const intervalMs = 5_000;

/** Growth since the last time that is worth a trim under load, as it costs up to 100 ms. Bytes. */
const worthwhileBytes = 32 * 1024 * 1024;

/** Share of one core below which a pause of some dozen milliseconds is next to nobody's. */
const quietShare = 0.02;

export interface ReturnMemoryOptions {
  readonly clock: Clock;
  /** `malloc_trim(3)`: the C library keeps what was freed between pieces still in use, unless it is told to. */
  readonly trim: () => void;
  /** A full garbage collection: V8 makes one when something is allocated, and after a burst nothing is. */
  readonly collect: () => void;
  /** Lets go of pages that can be had again, once it is quiet: see `program-pages.ts`. */
  readonly release?: () => void;
  /** Resident bytes. */
  readonly residentBytes?: () => number;
  /** CPU time of this process so far. Milliseconds. */
  readonly cpuMs?: () => number;
}

/**
 * After a collection right behind a busy time V8 keeps the nursery as large as that had made it; after another one, a quiet
 * interval later, it does not.
 */
const timesTidied = 2;

/** Tidies up in the first quiet intervals after each busy one, and trims while memory grows, until it is disposed of. */
export function returnMemory({
  clock,
  trim,
  collect,
  release = () => {},
  residentBytes = () => process.memoryUsage.rss(),
  cpuMs = ownCpuMs,
}: ReturnMemoryOptions): Disposable {
  let leastBytes = residentBytes();
  let lastCpuMs = cpuMs();
  let tidied = 0; // starting up has left garbage too
  const look = () => {
    const isQuiet = cpuMs() - lastCpuMs < intervalMs * quietShare;
    const tidies = isQuiet && tidied < timesTidied;
    tidied = isQuiet ? tidied + 1 : 0;
    if (tidies) collect();
    if (tidies || residentBytes() - leastBytes >= worthwhileBytes) {
      trim();
      if (tidies) release();
      leastBytes = residentBytes();
    } else leastBytes = Math.min(leastBytes, residentBytes());
    lastCpuMs = cpuMs(); // without our own work
    cancel = clock.schedule(intervalMs, look);
  };
  let cancel = clock.schedule(intervalMs, look);
  return { [Symbol.dispose]: () => cancel() };
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
