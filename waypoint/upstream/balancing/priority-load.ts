/** How many of 100 requests each priority gets, from how many of its hosts can serve. Pure; whole numbers, as Envoy's. */

export interface PriorityHealth {
  readonly hosts: number;
  readonly healthy: number;
  readonly degraded: number;
  /** The same by weight, where an assignment counts health by weight; equal to the counts otherwise. */
  readonly totalWeight: number;
  readonly healthyWeight: number;
  readonly degradedWeight: number;
  /** 140: a priority keeps all its load until fewer than 5 of 7 hosts are healthy. */
  readonly overprovisioningFactor: number;
}

export interface PriorityLoad {
  /** Percent for the healthy hosts of each priority; what is left goes to degraded ones. All together 100. */
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  /** Where all hosts are eligible, healthy or not. */
  readonly panic: readonly boolean[];
}

/** @param panicThreshold percent of healthy hosts below which a priority panics; 0: never */
export function priorityLoad(priorities: readonly PriorityHealth[], panicThreshold: number): PriorityLoad {
  const healthy = priorities.map((priority) => availability(priority, priority.healthyWeight));
  const degraded = priorities.map((priority) => availability(priority, priority.degradedWeight));
  const total = Math.min(100, sum(healthy) + sum(degraded));
  if (total === 0) {
    return {
      healthy: onlyFirst(priorities.length),
      degraded: priorities.map(() => 0),
      panic: priorities.map((_, index) => index === 0 && panicThreshold > 0),
    };
  }
  const panic = priorities.map((priority) => total < 100 && isBelow(priority, panicThreshold));
  if (panic.length > 0 && panic.every(Boolean)) return loadInTotalPanic(priorities, panic);
  return { ...distribute(healthy, degraded, total), panic };
}

/**
 * The load when some priorities are left out (a retry that avoids those it came from). Undefined where nothing else is
 * available.
 */
export function loadWithout(
  priorities: readonly PriorityHealth[],
  excluded: ReadonlySet<number>,
): Omit<PriorityLoad, "panic"> | undefined {
  const left = (weightOf: (priority: PriorityHealth) => number) =>
    priorities.map((priority, index) => (excluded.has(index) ? 0 : availability(priority, weightOf(priority))));
  const available = { healthy: left((priority) => priority.healthyWeight), degraded: left((p) => p.degradedWeight) };
  const total = Math.min(100, sum(available.healthy) + sum(available.degraded));
  return total === 0 ? undefined : distribute(available.healthy, available.degraded, total);
}

function availability({ totalWeight, overprovisioningFactor }: PriorityHealth, weight: number): number {
  return totalWeight === 0 ? 0 : Math.min(100, Math.floor((overprovisioningFactor * weight) / totalWeight));
}

function isBelow({ hosts, healthy, degraded }: PriorityHealth, threshold: number): boolean {
  return (hosts === 0 ? 0 : (100 * (healthy + degraded)) / hosts) < threshold;
}

/** Healthy hosts first, in order of priority; then degraded ones; what rounding leaves goes to the first available. */
function distribute(healthyShares: readonly number[], degradedShares: readonly number[], total: number) {
  let left = 100;
  const take = (shares: readonly number[]) =>
    shares.map((share) => {
      const load = Math.min(left, Math.floor((share * 100) / total));
      left -= load;
      return load;
    });
  const healthy = take(healthyShares);
  const degraded = take(degradedShares);
  const first = healthyShares.findIndex((share) => share > 0);
  if (first >= 0) healthy[first] = (healthy[first] as number) + left;
  else {
    const firstDegraded = degradedShares.findIndex((share) => share > 0);
    degraded[firstDegraded] = (degraded[firstDegraded] as number) + left;
  }
  return { healthy, degraded };
}

/** Every priority panics: each gets its share of all hosts. */
function loadInTotalPanic(priorities: readonly PriorityHealth[], panic: readonly boolean[]): PriorityLoad {
  const total = sum(priorities.map(({ hosts }) => hosts));
  const degraded = priorities.map(() => 0);
  if (total === 0) return { healthy: onlyFirst(priorities.length), degraded, panic };
  const healthy = priorities.map(({ hosts }) => Math.floor((100 * hosts) / total));
  const first = priorities.findIndex(({ hosts }) => hosts > 0);
  healthy[first] = (healthy[first] as number) + 100 - sum(healthy);
  return { healthy, degraded, panic };
}

const onlyFirst = (length: number): number[] => Array.from({ length }, (_, index) => (index === 0 ? 100 : 0));
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
