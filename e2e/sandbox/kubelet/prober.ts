import type { Clock } from "#shared/clock/clock.ts";
import type { Probe } from "../kinds.ts";
import {
  countResult,
  initialDelayMs,
  periodMs,
  probeNotYetKnown,
  type ProbeResult,
  type ProbeState,
} from "./probe-state.ts";

export interface ProberOptions {
  readonly probe: Probe;
  readonly clock: Clock;
  readonly run: () => Promise<ProbeResult>;
  /** Called with each result and what it has come to. */
  readonly onResult: (state: ProbeState, result: ProbeResult) => void;
  /** Try this often until the first success, where that is sooner than the period. */
  readonly eagerMs?: number;
}

/** Repeats a probe for the life of one run of a container. Ends with the returned function. */
export function startProber({ probe, clock, run, onResult, eagerMs }: ProberOptions): () => void {
  let state: ProbeState = probeNotYetKnown;
  let isStopped = false;
  let cancel = () => {};
  const plan = (delayMs: number) => {
    cancel = clock.schedule(delayMs, () => void attempt());
  };
  const attempt = async () => {
    const result = await run();
    if (isStopped) return;
    state = countResult(state, result.ok, probe);
    onResult(state, result);
    if (isStopped) return;
    const isEager = eagerMs !== undefined && state.passing !== true;
    plan(isEager ? Math.min(eagerMs, periodMs(probe)) : periodMs(probe));
  };
  plan(initialDelayMs(probe));
  return () => {
    isStopped = true;
    cancel();
  };
}
