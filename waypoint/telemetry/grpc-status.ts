import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { ExchangeEnd } from "./observers.ts";

/** What a gRPC call came to, as digits: in trailers, or in the head of an answer that is only a head. */
export function grpcStatusOf(response: ResponseHead | undefined, end: ExchangeEnd | undefined): string | undefined {
  const text = end?.responseTrailers?.get("grpc-status") ?? response?.headers.get("grpc-status");
  return text !== undefined && text.length < 10 && isNumber(text) ? text : undefined;
}

const isNumber = (text: string): boolean => /^\d+$/.test(text);
