/** What is to be counted for a request, and what follows from the counts. Pure. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse_RateLimit_Unit as ResponseUnit,
  RateLimitResponseSchema,
  type RateLimitRequest,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { RateLimitUnit } from "#shared/proto/gen/envoy/type/v3/ratelimit_unit_pb.js";
import type { Addition } from "./counters.ts";
import { unitSeconds, type Known, type Limits, type Quota, type Unit } from "./limits.ts";

/** One descriptor of the request; undefined: nothing limits it. */
export interface Question {
  readonly quota: Quota;
  readonly isShadow: boolean;
  readonly addition: Addition;
  readonly resetSeconds: number;
}

const requestUnits: Readonly<Partial<Record<RateLimitUnit, Unit>>> = {
  [RateLimitUnit.SECOND]: "second",
  [RateLimitUnit.MINUTE]: "minute",
  [RateLimitUnit.HOUR]: "hour",
  [RateLimitUnit.DAY]: "day",
  [RateLimitUnit.MONTH]: "month",
  [RateLimitUnit.YEAR]: "year",
};

const responseUnits: Readonly<Record<Unit, ResponseUnit>> = {
  second: ResponseUnit.SECOND,
  minute: ResponseUnit.MINUTE,
  hour: ResponseUnit.HOUR,
  day: ResponseUnit.DAY,
  // The description of the protocol that we have does not name it yet.
  week: ResponseUnit.UNKNOWN,
  month: ResponseUnit.MONTH,
  year: ResponseUnit.YEAR,
};

/** For each descriptor, in their order. */
export function questionsOf(
  { domain, descriptors, hitsAddend }: RateLimitRequest,
  limits: Limits,
  nowMs: number,
): readonly (Question | undefined)[] {
  return descriptors.map(({ entries, limit }) => {
    const override = limit === undefined ? undefined : requestUnits[limit.unit];
    const known: Known | undefined =
      limit !== undefined && override !== undefined
        ? {
            kind: "quota",
            quota: { requestsPerUnit: limit.requestsPerUnit, unit: override, name: "" },
            isShadow: false,
          }
        : limits.find(domain, entries);
    if (known?.kind !== "quota") return undefined;
    const seconds = unitSeconds[known.quota.unit];
    const nowSeconds = Math.floor(nowMs / 1000);
    const start = nowSeconds - (nowSeconds % seconds);
    const key = [domain, ...entries.flatMap(({ key, value }) => [key, value])].map(escaped).join("_");
    return {
      quota: known.quota,
      isShadow: known.isShadow,
      // The unit is in it: one caller may have a limit for each second and one for each hour.
      addition: { key: `${key}_${known.quota.unit}_${start}`, hits: hitsAddend || 1, ttlSeconds: seconds },
      resetSeconds: start + seconds - nowSeconds,
    };
  });
}

/** No two lists of texts become the same key. */
const escaped = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("_", "\\_");

/** `counts` after this request, one for each question that was asked. */
export function answer(questions: readonly (Question | undefined)[], counts: readonly number[]): RateLimitResponse {
  let asked = 0;
  let isOver = false;
  const statuses = questions.map(
    (
      question,
    ): MessageInitShape<typeof RateLimitResponseSchema>["statuses"] extends readonly (infer S)[] | undefined
      ? S
      : never => {
      if (question === undefined) return { code: Code.OK };
      const { quota, isShadow, resetSeconds } = question;
      const count = counts[asked++] ?? 0;
      // What comes over the limit counts too: whoever keeps asking stays out until the window ends.
      const exceeds = count > quota.requestsPerUnit && !isShadow;
      isOver ||= exceeds;
      return {
        code: exceeds ? Code.OVER_LIMIT : Code.OK,
        currentLimit: { requestsPerUnit: quota.requestsPerUnit, unit: responseUnits[quota.unit], name: quota.name },
        limitRemaining: Math.max(quota.requestsPerUnit - count, 0),
        durationUntilReset: { seconds: BigInt(resetSeconds), nanos: 0 },
      };
    },
  );
  return create(RateLimitResponseSchema, { overallCode: isOver ? Code.OVER_LIMIT : Code.OK, statuses });
}
