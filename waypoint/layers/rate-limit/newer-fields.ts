/**
 * Fields of local rate limits that are newer than the definitions that we generate from, read from the unknown fields of
 * their messages: `rate_limits` (17), `max_dynamic_descriptors` (18), and `shadow_mode` (3) of a descriptor.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { UInt32ValueSchema } from "@bufbuild/protobuf/wkt";
import { explain } from "#shared/errors/mesh-error.ts";
import { RateLimitSchema, type RateLimit } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { LocalRateLimitDescriptorSchema } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  LocalRateLimitSchema,
  type LocalRateLimit,
} from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileDescriptor } from "./descriptors.ts";

const rateLimitsField = 17;
const maxDynamicField = 18;
export const shadowModeField = 3;

export interface NewerLimits {
  readonly actions: readonly RateLimit[];
  /** Values that a wildcard entry may stand for at the same time. */
  readonly maxDynamicDescriptors: number;
}

/** Envoy's own. */
const maxDynamicDefault = 20;
/** Each is a bucket in memory. */
const maxDynamicMost = 100_000;

export const isNewerField = (typeName: string, field: number): boolean =>
  typeName === LocalRateLimitSchema.typeName
    ? field === rateLimitsField || field === maxDynamicField
    : typeName === LocalRateLimitDescriptorSchema.typeName && field === shadowModeField;

export function newerLimits({ $unknown = [] }: LocalRateLimit, problem: Problem): NewerLimits {
  const actions: RateLimit[] = [];
  let maxDynamicDescriptors = maxDynamicDefault;
  for (const { no, data } of $unknown) {
    try {
      if (no === rateLimitsField) {
        const limit = fromBinary(RateLimitSchema, new BinaryReader(data).bytes());
        compileDescriptor(limit, `rate_limits[${actions.length}]`, problem);
        actions.push(limit);
      } else if (no === maxDynamicField) {
        const { value } = fromBinary(UInt32ValueSchema, new BinaryReader(data).bytes());
        if (value < 1 || value > maxDynamicMost) {
          problem("max_dynamic_descriptors", `${value} is not in 1 to ${maxDynamicMost}`);
        } else maxDynamicDescriptors = value;
      }
    } catch (error) {
      problem(no === rateLimitsField ? "rate_limits" : "max_dynamic_descriptors", `cannot be read: ${explain(error)}`);
    }
  }
  return { actions, maxDynamicDescriptors };
}
