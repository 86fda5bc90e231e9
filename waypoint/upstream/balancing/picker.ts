/** The last choice: which of these hosts. One for each set of hosts that a request may fall into. */
import type { Clock } from "#shared/clock/clock.ts";
import type { SlowStart } from "./slow-start.ts";

/** What pickers look at. */
export interface Candidate {
  readonly key: string;
  readonly hostname: string;
  /** From configuration, at least 1. */
  readonly weight: number;
  /** Requests now in flight. */
  readonly active: number;
  /** Since when it takes load: for slow start. Unix milliseconds. */
  readonly readySinceMs: number;
  /** What consistent hashing uses instead of key or hostname: `hash_key` in its metadata. */
  readonly hashKey: string | undefined;
}

export interface Picker<T extends Candidate> {
  /** @param attempt counts from 0 within one request's picking; hashing must not give the same host again */
  pick(hash: bigint | undefined, attempt: number): T | undefined;
}

export interface PickerTools {
  readonly clock: Clock;
  /** [0, 1). */
  readonly random: () => number;
  /** Requests in flight in the whole cluster. */
  readonly totalActive: () => number;
}

export type HashFunction = "xxhash" | "murmur2";

/** Which hosts of a cluster take which load, compiled from its configuration. */
export type BalancerConfig =
  | { readonly kind: "round-robin"; readonly slowStart: SlowStart | undefined }
  | {
      readonly kind: "least-request";
      readonly choices: number;
      readonly activeRequestBias: number;
      /** Looks at all hosts instead of a few. */
      readonly scansAll: boolean;
      readonly slowStart: SlowStart | undefined;
    }
  | { readonly kind: "random" }
  | { readonly kind: "pick-first"; readonly shuffles: boolean }
  | {
      readonly kind: "ring-hash";
      readonly minRing: number;
      readonly maxRing: number;
      readonly hashFunction: HashFunction;
      readonly hashing: HashingConfig;
    }
  | { readonly kind: "maglev"; readonly tableSize: number; readonly hashing: HashingConfig };

export interface HashingConfig {
  readonly usesHostname: boolean;
  /** Percent of the average load that one host may have, at least 100; 0: no bound. */
  readonly balanceFactor: number;
}

/** A host and its part of all weights, which sum to 1. */
export interface Share<T> {
  readonly host: T;
  readonly share: number;
}

export const hashKeyOf = (host: Candidate, { usesHostname }: HashingConfig): string =>
  host.hashKey ?? (usesHostname ? host.hostname : host.key);
