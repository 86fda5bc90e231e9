import { grpcStatusOf as grpcStatusOfHttp } from "#waypoint/http/local-reply.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { ExchangeEnd } from "./observers.ts";

/** What a gRPC call was told that it came to, as digits: in trailers, or in the head of an answer that is only a head. */
export function grpcStatusOf(response: ResponseHead | undefined, end: ExchangeEnd | undefined): string | undefined {
  const text = end?.responseTrailers?.get("grpc-status") ?? response?.headers.get("grpc-status");
  return text !== undefined && text.length < 10 && isNumber(text) ? text : undefined;
}

/** What it came to: an answer that does not say has the meaning of its HTTP status. Undefined where there is no answer. */
export function grpcOutcomeOf(response: ResponseHead | undefined, end: ExchangeEnd | undefined): string | undefined {
  return grpcStatusOf(response, end) ?? (response && String(grpcStatusOfHttp(response.status)));
}

const isNumber = (text: string): boolean => /^\d+$/.test(text);
