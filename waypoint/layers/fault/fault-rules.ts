/** Compiles Envoy's HTTPFault: which requests are delayed or refused, and what their headers may say about it. */
import type { FractionalPercent } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import type { HTTPFault } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { isChosen, readFraction, type Fraction } from "#waypoint/routing/match/fraction.ts";

export interface FaultRules {
  /** Other requests are left alone. */
  applies(exchange: Exchange): boolean;
  /** Milliseconds; 0 for no delay this time. */
  delayMs(headers: Headers, random: () => number): number;
  /** Undefined for none this time. */
  abort(headers: Headers, random: () => number): LocalReply | undefined;
  readonly maxActive: number | undefined;
  readonly metadata: HTTPFault["filterMetadata"];
}

/** A request may not ask for longer. */
const maxHeaderDelayMs = 3_600_000;

export function compileFault(fault: HTTPFault, { problem }: Pick<LayerContext, "problem">): FaultRules {
  if (fault.responseRateLimit !== undefined) problem("response_rate_limit", "is not supported");
  const nodes = new Set(fault.downstreamNodes);
  const tests = fault.headers.map((one, index) => compileHeader(one, `headers[${index}]`, problem));
  const { upstreamCluster } = fault;
  return {
    applies: (exchange) => {
      const { request, route } = exchange;
      if (upstreamCluster !== "") {
        const action = route?.action;
        if (action?.kind !== "forward" || action.pickCluster(exchange) !== upstreamCluster) return false;
      }
      if (nodes.size > 0 && !nodes.has(request.headers.get("x-envoy-downstream-service-node") ?? "")) return false;
      return tests.every((test) => test(request));
    },
    delayMs: compileDelay(fault.delay, problem),
    abort: compileAbort(fault.abort, problem),
    maxActive: fault.maxActiveFaults,
    metadata: fault.filterMetadata,
  };
}

function compileDelay(delay: HTTPFault["delay"], problem: Problem): FaultRules["delayMs"] {
  if (delay === undefined) return () => 0;
  const { faultDelaySecifier: specifier } = delay;
  const isHeader = specifier.case === "headerDelay";
  const chance = compileChance(delay.percentage, "delay.percentage", isHeader ? "delay-request" : undefined, problem);
  if (isHeader)
    return (headers, random) => {
      const text = headers.get("x-envoy-fault-delay-request");
      if (text === undefined || !/^\d{1,10}$/.test(text) || !chance(headers, random)) return 0;
      return Math.min(Number(text), maxHeaderDelayMs);
    };
  if (specifier.case === undefined) problem("delay", "set one of fixed_delay and header_delay");
  const fixedMs = specifier.case === "fixedDelay" ? readMs(specifier.value, "delay.fixed_delay", problem) : 0;
  if (fixedMs === 0 && specifier.case === "fixedDelay") problem("delay.fixed_delay", "must be above zero");
  return (headers, random) => (chance(headers, random) ? (fixedMs ?? 0) : 0);
}

const body = "fault filter abort";

const httpAbort = (status: number): LocalReply => ({ status, body, details: "fault_filter_abort", flag: "FI" });
const grpcAbort = (grpcStatus: number): LocalReply => ({ ...httpAbort(200), grpcStatus });

function compileAbort(abort: HTTPFault["abort"], problem: Problem): FaultRules["abort"] {
  if (abort === undefined) return () => undefined;
  const { errorType } = abort;
  const isHeader = errorType.case === "headerAbort";
  const chance = compileChance(abort.percentage, "abort.percentage", isHeader ? "abort-request" : undefined, problem);
  switch (errorType.case) {
    case "httpStatus":
    case "grpcStatus": {
      const { value } = errorType;
      const isHttp = errorType.case === "httpStatus";
      if (isHttp && !(value >= 200 && value < 600)) problem("abort.http_status", `${value} is not between 200 and 599`);
      const reply = isHttp ? httpAbort(value) : grpcAbort(value);
      return (headers, random) => (chance(headers, random) ? reply : undefined);
    }
    case "headerAbort":
      return (headers, random) => {
        const reply = replyAskedFor(headers);
        return reply !== undefined && chance(headers, random) ? reply : undefined;
      };
    case undefined:
      problem("abort", "set one of http_status, grpc_status and header_abort");
      return () => undefined;
  }
}

function replyAskedFor(headers: Headers): LocalReply | undefined {
  const http = headers.get("x-envoy-fault-abort-request");
  if (http !== undefined && /^[2-5]\d\d$/.test(http)) return httpAbort(Number(http));
  const grpc = headers.get("x-envoy-fault-abort-grpc-request");
  return grpc !== undefined && /^\d{1,2}$/.test(grpc) && Number(grpc) <= 16 ? grpcAbort(Number(grpc)) : undefined;
}

/** Where headers rule, one of them may lower the configured percentage, never raise it. */
function compileChance(
  percentage: FractionalPercent | undefined,
  path: string,
  header: string | undefined,
  problem: Problem,
): (headers: Headers, random: () => number) => boolean {
  const fraction = readFraction(percentage, path, problem);
  if (header === undefined) return (_, random) => isDrawn(fraction, random);
  const name = `x-envoy-fault-${header}-percentage`;
  return (headers, random) => {
    const text = headers.get(name);
    if (text === undefined || !/^\d{1,10}$/.test(text)) return isDrawn(fraction, random);
    return isDrawn({ ...fraction, numerator: Math.min(Number(text), fraction.numerator) }, random);
  };
}

const isDrawn = (fraction: Fraction, random: () => number): boolean =>
  fraction.numerator >= fraction.denominator || (fraction.numerator > 0 && isChosen(fraction, random()));
