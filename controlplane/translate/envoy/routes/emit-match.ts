/** What a route takes, in Envoy's words. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RouteMatchSchema,
  type HeaderMatcherSchema,
  type QueryParameterMatcherSchema,
  type RouteMatch,
} from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { FilterStateMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/filter_state_pb.js";
import type { MetadataMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { StringMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";
import type { StringMatch } from "#controlplane/mesh/virtual-service.ts";
import { peerKey } from "../security/attributes.ts";
import { quoteRegex } from "../security/string-match.ts";
import type { ClaimMatch, EntryMatch, PathMatch, ValueMatch } from "./route-entry.ts";

/** `trustDomains`: every name of the mesh. */
export function emitMatch(
  { callers, path, ignoreCase, headers, queryParams, claims }: EntryMatch,
  trustDomains: readonly string[],
): RouteMatch {
  return create(RouteMatchSchema, {
    pathSpecifier: pathSpecifier(path),
    // Regular expressions say so themselves.
    ...(ignoreCase && path.kind !== "regex" ? { caseSensitive: false } : {}),
    headers: headers.map(headerMatcher),
    queryParameters: queryParams.map(queryMatcher),
    dynamicMetadata: claims.map(claimMatcher),
    filterState: callers === "" ? [] : [callerMatcher(callers, trustDomains)],
  });
}

function pathSpecifier({
  kind,
  value,
}: PathMatch): NonNullable<MessageInitShape<typeof RouteMatchSchema>["pathSpecifier"]> {
  switch (kind) {
    case "exact":
      return { case: "path", value };
    case "prefix":
      return { case: "prefix", value };
    case "segments":
      return { case: "pathSeparatedPrefix", value };
    case "regex":
      return { case: "safeRegex", value: { regex: value } };
  }
}

type Valued = Exclude<StringMatch, { kind: "present" }>;

export function stringMatcher({ kind, value }: Valued): MessageInitShape<typeof StringMatcherSchema> {
  return { matchPattern: kind === "regex" ? { case: "safeRegex", value: { regex: value } } : { case: kind, value } };
}

function headerMatcher({ name, match, isInverted = false }: ValueMatch): MessageInitShape<typeof HeaderMatcherSchema> {
  const inverted = isInverted ? { invertMatch: true } : {};
  if (match.kind === "present") {
    return { name, headerMatchSpecifier: { case: "presentMatch", value: true }, ...inverted };
  }
  return {
    name,
    headerMatchSpecifier: { case: "stringMatch", value: stringMatcher(match) },
    ...inverted,
    // A header that is missing has not the value that must not be there.
    ...(isInverted ? { treatMissingHeaderAsEmpty: true } : {}),
  };
}

const queryMatcher = ({ name, match }: ValueMatch): MessageInitShape<typeof QueryParameterMatcherSchema> => ({
  name,
  queryParameterMatchSpecifier:
    match.kind === "present"
      ? { case: "presentMatch", value: true }
      : { case: "stringMatch", value: stringMatcher(match) },
});

/** By the identity that the tunnel's certificate proves. */
function callerMatcher(
  namespace: string,
  trustDomains: readonly string[],
): MessageInitShape<typeof FilterStateMatcherSchema> {
  const [domain = "", ...others] = new Set(trustDomains);
  const value: Valued =
    others.length === 0
      ? { kind: "prefix", value: `spiffe://${domain}/ns/${namespace}/sa/` }
      : {
          kind: "regex",
          value: `spiffe://(${[domain, ...others].map(domainPattern).join("|")})/ns/${quoteRegex(namespace)}/sa/.+`,
        };
  return { key: peerKey, matcher: { case: "stringMatch", value: stringMatcher(value) } };
}

const domainPattern = (trustDomain: string): string => quoteRegex(trustDomain).replaceAll("\\*", "[^/]*");

/** The filter that checks tokens leaves their claims under this name and key. */
const jwtFilter = "envoy.filters.http.jwt_authn";
const payload = "payload";

function claimMatcher({ path, match, isInverted }: ClaimMatch): MessageInitShape<typeof MetadataMatcherSchema> {
  return {
    filter: jwtFilter,
    path: [payload, ...path].map((key) => ({ segment: { case: "key" as const, value: key } })),
    value: claimValue(match),
    ...(isInverted ? { invert: true } : {}),
  };
}

/** A claim may be a list: one of its members will do. */
function claimValue(match: StringMatch): NonNullable<MessageInitShape<typeof MetadataMatcherSchema>["value"]> {
  if (match.kind === "present") return { matchPattern: { case: "presentMatch", value: true } };
  const value = { matchPattern: { case: "stringMatch" as const, value: stringMatcher(match) } };
  const member = {
    matchPattern: { case: "listMatch" as const, value: { matchPattern: { case: "oneOf" as const, value } } },
  };
  return { matchPattern: { case: "orMatch", value: { valueMatchers: [value, member] } } };
}
