/** The settings of balancers, which stand in two places of Envoy's schema: as options of `lb_policy`, and as extensions. */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { RuntimeDouble } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { Percent } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import type { BalancerConfig, HashingConfig } from "../balancing/picker.ts";
import type { SlowStart } from "../balancing/slow-start.ts";
import { checkFields } from "./set-fields.ts";

/** Envoy's bound on rings. */
const largestRing = 8 * 1024 * 1024;
const smallestRingDefault = 1024;
const maglevTableDefault = 65_537;
/** Envoy's bound on Maglev tables. */
const largestMaglevTable = 5_000_011;

export function leastRequest(
  config: {
    readonly choiceCount: number | undefined;
    readonly bias: RuntimeDouble | undefined;
    readonly scansAll: boolean;
    readonly slowStart: SlowStart | undefined;
  },
  path: string,
  problem: Problem,
): BalancerConfig {
  const { choiceCount = 2, bias, scansAll, slowStart } = config;
  if (choiceCount < 2) problem(`${path}.choice_count`, `${choiceCount} is less than 2`);
  const activeRequestBias = bias?.defaultValue ?? 1;
  if (!(activeRequestBias >= 0)) problem(`${path}.active_request_bias`, `${activeRequestBias} is negative`);
  return { kind: "least-request", choices: choiceCount, activeRequestBias, scansAll, slowStart };
}

export function ringHash(
  config: {
    readonly min: bigint | undefined;
    readonly max: bigint | undefined;
    readonly usesMurmur: boolean;
    readonly hashing: HashingConfig;
  },
  path: string,
  problem: Problem,
): BalancerConfig {
  const minRing = Number(config.min ?? BigInt(smallestRingDefault));
  const maxRing = Number(config.max ?? BigInt(largestRing));
  if (minRing < 1 || minRing > largestRing)
    problem(`${path}.minimum_ring_size`, `${minRing} is not 1 to ${largestRing}`);
  if (maxRing < 1 || maxRing > largestRing)
    problem(`${path}.maximum_ring_size`, `${maxRing} is not 1 to ${largestRing}`);
  if (minRing > maxRing) problem(`${path}.minimum_ring_size`, `${minRing} is above maximum_ring_size ${maxRing}`);
  const hashFunction = config.usesMurmur ? "murmur2" : "xxhash";
  return { kind: "ring-hash", minRing, maxRing, hashFunction, hashing: config.hashing };
}

export function maglev(
  size: bigint | undefined,
  hashing: HashingConfig,
  path: string,
  problem: Problem,
): BalancerConfig {
  const tableSize = Number(size ?? BigInt(maglevTableDefault));
  if (tableSize > largestMaglevTable) problem(`${path}.table_size`, `${tableSize} is above ${largestMaglevTable}`);
  else if (!isPrime(tableSize)) problem(`${path}.table_size`, `${tableSize} is not a prime number`);
  return { kind: "maglev", tableSize, hashing };
}

/** The same message stands in two places of Envoy's schema. */
export function compileHashing(
  schema: DescMessage,
  config: (Message & { useHostnameForHashing: boolean; hashBalanceFactor?: number | undefined }) | undefined,
  path: string,
  problem: Problem,
): HashingConfig {
  if (config === undefined) return { usesHostname: false, balanceFactor: 0 };
  checkFields(schema, config, ["useHostnameForHashing", "hashBalanceFactor"], path, problem);
  const { useHostnameForHashing, hashBalanceFactor = 0 } = config;
  if (hashBalanceFactor !== 0 && hashBalanceFactor < 100) {
    problem(`${path}.hash_balance_factor`, `${hashBalanceFactor} is less than 100`);
  }
  return { usesHostname: useHostnameForHashing, balanceFactor: hashBalanceFactor };
}

interface SlowStartMessage {
  slowStartWindow?: Duration | undefined;
  aggression?: RuntimeDouble | undefined;
  minWeightPercent?: Percent | undefined;
}

/** The runtime key of aggression is not asked: there is no runtime here, its default counts, as in Envoy without one. */
export function compileSlowStart(
  config: SlowStartMessage | undefined,
  path: string,
  problem: Problem,
): SlowStart | undefined {
  if (config === undefined) return undefined;
  const windowMs = readMs(config.slowStartWindow, `${path}.slow_start_window`, problem) ?? 0;
  const aggression = config.aggression?.defaultValue ?? 1;
  if (!(aggression > 0)) problem(`${path}.aggression`, `${aggression} is not above 0`);
  const minPercent = readPercent(config.minWeightPercent, `${path}.min_weight_percent`, problem) ?? 10;
  return windowMs === 0 ? undefined : { windowMs, aggression, minWeight: minPercent / 100 };
}

export function readPercent(percent: Percent | undefined, path: string, problem: Problem): number | undefined {
  if (percent === undefined) return undefined;
  if (!(percent.value >= 0 && percent.value <= 100)) problem(path, `${percent.value} is not 0 to 100`);
  return percent.value;
}

function isPrime(number: number): boolean {
  if (number < 2) return false;
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}
