/** How often authorization allowed and refused, and by which rule; read by telemetry. */
export type RbacResult = "allowed" | "denied" | "shadow_allowed" | "shadow_denied";

export interface RbacSeries {
  readonly result: RbacResult;
  /** Name of the rule that matched, `ns[shop]-policy[callers]-rule[0]`; `none` where none did. */
  readonly policy: string;
  readonly count: number;
}

/** Counters of policies that came and went must not grow without end. */
const maxRules = 10_000;

const counts = new Map<string, Record<RbacResult, number>>();
const newCount = (): Record<RbacResult, number> => ({ allowed: 0, denied: 0, shadow_allowed: 0, shadow_denied: 0 });
const overflow = newCount();

export function countVerdict(result: RbacResult, policy: string | undefined): void {
  const name = policy ?? "none";
  let known = counts.get(name);
  if (known === undefined) {
    if (counts.size >= maxRules) known = overflow;
    else counts.set(name, (known = newCount()));
  }
  known[result]++;
}

export function* rbacSeries(): Generator<RbacSeries> {
  for (const [policy, results] of counts) {
    for (const result of Object.keys(results) as RbacResult[]) {
      if (results[result] > 0) yield { result, policy, count: results[result] };
    }
  }
}
