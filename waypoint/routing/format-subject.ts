/** What commands of format strings look at, and what they yield. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";

/** Undefined where there is nothing to say. */
export type Value = JsonValue | undefined;

/** What a command may look at. The answer is there in response operations and logs, the end in logs only. */
export interface FormatSubject {
  readonly exchange: Exchange;
  readonly response: ResponseHead | undefined;
  readonly end: ExchangeEnd | undefined;
  /** Name of the filter chain, in logs. */
  readonly chain?: string;
}
