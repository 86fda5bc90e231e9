import { sleep, type Clock } from "#shared/clock/clock.ts";

export interface Persistence {
  readonly clock: Clock;
  readonly everyMs: number;
  /** Aborted, its reason is thrown. */
  readonly signal: AbortSignal;
  /** Told each reason once, until it changes. */
  readonly onFailure: (why: string) => void;
}

/** Does something again until it works, as a kubelet does with all that a pod needs. */
export async function persist<T>(work: () => Promise<T>, options: Persistence): Promise<T> {
  const { clock, everyMs, signal, onFailure } = options;
  let told = "";
  for (;;) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (why !== told) onFailure(why);
      told = why;
    }
    await sleep(clock, everyMs, signal);
  }
}
