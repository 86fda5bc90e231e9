import type { Probe } from "../kinds.ts";

/** The outcome of one try. */
export interface ProbeResult {
  readonly ok: boolean;
  /** For the event: `HTTP probe failed with statuscode: 503`. */
  readonly message: string;
}

/** What a run of results has come to. */
export interface ProbeState {
  /** Undefined until the threshold is reached for the first time. */
  readonly passing: boolean | undefined;
  readonly streak: { readonly ok: boolean; readonly count: number };
}

export const probeNotYetKnown: ProbeState = { passing: undefined, streak: { ok: false, count: 0 } };

/** Counts one result. The verdict turns only after as many equal results in a row as the probe asks for. */
export function countResult(state: ProbeState, ok: boolean, probe: Probe): ProbeState {
  const count = state.streak.ok === ok ? state.streak.count + 1 : 1;
  const needed = ok ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
  return { passing: count >= needed ? ok : state.passing, streak: { ok, count } };
}

export const periodMs = (probe: Probe): number => Math.max(1, probe.periodSeconds ?? 10) * 1000;
export const timeoutMs = (probe: Probe): number => Math.max(1, probe.timeoutSeconds ?? 1) * 1000;
export const initialDelayMs = (probe: Probe): number => Math.max(0, probe.initialDelaySeconds ?? 0) * 1000;
