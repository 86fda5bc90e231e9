/** Matching of header fields: each value by itself, never a joined list; byte by byte, expressions too, as Envoy does it. */
import type { HeaderMatcher } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { StringMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";
import { toBytes } from "#waypoint/http/latin1.ts";
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { TextTest } from "./regex.ts";
import { compilePart, compileSafeRegex, compileString, type Problem } from "./string-matcher.ts";

export type HeadTest = (head: RequestHead) => boolean;

/**
 * A field that comes several times matches where any of its values does. A field that is missing matches nothing but
 * `present_match: false`, inverted or not, unless it is to be taken for empty.
 */
export function compileHeader(matcher: HeaderMatcher, path: string, problem: Problem): HeadTest {
  const name = matcher.name.toLowerCase();
  if (name === "") problem(`${path}.name`, "must not be empty");
  const { invertMatch: invert, treatMissingHeaderAsEmpty: missingIsEmpty } = matcher;
  const specifier = matcher.headerMatchSpecifier;
  if (specifier.case === undefined || specifier.case === "presentMatch") {
    const present = (specifier.case === undefined || specifier.value) !== invert;
    if (missingIsEmpty) return () => present;
    const pseudo = pseudoHeader(name);
    return pseudo === undefined ? (head) => head.headers.has(name) === present : () => present;
  }
  const test = compileTest(specifier, path, problem);
  const pseudo = pseudoHeader(name);
  if (pseudo !== undefined) return (head) => test(pseudo(head)) !== invert;
  return (head) => {
    const { pairs } = head.headers;
    let isPresent = false;
    for (let index = 0; index < pairs.length; index += 2) {
      if (pairs[index] !== name) continue;
      isPresent = true;
      if (test(pairs[index + 1] as string)) return !invert;
    }
    if (isPresent) return invert;
    return missingIsEmpty && test("") !== invert;
  };
}

/** What HTTP/1.1 has elsewhere in its head than among the fields; undefined for ordinary fields. */
export function pseudoHeader(name: string): ((head: RequestHead) => string) | undefined {
  switch (name) {
    case ":method":
      return (head) => head.method;
    case ":path":
      return (head) => head.path;
    case ":authority":
    case "host":
      return (head) => head.authority;
    case ":scheme":
      return (head) => head.scheme;
    default:
      return undefined;
  }
}

type Specifier = Exclude<HeaderMatcher["headerMatchSpecifier"], { case: "presentMatch" } | { case: undefined }>;

function compileTest(specifier: Specifier, path: string, problem: Problem): TextTest {
  switch (specifier.case) {
    case "stringMatch":
      return compileString(inBytes(specifier.value), `${path}.string_match`, problem);
    case "exactMatch": {
      const wanted = toBytes(specifier.value);
      return (value) => value === wanted;
    }
    case "safeRegexMatch":
      return compileSafeRegex(toBytes(specifier.value.regex), `${path}.safe_regex_match`, problem);
    case "prefixMatch":
      return compilePart("prefix", toBytes(specifier.value), false);
    case "suffixMatch":
      return compilePart("suffix", toBytes(specifier.value), false);
    case "containsMatch":
      return compilePart("contains", toBytes(specifier.value), false);
    case "rangeMatch": {
      const { start, end } = specifier.value;
      return (value) => /^[+-]?\d{1,18}$/.test(value) && BigInt(value) >= start && BigInt(value) < end;
    }
  }
}

function inBytes(matcher: StringMatcher): StringMatcher {
  const { matchPattern: pattern } = matcher;
  switch (pattern.case) {
    case "exact":
    case "prefix":
    case "suffix":
    case "contains":
      return { ...matcher, matchPattern: { case: pattern.case, value: toBytes(pattern.value) } };
    case "safeRegex": {
      const value = { ...pattern.value, regex: toBytes(pattern.value.regex) };
      return { ...matcher, matchPattern: { case: "safeRegex", value } };
    }
    case "custom":
    case undefined:
      return matcher;
  }
}
