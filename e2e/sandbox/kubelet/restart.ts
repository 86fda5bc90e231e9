/** Whether and when a container that ended starts again. */

export interface BackOff {
  readonly baseMs: number;
  readonly maxMs: number;
}

/** The kubelet's own: 10 s, doubled to 5 minutes. */
export const backOffDefault: BackOff = { baseMs: 10_000, maxMs: 300_000 };

/** A container that ran this long has recovered, and its next crash counts as the first: twice the longest delay. */
const forgiveAfterMs = ({ maxMs }: BackOff) => 2 * maxMs;

/** Crashes in a row, as far as the back-off remembers them. */
export function crashCount(previous: number, ranMs: number, backOff: BackOff): number {
  return ranMs >= forgiveAfterMs(backOff) ? 1 : previous + 1;
}

/** The first restart comes at once, then the base, then twice as much each time. */
export function restartDelayMs(crashes: number, { baseMs, maxMs }: BackOff): number {
  return crashes <= 1 ? 0 : Math.min(maxMs, baseMs * 2 ** Math.min(crashes - 2, 30));
}

export type RestartPolicy = "Always" | "OnFailure" | "Never";

export const shouldRestart = (policy: RestartPolicy, exitCode: number): boolean =>
  policy === "Always" || (policy === "OnFailure" && exitCode !== 0);
