/** Response flags as the number that expressions see: bits as in Envoy's `ResponseFlag`. */
import type { ResponseFlag } from "#waypoint/http/exchange.ts";

const bits: Readonly<Record<ResponseFlag, number>> = {
  UH: 1,
  UT: 2,
  LR: 3,
  UR: 4,
  UF: 5,
  UC: 6,
  UO: 7,
  NR: 8,
  DI: 9,
  FI: 10,
  RL: 11,
  UAEX: 12,
  RLSE: 13,
  DC: 14,
  URX: 15,
  SI: 16,
  DPE: 18,
  DT: 22,
  UPE: 23,
  NC: 24,
  OM: 25,
  DR: 28,
};

export function flagBits(flags: ReadonlySet<ResponseFlag>): number {
  let number = 0;
  for (const flag of flags) number += 2 ** bits[flag];
  return number;
}
