/** A new authority for the upstream. */
import type { RouteAction } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { compileSubstitution } from "./match/regex.ts";
import { pathOnly } from "./route-table.ts";

/** The new authority; undefined or empty leaves it. */
export type HostRewrite = (request: RequestHead) => string | undefined;

export function compileHostRewrite(
  { hostRewriteSpecifier: specifier }: RouteAction,
  path: string,
  problem: Problem,
): HostRewrite | undefined {
  switch (specifier.case) {
    case "hostRewriteLiteral": {
      const { value } = specifier;
      if (/[\s\0]/.test(value)) problem(`${path}.host_rewrite_literal`, `"${value}" is no host`);
      return value === "" ? undefined : () => value;
    }
    case "hostRewriteHeader": {
      const name = specifier.value.toLowerCase();
      return (request) => request.headers.get(name);
    }
    case "hostRewritePathRegex": {
      const substitute = compileSubstitution(specifier.value, `${path}.host_rewrite_path_regex`, problem);
      return substitute && ((request) => substitute(pathOnly(request.path)));
    }
    case "autoHostRewrite":
    case undefined:
      return undefined;
  }
}

/** Sets the authority, keeping the old one in `x-forwarded-host` where the route says so, and in `x-envoy-original-host`. */
export function rewriteHost(
  request: RequestHead,
  authority: string,
  { appendsForwardedHost, keepsOriginal }: { readonly appendsForwardedHost: boolean; readonly keepsOriginal: boolean },
): void {
  if (appendsForwardedHost && request.authority !== "") {
    const before = request.headers.get("x-forwarded-host");
    request.headers.set("x-forwarded-host", before ? `${before},${request.authority}` : request.authority);
  }
  if (keepsOriginal && request.authority !== "") request.headers.set("x-envoy-original-host", request.authority);
  request.authority = authority;
}
