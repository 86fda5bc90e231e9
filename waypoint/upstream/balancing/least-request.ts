import type { EdfScheduler } from "./edf-scheduler.ts";
import type { BalancerConfig, Candidate, Picker, PickerTools } from "./picker.ts";
import { needsWeights, started, weightBy } from "./round-robin.ts";

type Config = Extract<BalancerConfig, { readonly kind: "least-request" }>;

/** The least busy of a few drawn at random; where weights differ, by weight divided by how busy each is. */
export class LeastRequest<T extends Candidate> implements Picker<T> {
  readonly #hosts: readonly T[];
  readonly #choices: number;
  readonly #scansAll: boolean;
  readonly #random: () => number;
  readonly #weightOf: (host: T) => number;
  readonly #scheduler: EdfScheduler<T> | undefined;

  constructor(hosts: readonly T[], config: Config, tools: PickerTools) {
    const { activeRequestBias: bias, slowStart } = config;
    this.#hosts = hosts;
    this.#choices = config.choices;
    this.#scansAll = config.scansAll;
    this.#random = tools.random;
    const busy = bias === 1 ? (host: T) => host.weight / (host.active + 1) : biased(bias);
    this.#weightOf = weightBy(slowStart, tools, busy);
    if (needsWeights(hosts, slowStart, tools)) this.#scheduler = started(hosts, this.#weightOf, tools.random);
  }

  pick(): T | undefined {
    if (this.#scheduler !== undefined) return this.#scheduler.pick(this.#weightOf);
    return this.#scansAll ? this.#leastOfAll() : this.#leastOfSome();
  }

  /** The first drawn wins a tie. */
  #leastOfSome(): T | undefined {
    const hosts = this.#hosts;
    const { length } = hosts;
    if (length < 2) return hosts[0];
    let least = hosts[Math.floor(this.#random() * length)] as T;
    for (let drawn = 1; drawn < this.#choices; drawn++) {
      const other = hosts[Math.floor(this.#random() * length)] as T;
      if (other.active < least.active) least = other;
    }
    return least;
  }

  /** Among equally busy hosts each is as likely. */
  #leastOfAll(): T | undefined {
    let least: T | undefined;
    let ties = 0;
    for (const host of this.#hosts) {
      if (least === undefined || host.active < least.active) {
        least = host;
        ties = 1;
      } else if (host.active === least.active) {
        ties++;
        if (this.#random() * ties < 1) least = host;
      }
    }
    return least;
  }
}

function biased(bias: number): (host: Candidate) => number {
  return bias === 0 ? (host) => host.weight : (host) => host.weight / (host.active + 1) ** bias;
}
