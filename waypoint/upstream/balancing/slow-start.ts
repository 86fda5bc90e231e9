/** How a host that has just come gets its load little by little. */
export interface SlowStart {
  readonly windowMs: number;
  /** 1: linear; above, it grows fast at first. */
  readonly aggression: number;
  /** Share of the weight that it begins with, 0 to 1. */
  readonly minWeight: number;
}

const shortestAgeMs = 1_000;

/** By what to multiply the weight of a host of this age. */
export function slowStartFactor({ windowMs, aggression, minWeight }: SlowStart, ageMs: number): number {
  if (ageMs >= windowMs) return 1;
  const share = Math.min(1, Math.max(ageMs, shortestAgeMs) / windowMs);
  return Math.max(minWeight, aggression === 1 ? share : share ** (1 / aggression));
}
