/** How often limits admitted and refused; read by telemetry. Series are few: one for each limit in force or seen. */
export type RateLimitResult = "ok" | "limited" | "shadow" | "error";

export interface RateLimitSeries {
  /** `namespace/name`. */
  readonly policy: string;
  readonly limit: string;
  readonly results: Readonly<Record<RateLimitResult, number>>;
  /** Keys that made room for others. */
  readonly evictions: number;
  /** Keys now in memory. */
  readonly keys: number;
}

interface Keys {
  readonly size: number;
}

export class RateLimitCounts implements RateLimitSeries {
  readonly policy: string;
  readonly limit: string;
  readonly results: Record<RateLimitResult, number> = { ok: 0, limited: 0, shadow: 0, error: 0 };
  evictions = 0;
  #keys: WeakRef<Keys> | undefined;

  constructor(policy: string, limit: string) {
    this.policy = policy;
    this.limit = limit;
  }

  count(result: RateLimitResult): void {
    this.results[result]++;
  }

  get keys(): number {
    return this.#keys?.deref()?.size ?? 0;
  }

  /** Of the configuration that came last. */
  keepsKeysIn(keys: Keys): void {
    this.#keys = new WeakRef(keys);
  }

  evicted(): void {
    this.evictions++;
  }
}

/** More than any mesh has in one waypoint; counters of what came and went must not grow without end. */
const maxSeries = 10_000;
const all = new Map<string, RateLimitCounts>();
const overflow = new RateLimitCounts("", "");

export function rateLimitCounts(policy: string, limit: string): RateLimitCounts {
  const key = `${policy} ${limit}`;
  let series = all.get(key);
  if (series === undefined) {
    if (all.size >= maxSeries) return overflow;
    all.set(key, (series = new RateLimitCounts(policy, limit)));
  }
  return series;
}

export const rateLimitSeries = (): Iterable<RateLimitSeries> => all.values();
