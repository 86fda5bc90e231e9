/** Rewriting by RE2 patterns: compiled once, bounded, never `RegExp`. */
import { RE2JS } from "re2js";
import type { RegexMatchAndSubstitute } from "#shared/proto/gen/envoy/type/matcher/v3/regex_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

const maxPatternLength = 4096;
/** Instructions; Istio raises Envoy's limit to the same. */
const maxProgramSize = 32_768;
const maxSubstitutionLength = 4096;

const compiled = new Map<string, RE2JS>();

/** Undefined where the pattern is not RE2, too long or too big; the problem says which. */
function compilePattern(pattern: string, path: string, problem: Problem): RE2JS | undefined {
  const known = compiled.get(pattern);
  if (known !== undefined) return known;
  if (pattern.length > maxPatternLength) {
    problem(path, `pattern has ${pattern.length} characters, limit ${maxPatternLength}`);
    return undefined;
  }
  try {
    const regex = RE2JS.compile(pattern);
    if (regex.programSize() > maxProgramSize) {
      problem(path, `pattern "${pattern}" compiles to ${regex.programSize()} steps, limit ${maxProgramSize}`);
      return undefined;
    }
    if (compiled.size >= 4096) compiled.clear();
    compiled.set(pattern, regex);
    return regex;
  } catch (error) {
    problem(path, `"${pattern}" is not RE2: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

/** The characters with which every value that matches begins; empty where that is not plain to see. */
export function literalPrefix(pattern: string): string {
  if (pattern.includes("|") || pattern.includes("(?")) return "";
  let prefix = "";
  let index = pattern.startsWith("^") ? 1 : 0;
  for (; index < pattern.length; index++) {
    let char = pattern[index] as string;
    if (char === "\\") {
      char = pattern[index + 1] ?? "";
      if (!/[./_~+*?$^()[\]{}\\-]/.test(char)) break;
      index++;
    } else if (/[.^$*+?()[\]{}]/.test(char)) break;
    const next = pattern[index + 1];
    if (next === "*" || next === "?" || next === "{") break;
    prefix += char;
  }
  return prefix;
}

/** Replaces every match in a text. `\1` to `\9` are groups and `\0` the match, as RE2 writes substitutions. */
export function compileSubstitution(
  rewrite: RegexMatchAndSubstitute,
  path: string,
  problem: Problem,
): ((text: string) => string) | undefined {
  const { pattern, substitution } = rewrite;
  if (pattern === undefined || pattern.regex === "") {
    problem(`${path}.pattern.regex`, "must not be empty");
    return undefined;
  }
  const regex = compilePattern(pattern.regex, `${path}.pattern.regex`, problem);
  if (regex === undefined) return undefined;
  if (substitution.length > maxSubstitutionLength) {
    problem(`${path}.substitution`, `has ${substitution.length} characters, limit ${maxSubstitutionLength}`);
    return undefined;
  }
  const parts = parseSubstitution(substitution);
  const missing = parts?.find((part) => typeof part === "number" && part > regex.groupCount());
  if (parts === undefined || missing !== undefined) {
    problem(
      `${path}.substitution`,
      parts === undefined
        ? `"${substitution}" has a backslash that is followed by neither a digit nor a backslash`
        : `"${substitution}" names group ${missing}, the pattern has ${regex.groupCount()}`,
    );
    return undefined;
  }
  return (text) => replaceAll(regex, parts, text);
}

function parseSubstitution(text: string): (string | number)[] | undefined {
  const parts: (string | number)[] = [];
  let literal = "";
  for (let index = 0; index < text.length; index++) {
    const char = text[index] as string;
    if (char !== "\\") {
      literal += char;
      continue;
    }
    const next = text[++index] ?? "";
    if (next === "\\") literal += "\\";
    else if (next >= "0" && next <= "9") {
      if (literal !== "") parts.push(literal);
      literal = "";
      parts.push(Number(next));
    } else return undefined;
  }
  if (literal !== "") parts.push(literal);
  return parts;
}

function replaceAll(regex: RE2JS, parts: readonly (string | number)[], text: string): string {
  const matcher = regex.matcher(text);
  let out = "";
  let from = 0;
  let lastEnd = -1;
  while (matcher.find()) {
    const start = matcher.start();
    const end = matcher.end();
    // RE2 does not take an empty match at the end of the last one.
    if (start === end && start === lastEnd) continue;
    out += text.slice(from, start);
    for (const part of parts) out += typeof part === "string" ? part : (matcher.group(part) ?? "");
    from = end;
    lastEnd = end;
  }
  return out + text.slice(from);
}
