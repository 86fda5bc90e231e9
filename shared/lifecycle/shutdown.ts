import type { EventEmitter } from "node:events";

/** Signals by which a process is told to stop. */
type ProcessLike = Pick<EventEmitter, "on" | "off"> & { exit(code: number): void };

export interface Shutdown extends Disposable {
  /** Resolves with why, once: a signal, or whoever called {@link request}. */
  readonly asked: Promise<string>;
  request(why: string): void;
}

/**
 * Waits for SIGTERM, SIGINT or a request. A second SIGINT exits at once, since whoever presses Ctrl-C twice means it;
 * a second SIGTERM changes nothing.
 */
export function awaitShutdown(process: ProcessLike): Shutdown {
  const { promise, resolve } = Promise.withResolvers<string>();
  let interrupts = 0;
  const onTerminate = () => resolve("SIGTERM");
  const onInterrupt = () => {
    interrupts += 1;
    if (interrupts > 1) process.exit(0);
    resolve("SIGINT");
  };
  process.on("SIGTERM", onTerminate);
  process.on("SIGINT", onInterrupt);
  return {
    asked: promise,
    request: resolve,
    [Symbol.dispose]: () => {
      process.off("SIGTERM", onTerminate);
      process.off("SIGINT", onInterrupt);
    },
  };
}
