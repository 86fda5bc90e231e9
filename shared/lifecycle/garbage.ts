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
