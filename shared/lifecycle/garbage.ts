/** Garbage collections that only the program knows the time for; none where V8 was not asked to offer them. */

/** Everything. Milliseconds by the dozen. */
export function collectAll(): void {
  // Keeps the shape of what waits for its turn alive: without one, V8 gives up on compiling `nextTick` well.
  process.nextTick(() => {});
  globalThis.gc?.({ type: "major", execution: "sync" });
}

/** What was allocated lately: a fraction of a millisecond. */
export function collectYoung(): void {
  globalThis.gc?.({ type: "minor", execution: "sync" });
}

/**
 * Pieces of bytes in transit lie outside V8's heap, each freed when the few hundred bytes that stand for it inside are
 * collected, which is after a nursery full of those: dozens or hundreds of MiB of pieces. Collecting after so many bytes
 * keeps both memory and its caches small.
 */
const collectEveryBytes = 16 * 1024 * 1024;
let uncollectedBytes = 0;

/** Tells of bytes that were read into memory of their own. */
export function piecePassed(bytes: number): void {
  uncollectedBytes += bytes;
  if (uncollectedBytes < collectEveryBytes) return;
  uncollectedBytes = 0;
  collectYoung();
}
