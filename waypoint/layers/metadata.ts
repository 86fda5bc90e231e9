import type { JsonObject } from "@bufbuild/protobuf";
import type { Exchange } from "#waypoint/http/exchange.ts";

/** Adds to what a filter said about a request; members that are there already are replaced. */
export function recordMetadata(exchange: Exchange, filter: string, values: JsonObject): void {
  const before = exchange.metadataOf(filter);
  exchange.metadata.set(filter, before === undefined ? values : { ...before, ...values });
}
