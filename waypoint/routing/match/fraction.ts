/** Envoy's FractionalPercent and its runtime form. There is no runtime layer here: the default value counts. */
import type { RuntimeFractionalPercent } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  FractionalPercent_DenominatorType,
  type FractionalPercent,
} from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
}

/** 0 of 100 where nothing is set, as in the messages. */
export function readFraction(percent: FractionalPercent | undefined, path: string, problem: Problem): Fraction {
  const numerator = percent?.numerator ?? 0;
  switch (percent?.denominator ?? FractionalPercent_DenominatorType.HUNDRED) {
    case FractionalPercent_DenominatorType.HUNDRED:
      return { numerator, denominator: 100 };
    case FractionalPercent_DenominatorType.TEN_THOUSAND:
      return { numerator, denominator: 10_000 };
    case FractionalPercent_DenominatorType.MILLION:
      return { numerator, denominator: 1_000_000 };
    default:
      problem(`${path}.denominator`, `${percent?.denominator} is unknown`);
      return { numerator: 0, denominator: 100 };
  }
}

/** Everything where it is not set at all; nothing where it has no default value. */
export function readRuntimeFraction(
  fraction: RuntimeFractionalPercent | undefined,
  path: string,
  problem: Problem,
): Fraction {
  if (fraction === undefined) return { numerator: 100, denominator: 100 };
  return readFraction(fraction.defaultValue, `${path}.default_value`, problem);
}

/** `draw` in [0, 1). */
export const isChosen = ({ numerator, denominator }: Fraction, draw: number): boolean => draw * denominator < numerator;
