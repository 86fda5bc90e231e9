import { EdfScheduler } from "./edf-scheduler.ts";
import type { Candidate, Picker, PickerTools } from "./picker.ts";
import { slowStartFactor, type SlowStart } from "./slow-start.ts";

/** In turn, from a random start; by weight where weights differ or a host is new. */
export class RoundRobin<T extends Candidate> implements Picker<T> {
  readonly #hosts: readonly T[];
  readonly #scheduler: EdfScheduler<T> | undefined;
  readonly #weightOf: (host: T) => number;
  #next: number;

  /** @param previous the picker that this one replaces: the turn goes on where it was */
  constructor(hosts: readonly T[], slowStart: SlowStart | undefined, tools: PickerTools, previous?: unknown) {
    this.#hosts = hosts;
    this.#next = previous instanceof RoundRobin ? previous.#next : Math.floor(tools.random() * 2 ** 31);
    this.#weightOf = weightBy(slowStart, tools, (host) => host.weight);
    if (needsWeights(hosts, slowStart, tools)) this.#scheduler = started(hosts, this.#weightOf, tools.random);
  }

  pick(): T | undefined {
    if (this.#scheduler !== undefined) return this.#scheduler.pick(this.#weightOf);
    const { length } = this.#hosts;
    if (length === 0) return undefined;
    const host = this.#hosts[this.#next % length];
    this.#next = (this.#next + 1) % Number.MAX_SAFE_INTEGER;
    return host;
  }
}

/** Whether hosts differ: by weight, or by age while one of them is new. */
export function needsWeights(
  hosts: readonly Candidate[],
  slowStart: SlowStart | undefined,
  { clock }: PickerTools,
): boolean {
  if (hosts.length < 2) return false;
  const weight = hosts[0]?.weight;
  if (hosts.some((host) => host.weight !== weight)) return true;
  if (slowStart === undefined) return false;
  const now = clock.now();
  return hosts.some((host) => now - host.readySinceMs < slowStart.windowMs);
}

/** The weight at this moment; without slow start, no clock is read. */
export function weightBy<T extends Candidate>(
  slowStart: SlowStart | undefined,
  { clock }: PickerTools,
  weightOf: (host: T) => number,
): (host: T) => number {
  if (slowStart === undefined) return weightOf;
  return (host) => weightOf(host) * slowStartFactor(slowStart, clock.now() - host.readySinceMs);
}

/** A schedule that does not begin with the same host in every process. */
export function started<T>(hosts: readonly T[], weightOf: (host: T) => number, random: () => number): EdfScheduler<T> {
  const scheduler = new EdfScheduler(hosts, weightOf);
  for (let skip = Math.floor(random() * hosts.length); skip > 0; skip--) scheduler.pick(weightOf);
  return scheduler;
}
