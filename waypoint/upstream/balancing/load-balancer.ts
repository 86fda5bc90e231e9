/**
 * Picks a host: first its priority, by how healthy each is; then, where localities carry weights, its locality; then the
 * host itself. Everything is computed when hosts or their health change; a pick walks the result.
 */
import { EdfScheduler } from "./edf-scheduler.ts";
import { makePicker } from "./make-picker.ts";
import type { BalancerConfig, Candidate, Picker, PickerTools, Share } from "./picker.ts";
import { loadWithout, priorityLoad, type PriorityHealth, type PriorityLoad } from "./priority-load.ts";

export interface BalancedHost extends Candidate {
  readonly health: "healthy" | "degraded" | "unhealthy";
  readonly priority: number;
}

/** The hosts of one locality in one priority. */
export interface HostGroup<T> {
  readonly hosts: readonly T[];
  /** For locality-weighted balancing; 0 takes no load then. */
  readonly weight: number;
}

export interface LoadBalancerConfig {
  readonly balancer: BalancerConfig;
  /** Percent; 0: never in panic. */
  readonly panicThreshold: number;
  readonly failsTrafficOnPanic: boolean;
  readonly weighsLocalities: boolean;
}

/** Hosts by priority, as assigned. */
export interface HostLevels<T> {
  readonly levels: readonly (readonly HostGroup<T>[])[];
  /** Percent, default 140. */
  readonly overprovisioningFactor: number;
  /** Health of a priority counts weights instead of hosts. */
  readonly countsWeights: boolean;
}

export interface PickQuery<T> {
  readonly hash?: bigint | undefined;
  readonly tried?: ReadonlySet<unknown> | undefined;
  /** Picks in all while they fall on hosts tried before. */
  readonly attempts?: number | undefined;
  readonly previousPriorities?: { readonly updateFrequency: number; readonly attempted: readonly T[] } | undefined;
}

type Kind = "all" | "healthy" | "degraded";

/** One priority. */
interface Level<T extends Candidate> {
  readonly groups: readonly HostGroup<T>[];
  readonly hosts: Readonly<Record<Kind, readonly T[]>>;
  readonly overprovisioningFactor: number;
  /** Made at first use. Hosts of all localities under -1. */
  readonly pickers: Record<Kind, Map<number, Picker<T>>>;
  readonly localities: Partial<Record<Kind, LocalityScheduler>>;
}

interface LocalityScheduler {
  readonly scheduler: EdfScheduler<number>;
  readonly weightOf: (group: number) => number;
}

export class LoadBalancer<T extends BalancedHost> {
  readonly #config: LoadBalancerConfig;
  readonly #tools: PickerTools;
  readonly #hashes: boolean;
  #levels: readonly Level<T>[] = [];
  #health: readonly PriorityHealth[] = [];
  #load: PriorityLoad = { healthy: [], degraded: [], panic: [] };

  constructor(config: LoadBalancerConfig, tools: PickerTools) {
    this.#config = config;
    this.#tools = tools;
    this.#hashes = config.balancer.kind === "ring-hash" || config.balancer.kind === "maglev";
  }

  /** After any change of hosts, their weights or their health. */
  update(hosts: HostLevels<T>): void {
    const previous = this.#levels;
    this.#levels = hosts.levels.map((groups, priority) => compileLevel(groups, hosts, previous[priority]));
    this.#health = this.#levels.map((level) => healthOf(level, hosts));
    this.#load = priorityLoad(this.#health, this.#config.panicThreshold);
  }

  /** For dumps. */
  get load(): PriorityLoad {
    return this.#load;
  }

  pick(query: PickQuery<T>): T | undefined {
    if (this.#levels.length === 0) return undefined;
    const hash = this.#hashes ? (query.hash ?? this.#randomHash()) : undefined;
    const load = query.previousPriorities === undefined ? this.#load : this.#avoiding(query.previousPriorities);
    const { tried, attempts = 1 } = query;
    let host = this.#once(load, hash, 0);
    if (tried === undefined) return host;
    for (let attempt = 1; attempt < attempts && host !== undefined && tried.has(host); attempt++) {
      host = this.#once(load, hash, attempt);
    }
    return host;
  }

  #once(load: Omit<PriorityLoad, "panic">, hash: bigint | undefined, attempt: number): T | undefined {
    let priority = 0;
    let kind: Kind = "healthy";
    if (load.healthy[0] !== 100) {
      const drawn = (hash === undefined ? Math.floor(this.#tools.random() * 100) : Number(hash % 100n)) + 1;
      priority = firstReaching(load.healthy, drawn, 0);
      if (priority < 0) {
        kind = "degraded";
        priority = Math.max(firstReaching(load.degraded, drawn, total(load.healthy)), 0);
      }
    }
    if (this.#load.panic[priority] === true) {
      if (this.#config.failsTrafficOnPanic) return undefined;
      kind = "all";
    }
    const level = this.#levels[priority] as Level<T>;
    // The places of consistent hashing stand for every locality at once.
    if (this.#hashes) return this.#picker(level, kind === "degraded" ? "healthy" : kind, -1).pick(hash, attempt);
    const group = this.#config.weighsLocalities && kind !== "all" ? this.#pickLocality(level, kind) : -1;
    return this.#picker(level, kind, group).pick(undefined, attempt);
  }

  /** -1 where no locality has weight: then all hosts are equal again. */
  #pickLocality(level: Level<T>, kind: Kind): number {
    const locality = (level.localities[kind] ??= scheduleLocalities(level, kind));
    return locality.scheduler.pick(locality.weightOf) ?? -1;
  }

  #picker(level: Level<T>, kind: Kind, group: number): Picker<T> {
    const made = level.pickers[kind].get(group);
    // What is left of an earlier level gives its place in the turn to the new one.
    if (made !== undefined && !(made instanceof Stale)) return made;
    const chosen = group < 0 ? level.hosts[kind] : ofKind(level.groups[group]?.hosts ?? [], kind);
    const shares = () => sharesOf(level, kind, this.#config.weighsLocalities);
    const picker = makePicker(this.#config.balancer, chosen, shares, this.#tools, made?.picker);
    level.pickers[kind].set(group, picker);
    return picker;
  }

  #randomHash(): bigint {
    const { random } = this.#tools;
    return (BigInt(Math.floor(random() * 2 ** 32)) << 32n) | BigInt(Math.floor(random() * 2 ** 32));
  }

  /** Retries that look elsewhere: leaves out the priorities of earlier attempts, until none is left. */
  #avoiding({ updateFrequency, attempted }: NonNullable<PickQuery<T>["previousPriorities"]>) {
    const counted = attempted.length - (attempted.length % updateFrequency);
    const excluded = new Set<number>();
    let load: Omit<PriorityLoad, "panic"> | undefined;
    for (let seen = 0; seen < counted; seen += updateFrequency) {
      for (const { priority } of attempted.slice(seen, seen + updateFrequency)) excluded.add(priority);
      load = loadWithout(this.#health, excluded);
      if (load !== undefined) continue;
      excluded.clear();
      load = loadWithout(this.#health, excluded);
    }
    return load ?? this.#load;
  }
}

/** A picker of hosts as they were. */
class Stale<T extends Candidate> implements Picker<T> {
  readonly picker: Picker<T>;
  constructor(picker: Picker<T>) {
    this.picker = picker instanceof Stale ? (picker.picker as Picker<T>) : picker;
  }
  pick(): T | undefined {
    return undefined;
  }
}

function compileLevel<T extends BalancedHost>(
  groups: readonly HostGroup<T>[],
  { overprovisioningFactor }: HostLevels<T>,
  previous: Level<T> | undefined,
): Level<T> {
  const all = groups.flatMap(({ hosts }) => hosts);
  const stale = (kind: Kind) =>
    new Map([...(previous?.pickers[kind] ?? [])].map(([group, picker]) => [group, new Stale(picker)] as const));
  return {
    groups,
    hosts: { all, healthy: ofKind(all, "healthy"), degraded: ofKind(all, "degraded") },
    overprovisioningFactor,
    pickers: { all: stale("all"), healthy: stale("healthy"), degraded: stale("degraded") },
    localities: {},
  };
}

const ofKind = <T extends BalancedHost>(hosts: readonly T[], kind: Kind): readonly T[] =>
  kind === "all" ? hosts : hosts.filter((host) => host.health === kind);

function healthOf<T extends BalancedHost>({ hosts }: Level<T>, { countsWeights, ...rest }: HostLevels<T>) {
  const size = (list: readonly T[]) =>
    countsWeights ? list.reduce((sum, { weight }) => sum + weight, 0) : list.length;
  return {
    hosts: hosts.all.length,
    healthy: hosts.healthy.length,
    degraded: hosts.degraded.length,
    totalWeight: size(hosts.all),
    healthyWeight: size(hosts.healthy),
    degradedWeight: size(hosts.degraded),
    overprovisioningFactor: rest.overprovisioningFactor,
  };
}

/** A locality keeps its weight until too many of its hosts cannot serve. */
export function effectiveLocalityWeight(
  weight: number,
  hosts: { readonly eligible: number; readonly total: number },
  overprovisioningFactor: number,
): number {
  if (hosts.total === 0) return 0;
  return weight * Math.min(1, (overprovisioningFactor / 100) * (hosts.eligible / hosts.total));
}

function scheduleLocalities<T extends BalancedHost>(level: Level<T>, kind: Kind): LocalityScheduler {
  const weights = level.groups.map(({ hosts, weight }) => {
    const counts = {
      eligible: ofKind(hosts, kind).length,
      total: hosts.length,
    };
    return effectiveLocalityWeight(weight, counts, level.overprovisioningFactor);
  });
  const weightOf = (group: number) => weights[group] as number;
  const weighed = [...weights.keys()].filter((group) => weightOf(group) > 0);
  return { scheduler: new EdfScheduler(weighed, weightOf), weightOf };
}

/** Weights that sum to 1; with weighted localities, each has its part and its hosts share that. */
function sharesOf<T extends BalancedHost>(level: Level<T>, kind: Kind, weighsLocalities: boolean): Share<T>[] {
  if (!weighsLocalities) return shareOut(level.hosts[kind], 1);
  const groups = level.groups.map(({ hosts, weight }) => ({ hosts: ofKind(hosts, kind), weight }));
  const present = groups.filter(({ hosts, weight }) => hosts.length > 0 && weight > 0);
  const sum = present.reduce((sum, { weight }) => sum + weight, 0);
  return present.flatMap(({ hosts, weight }) => shareOut(hosts, weight / sum));
}

function shareOut<T extends Candidate>(hosts: readonly T[], part: number): Share<T>[] {
  const sum = hosts.reduce((sum, { weight }) => sum + weight, 0);
  return hosts.map((host) => ({ host, share: (host.weight * part) / sum }));
}

/** Index at which the running sum reaches what was drawn; -1 where it never does. */
function firstReaching(loads: readonly number[], drawn: number, from: number): number {
  let sum = from;
  for (let index = 0; index < loads.length; index++) {
    sum += loads[index] as number;
    if (drawn <= sum) return index;
  }
  return -1;
}

const total = (numbers: readonly number[]): number => numbers.reduce((sum, number) => sum + number, 0);
