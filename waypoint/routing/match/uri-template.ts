/**
 * Path templates such as `/api/{version}/users/{id=*}/**`: `*` is one segment, `**` any number of segments and only once and last,
 * `{name}` and `{name=pattern}` capture. Literals are what a path may hold unescaped.
 */
import { RE2JS } from "re2js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

export interface UriTemplate {
  /** Captured variables, or undefined where the path does not match. */
  match(path: string): ReadonlyMap<string, string> | undefined;
  readonly variables: readonly string[];
}

const literalForm = /^[A-Za-z0-9\-._~%!$&'()+,;:@]+$/;
const nameForm = /^[A-Za-z][A-Za-z0-9_]{0,15}$/;
const maxVariables = 5;
/** One segment, or several: what Envoy lets a wildcard stand for. */
const letters = "a-zA-Z0-9\\-._~%!$&'()+,;:@=";
const oneSegment = `[${letters}]+`;
const manySegments = `[${letters}/]*`;

export function compileUriTemplate(template: string, path: string, problem: Problem): UriTemplate | undefined {
  const refuse = (why: string): undefined => {
    problem(path, `"${template}" is no path template: ${why}`);
    return undefined;
  };
  if (!template.startsWith("/")) return refuse("it does not begin with /");
  const variables: string[] = [];
  let pattern = "";
  let sawMany = false;
  for (const [index, segment] of splitSegments(template.slice(1)).entries()) {
    pattern += "/";
    if (sawMany) return refuse("nothing may follow **");
    const variable = /^\{([^{}=]*)(?:=([^{}]*))?\}(.*)$/s.exec(segment);
    if (variable === null) {
      if (segment === "" && index > 0 && !template.endsWith("/")) return refuse("it has an empty segment");
      const piece = segmentPattern(segment);
      if (piece === undefined) return refuse(`"${segment}" is not a literal, * or **`);
      if (segment === "**") sawMany = true;
      pattern += piece;
      continue;
    }
    const [, name = "", inner = "*", suffix = ""] = variable;
    if (!nameForm.test(name)) return refuse(`"${name}" is no name of a variable (letters, digits, _; at most 16)`);
    if (variables.includes(name)) return refuse(`variable "${name}" stands twice`);
    variables.push(name);
    if (variables.length > maxVariables) return refuse(`it has more than ${maxVariables} variables`);
    const pieces = inner.split("/").map(segmentPattern);
    if (inner === "" || pieces.includes(undefined)) return refuse(`"${inner}" is no pattern of a variable`);
    const many = inner.split("/").indexOf("**");
    if (many >= 0 && many < inner.split("/").length - 1) return refuse("nothing may follow **");
    if (many >= 0) sawMany = true;
    if (suffix !== "" && !literalForm.test(suffix)) return refuse(`"${suffix}" after a variable is no literal`);
    pattern += `(${pieces.join("/")})${RE2JS.quote(suffix)}`;
  }
  const regex = RE2JS.compile(pattern);
  return {
    variables,
    match: (text) => {
      const matcher = regex.matcher(text);
      if (!matcher.matches()) return undefined;
      return new Map(variables.map((name, index) => [name, matcher.group(index + 1) ?? ""]));
    },
  };
}

function segmentPattern(segment: string): string | undefined {
  if (segment === "*") return oneSegment;
  if (segment === "**") return manySegments;
  if (segment === "") return "";
  return literalForm.test(segment) && !segment.includes("*") ? RE2JS.quote(segment) : undefined;
}

/** At slashes that are not inside braces. */
function splitSegments(text: string): string[] {
  const segments: string[] = [];
  let depth = 0;
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === "{") depth++;
    else if (char === "}") depth--;
    else if (char === "/" && depth === 0) {
      segments.push(text.slice(start, index));
      start = index + 1;
    }
  }
  segments.push(text.slice(start));
  return segments;
}

/** `/v2/{id}/{version}`: fills variables of a template into another path. */
export function compileUriRewrite(
  rewrite: string,
  template: UriTemplate,
  path: string,
  problem: Problem,
): ((text: string) => string | undefined) | undefined {
  const parts = rewrite.split(/\{([^{}]*)\}/);
  const unknown = parts.filter((part, index) => index % 2 === 1 && !template.variables.includes(part));
  if (!rewrite.startsWith("/") || unknown.length > 0) {
    problem(
      path,
      unknown.length > 0
        ? `"${unknown.join(", ")}" is no variable of the route's path template`
        : `"${rewrite}" does not begin with /`,
    );
    return undefined;
  }
  return (text) => {
    const values = template.match(text);
    return values && parts.map((part, index) => (index % 2 === 1 ? (values.get(part) ?? "") : part)).join("");
  };
}
