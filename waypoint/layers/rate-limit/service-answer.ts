/** What a rate limit service wants added to requests and answers. It may be anybody's: what would change a message's form is left out. */
import type { HeaderValue } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { RateLimitResponse } from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { Headers } from "#waypoint/http/headers.ts";
import { toBytes } from "#waypoint/http/latin1.ts";
import { isWritableHeader } from "#waypoint/routing/header-edits.ts";

export type ToldHeaders = readonly (readonly [name: string, value: string])[];

/** More than a service has a use for. */
const mostHeaders = 64;

export const answerHeaders = ({ responseHeadersToAdd }: RateLimitResponse): ToldHeaders => told(responseHeadersToAdd);

export function addRequestHeaders({ requestHeadersToAdd }: RateLimitResponse, headers: Headers): void {
  for (const [name, value] of told(requestHeadersToAdd)) headers.append(name, value);
}

/** Its own words for who is over a limit; undefined where it has none. */
export const answerBody = ({ rawBody }: RateLimitResponse): Buffer | undefined =>
  rawBody.length === 0 ? undefined : Buffer.from(rawBody);

const told = (headers: readonly HeaderValue[]): ToldHeaders =>
  headers.slice(0, mostHeaders).flatMap(({ key, value, rawValue }) => {
    const name = key.toLowerCase();
    const text = value === "" ? Buffer.from(rawValue).toString("latin1") : toBytes(value);
    return isWritableHeader(name, text) ? [[name, text] as const] : [];
  });
