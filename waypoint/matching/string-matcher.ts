import type { StringMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import { compileRegex, type TextTest } from "./regex.ts";

/** Says what is wrong with a configuration, and where. */
export type Problem = (path: string, message: string) => void;

const never: TextTest = () => false;

/** Compiles a test of one text. What cannot be compiled is reported, and matches nothing. */
export function compileString(matcher: StringMatcher | undefined, path: string, problem: Problem): TextTest {
  const pattern = matcher?.matchPattern;
  const ignoreCase = matcher?.ignoreCase === true;
  switch (pattern?.case) {
    case "exact": {
      const wanted = pattern.value;
      if (!ignoreCase) return (value) => value === wanted;
      const lower = wanted.toLowerCase();
      return (value) => value.length === lower.length && value.toLowerCase() === lower;
    }
    case "prefix":
    case "suffix":
    case "contains":
      if (pattern.value === "") problem(`${path}.${pattern.case}`, "must not be empty");
      return compilePart(pattern.case, pattern.value, ignoreCase);
    case "safeRegex":
      return compileSafeRegex(pattern.value.regex, `${path}.safe_regex`, problem);
    case "custom":
      problem(`${path}.custom`, "custom string matchers are not supported");
      return never;
    case undefined:
      problem(path, "has no pattern");
      return never;
  }
}

export function compileSafeRegex(regex: string, path: string, problem: Problem): TextTest {
  if (regex === "") {
    problem(path, "must not be empty");
    return never;
  }
  try {
    return compileRegex(regex);
  } catch (error) {
    problem(path, `"${regex.slice(0, 100)}" is not RE2: ${explain(error)}`);
    return never;
  }
}

export function compilePart(kind: "prefix" | "suffix" | "contains", text: string, ignoreCase: boolean): TextTest {
  const wanted = ignoreCase ? text.toLowerCase() : text;
  const test: TextTest =
    kind === "prefix"
      ? (value) => value.startsWith(wanted)
      : kind === "suffix"
        ? (value) => value.endsWith(wanted)
        : (value) => value.includes(wanted);
  return ignoreCase ? (value) => test(value.toLowerCase()) : test;
}

/** Any of several; an empty list matches nothing. */
export function compileStrings(
  matchers: readonly StringMatcher[] | undefined,
  path: string,
  problem: Problem,
): TextTest | undefined {
  if (matchers === undefined || matchers.length === 0) return undefined;
  const tests = matchers.map((matcher, index) => compileString(matcher, `${path}.patterns[${index}]`, problem));
  return (value) => tests.some((test) => test(value));
}
