/** What is to be counted for a request, and what follows from the counts. Pure. */
import { hash } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse_RateLimit_Unit as ResponseUnit,
  RateLimitResponseSchema,
  type RateLimitRequest,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { RateLimitDescriptor } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import { RateLimitUnit } from "#shared/proto/gen/envoy/type/v3/ratelimit_unit_pb.js";
import { hitsOf } from "#shared/rate-limits/descriptor-hits.ts";
import type { Addition } from "./counters.ts";
import { unitSeconds, type Known, type Limits, type Quota, type Unit } from "./limits.ts";

/** One descriptor of the request. */
export interface Question {
  readonly quota: Quota;
  readonly isShadow: boolean;
  readonly addition: Addition;
  readonly resetSeconds: number;
}

/** Newer than the description of the protocol that we have. */
const week: number = 7;

const requestUnits: ReadonlyMap<number, Unit> = new Map([
  [RateLimitUnit.SECOND, "second"],
  [RateLimitUnit.MINUTE, "minute"],
  [RateLimitUnit.HOUR, "hour"],
  [RateLimitUnit.DAY, "day"],
  [RateLimitUnit.MONTH, "month"],
  [RateLimitUnit.YEAR, "year"],
  [week, "week"],
]);

const responseUnits: Readonly<Record<Unit, number>> = {
  second: ResponseUnit.SECOND,
  minute: ResponseUnit.MINUTE,
  hour: ResponseUnit.HOUR,
  day: ResponseUnit.DAY,
  week,
  month: ResponseUnit.MONTH,
  year: ResponseUnit.YEAR,
};

/** More than any limit: further hits change nothing, and sums of them stay exact. */
const mostHits = 2 ** 32;
/** Characters; a longer key is kept by its hash. */
const longestKey = 200;

/** For each descriptor, in their order; undefined: nothing limits it. */
export function questionsOf(
  request: RateLimitRequest,
  limits: Limits,
  nowMs: number,
): readonly (Question | "unlimited" | undefined)[] {
  const found = request.descriptors.map((descriptor) => knownOf(request.domain, descriptor, limits));
  const replaced = new Set(found.flatMap((known) => (known?.kind === "quota" ? known.quota.replaces : [])));
  return request.descriptors.map((descriptor, index) => {
    const known = found[index];
    if (known?.kind !== "quota") return known?.kind;
    if (known.quota.name !== "" && replaced.has(known.quota.name)) return undefined;
    return questionOf(request, descriptor, known, nowMs);
  });
}

/** A limit that rides along, or one from a file. */
function knownOf(domain: string, { entries, limit }: RateLimitDescriptor, limits: Limits): Known | undefined {
  const unit = limit === undefined ? undefined : requestUnits.get(limit.unit);
  if (limit === undefined || unit === undefined) return limits.find(domain, entries);
  const quota = { requestsPerUnit: limit.requestsPerUnit, unit, name: "", replaces: [] };
  return { kind: "quota", quota, isShadow: false, sharedValues: new Map() };
}

function questionOf(
  { domain, hitsAddend }: RateLimitRequest,
  descriptor: RateLimitDescriptor,
  { quota, isShadow, sharedValues }: Known & { readonly kind: "quota" },
  nowMs: number,
): Question {
  const seconds = unitSeconds[quota.unit];
  const nowSeconds = Math.floor(nowMs / 1000);
  const start = nowSeconds - (nowSeconds % seconds);
  const texts = descriptor.entries.flatMap(({ key, value }, index) => [key, sharedValues.get(index) ?? value]);
  const key = [domain, ...texts].map(escaped).join("_");
  const own = hitsOf(descriptor);
  return {
    quota,
    isShadow,
    addition: {
      // The unit is in it: one caller may have a limit for each second and one for each hour.
      key: `${key.length > longestKey ? `sha256:${hash("sha256", key)}` : key}_${quota.unit}_${start}`,
      hits: Math.min(own === undefined ? hitsAddend || 1 : Number(own), mostHits),
      ttlSeconds: seconds,
    },
    resetSeconds: start + seconds - nowSeconds,
  };
}

/** No two lists of texts become the same key. */
const escaped = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("_", "\\_");

const endless = 2 ** 32 - 1;

/** `counts` after this request, one for each question that was asked. */
export function answer(
  questions: readonly (Question | "unlimited" | undefined)[],
  counts: readonly number[],
): RateLimitResponse {
  let asked = 0;
  let isOver = false;
  const statuses = questions.map(
    (
      question,
    ): MessageInitShape<typeof RateLimitResponseSchema>["statuses"] extends readonly (infer S)[] | undefined
      ? S
      : never => {
      if (question === undefined) return { code: Code.OK };
      if (question === "unlimited") return { code: Code.OK, limitRemaining: endless };
      const { quota, isShadow, resetSeconds } = question;
      const count = counts[asked++] ?? 0;
      // What comes over the limit counts too: whoever keeps asking stays out until the window ends.
      const exceeds = count > quota.requestsPerUnit && !isShadow;
      isOver ||= exceeds;
      return {
        code: exceeds ? Code.OVER_LIMIT : Code.OK,
        // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- weeks are newer than the definitions that we generate from
        currentLimit: { requestsPerUnit: quota.requestsPerUnit, unit: responseUnits[quota.unit], name: quota.name },
        limitRemaining: Math.max(quota.requestsPerUnit - count, 0),
        durationUntilReset: { seconds: BigInt(resetSeconds), nanos: 0 },
      };
    },
  );
  return create(RateLimitResponseSchema, { overallCode: isOver ? Code.OVER_LIMIT : Code.OK, statuses });
}
