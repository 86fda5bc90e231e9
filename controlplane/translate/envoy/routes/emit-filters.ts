/** What single filters are told for a route: faults and CORS. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { CorsPolicySchema } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import {
  FractionalPercent_DenominatorType as Denominator,
  type FractionalPercentSchema,
} from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import { grpcStatuses } from "#controlplane/mesh/grpc-statuses.ts";
import type { CorsPolicy, Fault, StringMatch } from "#controlplane/mesh/virtual-service.ts";
import { duration, pack } from "../messages.ts";
import { stringMatcher } from "./emit-match.ts";

export const corsFilter = "envoy.filters.http.cors";
export const faultFilter = "envoy.filters.http.fault";

/** Percent with a precision of a ten-thousandth; beyond what a share can be, the nearest that it can. */
export const millionths = (percent: number): MessageInitShape<typeof FractionalPercentSchema> => ({
  numerator: Math.round(Math.min(Math.max(percent, 0), 100) * 10_000),
  denominator: Denominator.MILLION,
});

/** undefined where nothing would ever happen. */
export function emitFault({ delay, abort }: Fault): Any | undefined {
  const type = abort === undefined ? undefined : errorType(abort);
  const isDelaying = delay !== undefined && delay.percent > 0 && delay.fixedMs > 0;
  const isAborting = abort !== undefined && abort.percent > 0 && type !== undefined;
  if (!isDelaying && !isAborting) return undefined;
  return pack(HTTPFaultSchema, {
    ...(isDelaying
      ? {
          delay: {
            faultDelaySecifier: { case: "fixedDelay", value: duration(delay.fixedMs) },
            percentage: millionths(delay.percent),
          },
        }
      : {}),
    ...(isAborting ? { abort: { errorType: type, percentage: millionths(abort.percent) } } : {}),
  });
}

function errorType({ httpStatus, grpcStatus }: NonNullable<Fault["abort"]>) {
  if (httpStatus !== undefined) return { case: "httpStatus", value: httpStatus } as const;
  const code = grpcStatuses.indexOf(grpcStatus ?? "");
  return code < 0 ? undefined : ({ case: "grpcStatus", value: code } as const);
}

export function emitCors(cors: CorsPolicy): Any {
  return pack(CorsPolicySchema, {
    allowOriginStringMatch: cors.allowOrigins.filter(isValued).map(stringMatcher),
    allowMethods: cors.allowMethods.join(","),
    allowHeaders: cors.allowHeaders.join(","),
    exposeHeaders: cors.exposeHeaders.join(","),
    ...(cors.maxAgeMs === undefined ? {} : { maxAge: String(Math.floor(cors.maxAgeMs / 1000)) }),
    ...(cors.allowCredentials === undefined ? {} : { allowCredentials: cors.allowCredentials }),
    filterEnabled: { defaultValue: { numerator: 100, denominator: Denominator.HUNDRED } },
    forwardNotMatchingPreflights: !cors.ignoresUnmatchedPreflights,
  });
}

const isValued = (match: StringMatch): match is Exclude<StringMatch, { kind: "present" }> => match.kind !== "present";
