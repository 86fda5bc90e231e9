/** How far a rolling update may go in one step. Pure; the controllers carry it out. */

/** What matters of a replica set. */
export interface SetSize {
  readonly name: string;
  /** Pods it is asked to have. */
  readonly wanted: number;
  /** Pods it has that serve. */
  readonly available: number;
}

export interface RolloutLimits {
  readonly replicas: number;
  /** Pods beyond `replicas` that may exist for a while. */
  readonly maxSurge: number;
  /** Pods short of `replicas` that may be missing for a while. */
  readonly maxUnavailable: number;
}

export type Resize = ReadonlyMap<string, number>;

/** New sizes: first the new set grows as far as the surge allows, then the old ones shrink as far as availability allows. */
export function rollingStep(next: SetSize, old: readonly SetSize[], limits: RolloutLimits): Resize {
  const { replicas, maxSurge, maxUnavailable } = limits;
  const sizes = new Map<string, number>();
  const total = [next, ...old].reduce((sum, { wanted }) => sum + wanted, 0);
  let nextWanted = next.wanted;
  if (next.wanted > replicas) nextWanted = replicas;
  else nextWanted += Math.max(0, Math.min(replicas - next.wanted, replicas + maxSurge - total));
  if (nextWanted !== next.wanted) sizes.set(next.name, nextWanted);

  const minAvailable = replicas - maxUnavailable;
  const nextUnavailable = nextWanted - Math.min(next.available, nextWanted);
  const totalAfter = total - next.wanted + nextWanted;
  let removable = totalAfter - minAvailable - nextUnavailable;
  const remaining = new Map(old.map(({ name, wanted }) => [name, wanted]));
  // Pods that do not serve go first: nobody misses them.
  for (const set of old) {
    const idle = set.wanted - Math.min(set.available, set.wanted);
    const cut = Math.max(0, Math.min(idle, removable));
    remaining.set(set.name, set.wanted - cut);
    removable -= cut;
  }
  const availableNow =
    Math.min(next.available, nextWanted) +
    old.reduce((sum, { available, wanted }) => sum + Math.min(available, wanted), 0);
  let spare = Math.min(Math.max(0, removable), Math.max(0, availableNow - minAvailable));
  for (const set of old) {
    const left = remaining.get(set.name) ?? 0;
    const cut = Math.min(left, spare);
    remaining.set(set.name, left - cut);
    spare -= cut;
  }
  for (const set of old) {
    const size = remaining.get(set.name) ?? set.wanted;
    if (size !== set.wanted) sizes.set(set.name, size);
  }
  return sizes;
}

/** Old ones first to nothing; the new one only when no old pod is left. */
export function recreateStep(next: SetSize, old: readonly SetSize[], replicas: number, oldPods: number): Resize {
  const sizes = new Map<string, number>();
  for (const set of old) if (set.wanted > 0) sizes.set(set.name, 0);
  if (sizes.size === 0 && oldPods === 0 && next.wanted !== replicas) sizes.set(next.name, replicas);
  return sizes;
}

/** One node's pods of a daemon set. */
export interface DaemonNode {
  readonly node: string;
  /** Pods of the present template: `unavailable`, `available` or none. */
  readonly fresh: "none" | "unavailable" | "available";
  /** Pods of an earlier template. */
  readonly stale: "none" | "unavailable" | "available";
}

export interface DaemonStep {
  /** Nodes that get a pod of the present template. */
  readonly create: readonly string[];
  /** Nodes whose earlier pods go. */
  readonly remove: readonly string[];
}

/**
 * With a surge, the new pod starts beside the old one, which goes when the new one serves; otherwise the old one goes
 * first and the new one follows.
 */
export function daemonStep(
  nodes: readonly DaemonNode[],
  limits: { readonly maxSurge: number; readonly maxUnavailable: number },
): DaemonStep {
  const create: string[] = nodes
    .filter(({ fresh, stale }) => fresh === "none" && stale === "none")
    .map(({ node }) => node);
  const remove: string[] = nodes
    .filter(({ fresh, stale }) => fresh === "available" && stale !== "none")
    .map(({ node }) => node);
  const pending = nodes.filter(({ fresh, stale }) => fresh === "none" && stale !== "none");
  if (limits.maxSurge > 0) {
    const surging = nodes.filter(({ fresh, stale }) => fresh === "unavailable" && stale !== "none").length;
    const room = Math.max(0, limits.maxSurge - surging);
    const idle = pending.filter(({ stale }) => stale === "unavailable").map(({ node }) => node);
    const serving = pending.filter(({ stale }) => stale === "available").map(({ node }) => node);
    // A node whose old pod does not serve has nothing to lose.
    return { create: [...create, ...idle, ...serving.slice(0, room)], remove: [...remove, ...idle] };
  }
  const missing = nodes.filter(({ fresh, stale }) => fresh !== "available" && stale === "none").length;
  const idle = pending.filter(({ stale }) => stale === "unavailable").map(({ node }) => node);
  const serving = pending.filter(({ stale }) => stale === "available").map(({ node }) => node);
  const room = Math.max(0, limits.maxUnavailable - missing - idle.length);
  return { create, remove: [...remove, ...idle, ...serving.slice(0, room)] };
}
