import { BoundedLoad } from "./bounded-load.ts";
import { LeastRequest } from "./least-request.ts";
import { Maglev } from "./maglev.ts";
import type { BalancerConfig, Candidate, HashingConfig, Picker, PickerTools, Share } from "./picker.ts";
import { RingHash } from "./ring-hash.ts";
import { RoundRobin } from "./round-robin.ts";

type Hashing<T> = { pick(hash: bigint, attempt: number): T | undefined };

/** @param shares of the same hosts, asked for only by consistent hashing */
export function makePicker<T extends Candidate>(
  config: BalancerConfig,
  hosts: readonly T[],
  shares: () => readonly Share<T>[],
  tools: PickerTools,
  previous: Picker<T> | undefined,
): Picker<T> {
  switch (config.kind) {
    case "round-robin":
      return new RoundRobin(hosts, config.slowStart, tools, previous);
    case "least-request":
      return new LeastRequest(hosts, config, tools);
    case "random":
      return { pick: () => hosts[Math.floor(tools.random() * hosts.length)] };
    case "pick-first": {
      const first = hosts[config.shuffles ? Math.floor(tools.random() * hosts.length) : 0];
      return { pick: () => first };
    }
    case "ring-hash": {
      const weighed = shares();
      return bounded(new RingHash(weighed, config), weighed, config.hashing, tools);
    }
    case "maglev": {
      const weighed = shares();
      return bounded(new Maglev(weighed, config), weighed, config.hashing, tools);
    }
  }
}

function bounded<T extends Candidate>(
  inner: Hashing<T>,
  shares: readonly Share<T>[],
  { balanceFactor }: HashingConfig,
  tools: PickerTools,
): Picker<T> {
  const picker = balanceFactor === 0 ? inner : new BoundedLoad(inner, shares, balanceFactor, tools);
  return { pick: (hash, attempt) => (hash === undefined ? undefined : picker.pick(hash, attempt)) };
}
