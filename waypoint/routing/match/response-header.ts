/** Envoy's HeaderMatcher on an answer; `:status` is its only pseudo-header. */
import type { HeaderMatcher } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export function compileResponseHeader(
  matcher: HeaderMatcher,
  path: string,
  problem: Problem,
): (head: ResponseHead) => boolean {
  const name = matcher.name.toLowerCase();
  if (name.startsWith(":") && name !== ":status") problem(`${path}.name`, `answers have no "${name}"`);
  const test = compileHeader(matcher, path, problem);
  const asRequest = (headers: Headers) => ({ method: "", scheme: "", authority: "", path: "", headers });
  if (name === ":status") return ({ status }) => test(asRequest(new Headers([":status", String(status)])));
  return ({ headers }) => test(asRequest(headers));
}
