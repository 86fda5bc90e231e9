/**
 * Path templates of Envoy (`UriTemplateMatchConfig`), such as `/api/{version}/users/{id=*}/**`: `*` is one segment, `**` any
 * number of them with their slashes, and both may have a name, or a literal behind them within the segment.
 */
import { RE2JS } from "re2js";
import type { TextTest } from "./regex.ts";
import type { Problem } from "./string-matcher.ts";

export interface PathTemplate {
  /** Whether a path, without its query, is of this form. */
  readonly test: TextTest;
  /** What the variables stand for, or undefined where the path does not match. */
  match(path: string): ReadonlyMap<string, string> | undefined;
  readonly variables: readonly string[];
}

/** What literals consist of: RFC 3986's segments without the star, which wildcards match too. */
const letters = "a-zA-Z0-9\\-._~%!$&'()+,;:@=";
const oneSegment = `[${letters}*]+`;
const manySegments = `[${letters}*/]*`;
const literalForm = new RegExp(`^[${letters}]*$`);
const nameForm = /^[a-zA-Z][a-zA-Z0-9_]{0,15}$/;
const mostVariables = 5;
const longestTemplate = 4_096;

const isWildcard = (part: string): boolean => part === "*" || part === "**";

/** Undefined where the template is wrong, which is reported. */
export function compilePathTemplate(template: string, path: string, problem: Problem): PathTemplate | undefined {
  try {
    return compile(parse(template));
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    problem(path, `"${template.slice(0, 200)}" is no path template: ${error.message}`);
    return undefined;
  }
}

class Mistake extends Error {}

/** What stands between two slashes: literals around a wildcard, or around a variable with segments of its own. */
interface Segment {
  readonly before: string;
  /** Literals and wildcards; empty where the segment is a literal. */
  readonly inner: readonly string[];
  readonly variable: string | undefined;
  readonly after: string;
}

function parse(template: string): readonly Segment[] {
  if (template.length > longestTemplate) {
    throw new Mistake(`it has ${template.length} characters, limit ${longestTemplate}`);
  }
  if (!template.startsWith("/")) throw new Mistake("it does not begin with a slash");
  const texts = splitSegments(template.slice(1));
  const segments = texts.map((text, index) => {
    if (text === "" && index < texts.length - 1) throw new Mistake("it has an empty segment");
    return parseSegment(text);
  });
  const variables = segments.flatMap(({ variable }) => variable ?? []);
  if (variables.length > mostVariables)
    throw new Mistake(`it has ${variables.length} variables, limit ${mostVariables}`);
  const twice = variables.find((name, index) => variables.indexOf(name) < index);
  if (twice !== undefined) throw new Mistake(`it names "${twice}" twice`);
  const wildcards = segments.flatMap(({ inner }) => inner.filter(isWildcard));
  if (wildcards.slice(0, -1).includes("**")) throw new Mistake('"**" must be its last wildcard');
  return segments;
}

/** At slashes that are not inside braces. */
function splitSegments(text: string): readonly string[] {
  const segments: string[] = [];
  let isInside = false;
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === "{") isInside = true;
    else if (char === "}") isInside = false;
    else if (char === "/" && !isInside) {
      segments.push(text.slice(start, index));
      start = index + 1;
    }
  }
  segments.push(text.slice(start));
  return segments;
}

function parseSegment(text: string): Segment {
  const found = /^([^{}*]*)(?:(\*\*?)|\{([^{}=]*)(?:=([^{}]*))?\})?([^{}*]*)$/.exec(text);
  const [, before = "", wildcard, name, pattern = "*", after = ""] = found ?? [];
  if (found === null || !literalForm.test(before + after)) {
    throw new Mistake(`"${text}" is not a literal, *, ** or {variable}`);
  }
  // Envoy takes such a star for a repetition of the letter before it.
  if (wildcard !== undefined && before !== "") throw new Mistake(`"${text}" has a wildcard behind a literal`);
  if (wildcard !== undefined) return { before, inner: [wildcard], variable: undefined, after };
  if (name === undefined) return { before: before + after, inner: [], variable: undefined, after: "" };
  if (!nameForm.test(name)) throw new Mistake(`"${name}" is no name of a variable (letters, digits, _; at most 16)`);
  const inner = pattern.split("/");
  const isRight = inner.every((part) => isWildcard(part) || (part !== "" && literalForm.test(part)));
  if (!isRight) throw new Mistake(`"${pattern}" is no pattern of a variable`);
  return { before, inner, variable: name, after };
}

function compile(segments: readonly Segment[]): PathTemplate {
  const variables = segments.flatMap(({ variable }) => variable ?? []);
  const walk = bySegment(segments);
  if (walk !== undefined && variables.length === 0) return { test: walk, match: matchWith(walk), variables };
  const regex = RE2JS.compile(segments.map((segment) => `/${patternOf(segment)}`).join(""));
  return {
    test: walk ?? ((path) => regex.testExact(path)),
    match: (path) => {
      const matcher = regex.matcher(path);
      if (!matcher.matches()) return undefined;
      return new Map(variables.map((name, index) => [name, matcher.group(index + 1) ?? ""]));
    },
    variables,
  };
}

const nothing: ReadonlyMap<string, string> = new Map();

const matchWith =
  (test: TextTest): PathTemplate["match"] =>
  (path) =>
    test(path) ? nothing : undefined;

function patternOf({ before, inner, variable, after }: Segment): string {
  const pattern = inner
    .map((part) => (part === "*" ? oneSegment : part === "**" ? manySegments : RE2JS.quote(part)))
    .join("/");
  return `${RE2JS.quote(before)}${variable === undefined ? pattern : `(${pattern})`}${RE2JS.quote(after)}`;
}

const segmentForm = new RegExp(`^${oneSegment}$`);
const restForm = new RegExp(`^${manySegments}$`);

/** Whole segments only, and `**` at the end: the common case, compared one by one, without an engine. */
function bySegment(segments: readonly Segment[]): TextTest | undefined {
  if (segments.some(({ before, inner, after }) => inner.length > 0 && before + after !== "")) return undefined;
  const parts = segments.flatMap(({ before, inner }) => (inner.length === 0 ? [before] : inner));
  if (parts.slice(0, -1).includes("**")) return undefined;
  const hasRest = parts.at(-1) === "**";
  const fixed = hasRest ? parts.slice(0, -1) : parts;
  return (path) => {
    if (!path.startsWith("/")) return false;
    let from = 1;
    for (const [index, part] of fixed.entries()) {
      if (from > path.length) return false;
      const slash = path.indexOf("/", from);
      const isLast = !hasRest && index === fixed.length - 1;
      if (isLast ? slash >= 0 : slash < 0) return false;
      const found = path.slice(from, isLast ? path.length : slash);
      if (part === "*" ? !segmentForm.test(found) : found !== part) return false;
      from = isLast ? path.length + 1 : slash + 1;
    }
    return !hasRest || restForm.test(path.slice(from));
  };
}
