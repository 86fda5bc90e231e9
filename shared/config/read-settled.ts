/** Reads what somebody may be writing at this moment, such as the files of a folder. */
import { isDeepStrictEqual } from "node:util";
import { sleep, type Clock } from "#shared/clock/clock.ts";

/** Editors write a file in several steps: a look waits until it has been quiet for this long. */
export const quietMs = 100;
/** What is written to all the time is read as it is in the end. */
const mostLooks = 20;

export interface SettledReading<T> {
  readonly read: () => Promise<T>;
  /** Of what is known already, or of what has nothing to lose, one look is enough. */
  readonly isAsBefore: (found: T) => boolean;
  readonly clock: Clock;
  /** Ends the wait. */
  readonly signal?: AbortSignal;
}

/**
 * What is there once two looks agree: a file that is being written is empty at first, and an empty file would take out of
 * force what was in it.
 *
 * @throws what `read` throws, and the signal's reason
 */
export async function readSettled<T>({ read, isAsBefore, clock, signal }: SettledReading<T>): Promise<T> {
  let found = await read();
  for (let look = 0; look < mostLooks && !isAsBefore(found); look++) {
    await sleep(clock, quietMs, signal);
    const again = await read();
    if (isDeepStrictEqual(again, found)) break;
    found = again;
  }
  return found;
}
