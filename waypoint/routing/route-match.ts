/** Compiles Envoy's RouteMatch: the test of one route, and what an index may know of it. */
import { fromBinary } from "@bufbuild/protobuf";
import type { RouteMatch } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { isGrpcContentType } from "#waypoint/http/grpc-content-type.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compileFilterState } from "#waypoint/matching/filter-state.ts";
import { compileHeader, pseudoHeader } from "#waypoint/matching/header-matcher.ts";
import { compilePathTemplate, type PathTemplate } from "#waypoint/matching/path-template.ts";
import { compileSafeRegex, type Problem } from "#waypoint/matching/string-matcher.ts";
import { compileMetadata } from "#waypoint/matching/value-matcher.ts";
import { isChosen, readRuntimeFraction } from "./match/fraction.ts";
import { compileQueryMatch } from "./match/query.ts";
import { literalPrefix } from "./match/regex.ts";

/** Path without query and fragment. */
export type PathTest = (path: string) => boolean;

export interface CompiledMatch {
  matches(exchange: Exchange, path: string): boolean;
  readonly key: PathKey;
  /** Values that a request must have, for the index: header (or pseudo-header) name → exact value. */
  readonly exactHeaders: ReadonlyMap<string, string>;
  readonly path: MatchedPath;
}

/** Which paths can match: exactly this one, or those that begin so. */
export interface PathKey {
  readonly kind: "exact" | "prefix";
  readonly text: string;
  readonly ignoresCase: boolean;
}

/** How much of a path was matched, for prefix rewrites. */
export interface MatchedPath {
  /** Characters of the path that a prefix rewrite replaces; undefined for the whole path. */
  readonly prefixLength: number | undefined;
  readonly kind: "prefix" | "path" | "regex" | "separated" | "template" | "connect";
  readonly template: PathTemplate | undefined;
}

interface PathPart {
  readonly test: PathTest | undefined;
  readonly key: PathKey;
  readonly matched: MatchedPath;
}

const anyPath: PathKey = { kind: "prefix", text: "", ignoresCase: false };

/** `position` among the routes of a virtual host: fractions of several routes are drawn apart from each other. */
export function compileMatch(
  match: RouteMatch | undefined,
  path: string,
  problem: Problem,
  position = 0,
): CompiledMatch {
  if (match === undefined) {
    problem(path, "must be set");
    return {
      matches: () => false,
      key: anyPath,
      exactHeaders: new Map(),
      path: { prefixLength: 0, kind: "prefix", template: undefined },
    };
  }
  const part = compilePath(match, path, problem);
  const tests: ((exchange: Exchange) => boolean)[] = [];
  if (match.pathSpecifier.case === "connectMatcher") tests.push(({ request }) => request.method === "CONNECT");
  if (match.runtimeFraction !== undefined) {
    const fraction = readRuntimeFraction(match.runtimeFraction, `${path}.runtime_fraction`, problem);
    const spread = 1_000_003 + 2 * position;
    tests.push(({ draw }) => isChosen(fraction, (draw * spread) % 1));
  }
  if (match.grpc !== undefined) tests.push(({ request }) => isGrpcContentType(request.headers.get("content-type")));
  for (const [index, header] of match.headers.entries()) {
    const name = header.name.toLowerCase();
    if (name.startsWith(":") && pseudoHeader(name) === undefined)
      problem(`${path}.headers[${index}].name`, `requests have no "${name}"`);
    const test = compileHeader(header, `${path}.headers[${index}]`, problem);
    tests.push(({ request }) => test(request));
  }
  for (const [index, parameter] of match.queryParameters.entries()) {
    const test = compileQueryMatch(parameter, `${path}.query_parameters[${index}]`, problem);
    tests.push(({ request }) => test(request.path));
  }
  for (const [index, metadata] of match.dynamicMetadata.entries())
    tests.push(compileMetadata(metadata, `${path}.dynamic_metadata[${index}]`, problem));
  for (const [index, state] of match.filterState.entries()) {
    const test = compileFilterState(state, `${path}.filter_state[${index}]`, problem);
    tests.push(({ connection }) => test(connection));
  }
  if (match.tlsContext !== undefined)
    problem(`${path}.tls_context`, "is not supported: the tunnel's identity is matched by filter_state");
  return {
    matches: conjunction(part.test, tests),
    key: part.key,
    exactHeaders: exactHeaders(match),
    path: part.matched,
  };
}

/** Most routes have a path and no or one other condition: no loop for those. */
function conjunction(
  pathTest: PathTest | undefined,
  tests: readonly ((exchange: Exchange) => boolean)[],
): (exchange: Exchange, path: string) => boolean {
  const [first] = tests;
  if (first === undefined) return pathTest === undefined ? () => true : (_, path) => pathTest(path);
  if (tests.length === 1) return (exchange, path) => (pathTest === undefined || pathTest(path)) && first(exchange);
  return (exchange, path) => {
    if (pathTest !== undefined && !pathTest(path)) return false;
    for (const test of tests) if (!test(exchange)) return false;
    return true;
  };
}

function compilePath(match: RouteMatch, path: string, problem: Problem): PathPart {
  const { pathSpecifier: specifier } = match;
  const ignoresCase = match.caseSensitive === false;
  const matched = (kind: MatchedPath["kind"], prefixLength?: number, template?: PathTemplate): MatchedPath => ({
    kind,
    prefixLength,
    template,
  });
  switch (specifier.case) {
    case "prefix": {
      const text = ignoresCase ? specifier.value.toLowerCase() : specifier.value;
      const test = (value: string) => (ignoresCase ? value.toLowerCase() : value).startsWith(text);
      const isAny = text === "" || text === "/";
      return {
        // A CONNECT has no path; everything else has one, if only an asterisk.
        test: text === "" ? (value) => value !== "" : test,
        key: isAny ? anyPath : { kind: "prefix", text, ignoresCase },
        matched: matched("prefix", text.length),
      };
    }
    case "path": {
      const text = ignoresCase ? specifier.value.toLowerCase() : specifier.value;
      return {
        test: ignoresCase ? (value) => value.toLowerCase() === text : (value) => value === text,
        key: { kind: "exact", text, ignoresCase },
        matched: matched("path"),
      };
    }
    case "pathSeparatedPrefix": {
      if (!/^\/[^?#]*[^?#/]$/.test(specifier.value))
        problem(
          `${path}.path_separated_prefix`,
          `"${specifier.value}" must begin with / and not end with it, without query or fragment`,
        );
      const text = ignoresCase ? specifier.value.toLowerCase() : specifier.value;
      const { length } = text;
      return {
        test: (value) =>
          (ignoresCase ? value.toLowerCase() : value).startsWith(text) &&
          (value.length === length || value.charCodeAt(length) === 47),
        key: { kind: "prefix", text, ignoresCase },
        matched: matched("separated", length),
      };
    }
    case "safeRegex":
      return {
        test: compileSafeRegex(specifier.value.regex, `${path}.safe_regex`, problem),
        key: { kind: "prefix", text: literalPrefix(specifier.value.regex), ignoresCase: false },
        matched: matched("regex"),
      };
    case "connectMatcher":
      return { test: undefined, key: anyPath, matched: matched("connect") };
    case "pathMatchPolicy": {
      const config = specifier.value.typedConfig;
      if (config === undefined || !config.typeUrl.endsWith(`/${UriTemplateMatchConfigSchema.typeName}`)) {
        problem(`${path}.path_match_policy`, `"${config?.typeUrl ?? ""}" is not supported`);
        return { test: () => false, key: anyPath, matched: matched("template") };
      }
      const template = compilePathTemplate(
        fromBinary(UriTemplateMatchConfigSchema, config.value).pathTemplate,
        `${path}.path_match_policy.path_template`,
        problem,
      );
      return {
        test: template?.test ?? (() => false),
        key: anyPath,
        matched: matched("template", undefined, template),
      };
    }
    case undefined:
      problem(path, "set one of prefix, path, safe_regex, path_separated_prefix, path_match_policy or connect_matcher");
      return { test: () => false, key: anyPath, matched: matched("prefix", 0) };
  }
}

/** Matchers that only one value passes. */
function exactHeaders(match: RouteMatch): Map<string, string> {
  const found = new Map<string, string>();
  for (const { name, invertMatch, treatMissingHeaderAsEmpty, headerMatchSpecifier: specifier } of match.headers) {
    if (invertMatch || treatMissingHeaderAsEmpty) continue;
    const lower = name.toLowerCase() === "host" ? ":authority" : name.toLowerCase();
    if (specifier.case === "exactMatch") found.set(lower, specifier.value);
    if (
      specifier.case === "stringMatch" &&
      !specifier.value.ignoreCase &&
      specifier.value.matchPattern.case === "exact"
    )
      found.set(lower, specifier.value.matchPattern.value);
  }
  return found;
}
