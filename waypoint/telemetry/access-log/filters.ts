/** Which requests and connections are logged. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { allAttributes } from "#shared/expressions/vocabularies.ts";
import { AccessLogType as LogType } from "#shared/proto/gen/envoy/data/accesslog/v3/accesslog_pb.js";
import {
  ComparisonFilter_Op as Op,
  GrpcStatusFilter_Status as GrpcStatus,
  type AccessLogFilter,
  type ComparisonFilter,
  type GrpcStatusFilter,
  type RuntimeFilter,
} from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import { FractionalPercent_DenominatorType as Denominator } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import { ExpressionFilterSchema } from "#shared/proto/gen/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileMetadata } from "#waypoint/matching/value-matcher.ts";
import { longFlags } from "#waypoint/routing/long-flags.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import { compileExpression } from "#waypoint/expressions/compile-expression.ts";
import { grpcStatusOf } from "#waypoint/telemetry/grpc-status.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";

export type LogTest = (subject: Subject) => boolean;

export interface FilterContext {
  readonly node: NodeFacts;
  readonly problem: Problem;
  /** Told of loggers that are not known and left out; missing: they are problems. */
  readonly skipped?: ((what: string) => void) | undefined;
  /** [0, 1). */
  readonly random: () => number;
}

const never: LogTest = () => false;

export function compileFilter(filter: AccessLogFilter, path: string, context: FilterContext): LogTest {
  const { node, problem } = context;
  const { filterSpecifier: specifier } = filter;
  switch (specifier.case) {
    case "statusCodeFilter": {
      const test = compileComparison(specifier.value.comparison, `${path}.status_code_filter`, problem);
      return ({ response }) => test(response?.status ?? 0);
    }
    case "durationFilter": {
      const test = compileComparison(specifier.value.comparison, `${path}.duration_filter`, problem);
      return ({ end }) => end !== undefined && test(end.durationMs);
    }
    case "notHealthCheckFilter":
      // This proxy answers none itself.
      return () => true;
    case "runtimeFilter":
      return compileShare(specifier.value, context);
    case "andFilter":
    case "orFilter": {
      const { filters } = specifier.value;
      const name = specifier.case === "andFilter" ? "and_filter" : "or_filter";
      if (filters.length < 2) problem(`${path}.${name}.filters`, "needs at least two");
      const tests = filters.map((each, index) => compileFilter(each, `${path}.${name}.filters[${index}]`, context));
      return specifier.case === "andFilter"
        ? (subject) => tests.every((test) => test(subject))
        : (subject) => tests.some((test) => test(subject));
    }
    case "headerFilter": {
      const matcher = specifier.value.header;
      if (matcher === undefined) {
        problem(`${path}.header_filter.header`, "is missing");
        return never;
      }
      const test = compileHeader(matcher, `${path}.header_filter.header`, problem);
      return ({ exchange, isHttp }) => isHttp && test(exchange.request);
    }
    case "responseFlagFilter":
      return compileFlags(specifier.value.flags, `${path}.response_flag_filter.flags`, problem);
    case "grpcStatusFilter":
      return compileGrpcStatus(specifier.value);
    case "metadataFilter": {
      const { matcher, matchIfKeyNotFound = true } = specifier.value;
      if (matcher === undefined) return () => matchIfKeyNotFound;
      const test = compileMetadata(matcher, `${path}.metadata_filter.matcher`, problem);
      return ({ exchange }) =>
        exchange.metadataOf(matcher.filter) === undefined ? matchIfKeyNotFound : test(exchange);
    }
    case "logTypeFilter": {
      // Lines are written at the end, and never at any other time.
      const { types, exclude } = specifier.value;
      const own: readonly LogType[] = [LogType.DownstreamEnd, LogType.TcpConnectionEnd];
      return ({ isHttp }) => {
        const type = own[isHttp ? 0 : 1];
        return types.some((each) => each === type) !== exclude;
      };
    }
    case "extensionFilter": {
      const config = specifier.value.configType.value;
      const found = config === undefined ? undefined : anyUnpack(config, ExpressionFilterSchema);
      if (found === undefined) {
        problem(`${path}.extension_filter`, `"${specifier.value.name}" is not known; an expression is`);
        return never;
      }
      const test = compileExpression(
        found.expression,
        { node, vocabulary: allAttributes },
        `${path}.extension_filter.expression`,
        problem,
      );
      return (subject) => test(subject) === true;
    }
    case "traceableFilter":
      problem(`${path}.traceable_filter`, "is not supported");
      return never;
    case undefined:
      problem(path, "has no condition");
      return never;
  }
}

function compileComparison(
  comparison: ComparisonFilter | undefined,
  path: string,
  problem: Problem,
): (value: number) => boolean {
  const wanted = comparison?.value?.defaultValue;
  if (comparison === undefined || wanted === undefined) {
    problem(`${path}.comparison`, "is missing");
    return () => false;
  }
  switch (comparison.op) {
    case Op.EQ:
      return (value) => value === wanted;
    case Op.GE:
      return (value) => value >= wanted;
    case Op.LE:
      return (value) => value <= wanted;
  }
}

const denominators: Readonly<Record<Denominator, number>> = {
  [Denominator.HUNDRED]: 100,
  [Denominator.TEN_THOUSAND]: 10_000,
  [Denominator.MILLION]: 1_000_000,
};

/** A share of all; of requests that carry an id, always the same ones, unless each is drawn by itself. */
function compileShare({ percentSampled, useIndependentRandomness }: RuntimeFilter, { random }: FilterContext): LogTest {
  const { numerator = 0, denominator = Denominator.HUNDRED } = percentSampled ?? {};
  const share = numerator / denominators[denominator];
  return ({ exchange }) => {
    const id = useIndependentRandomness ? undefined : exchange.request.headers.get("x-request-id");
    const drawn = id === undefined ? NaN : Number.parseInt(id.slice(0, 8), 16) / 2 ** 32;
    return (Number.isNaN(drawn) ? random() : drawn) < share;
  };
}

/** No flags named: any flag. Flags that this proxy never sets match nothing. */
function compileFlags(flags: readonly string[], path: string, problem: Problem): LogTest {
  const wanted = new Set(flags);
  for (const flag of flags) if (!/^[A-Z]{2,4}$/.test(flag)) problem(path, `"${flag}" is no response flag`);
  if (wanted.size === 0) return ({ exchange }) => exchange.flags.size > 0;
  const own = Object.keys(longFlags).filter((flag) => wanted.has(flag)) as (keyof typeof longFlags)[];
  return ({ exchange }) => own.some((flag) => exchange.flags.has(flag));
}

function compileGrpcStatus({ statuses, exclude }: GrpcStatusFilter): LogTest {
  const wanted = new Set<number>(statuses);
  return ({ response, end, isHttp }) => {
    if (!isHttp) return false;
    const text = grpcStatusOf(response, end);
    // A failure that is none of gRPC's own.
    const status =
      text !== undefined ? Number(text) : (response?.status ?? 0) === 200 ? GrpcStatus.OK : GrpcStatus.UNKNOWN;
    return wanted.has(status) !== exclude;
  };
}
