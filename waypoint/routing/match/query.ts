/** Query parameters as Envoy reads them: split at `&` and the first `=`, not decoded; the first of a name counts. */
import type { QueryParameterMatcher } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { compileString, type Problem } from "#waypoint/matching/string-matcher.ts";

/** The first value of `name` in a path; undefined where there is none. */
export function queryParameter(path: string, name: string): string | undefined {
  const mark = path.indexOf("?");
  if (mark < 0) return undefined;
  const hash = path.indexOf("#");
  const end = hash < 0 ? path.length : hash;
  let start = mark + 1;
  while (start < end) {
    let stop = path.indexOf("&", start);
    if (stop < 0 || stop > end) stop = end;
    if (path.startsWith(name, start)) {
      const after = start + name.length;
      if (after === stop) return "";
      if (after < stop && path.charCodeAt(after) === 61) return path.slice(after + 1, stop);
    }
    start = stop + 1;
  }
  return undefined;
}

/** As {@link queryParameter}, but names and values are decoded before they are looked at. */
export function decodedParameter(path: string, name: string): string | undefined {
  const query = /\?([^#]*)/s.exec(path)?.[1] ?? "";
  for (const part of query.split("&")) {
    const equals = part.indexOf("=");
    if (decoded(equals < 0 ? part : part.slice(0, equals)) === name)
      return equals < 0 ? "" : decoded(part.slice(equals + 1));
  }
  return undefined;
}

/** Byte by byte; what is no escape stays. A plus is a plus. */
const decoded = (text: string): string =>
  text.replace(/%([0-9a-f]{2})/gi, (_whole, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

export function compileQueryMatch(
  matcher: QueryParameterMatcher,
  path: string,
  problem: Problem,
): (requestPath: string) => boolean {
  const { name, queryParameterMatchSpecifier: specifier } = matcher;
  if (name === "") problem(`${path}.name`, "must not be empty");
  if (specifier.case === "stringMatch") {
    const test = compileString(specifier.value, `${path}.string_match`, problem);
    return (requestPath) => {
      const value = queryParameter(requestPath, name);
      return value !== undefined && test(value);
    };
  }
  const wanted = specifier.case === undefined || specifier.value;
  return (requestPath) => (queryParameter(requestPath, name) !== undefined) === wanted;
}
