/**
 * Makes the path of a request one that routing, policies and backends read the same way (RFC 3986 §6.2.2). Done once, before
 * anything looks at it. What comes out was compared with Envoy's answers.
 */
import { Headers } from "./headers.ts";
import type { LocalReply } from "./exchange.ts";
import type { RequestHead } from "./streams.ts";

/** As the fields of an HTTP connection manager say. */
export interface PathRules {
  /** `normalize_path`: dot segments go, backslashes become slashes, unreserved characters are unescaped. */
  readonly normalises: boolean;
  /** `merge_slashes` */
  readonly mergesSlashes: boolean;
  /** `path_with_escaped_slashes_action`: what happens to `%2F` and `%5C`. */
  readonly escapedSlashes: "keep" | "reject" | "redirect" | "forward";
}

/** The settings of Istio's mesh configuration (`pathNormalization.normalization`). */
export const pathModes = {
  NONE: { normalises: false, mergesSlashes: false, escapedSlashes: "keep" },
  BASE: { normalises: true, mergesSlashes: false, escapedSlashes: "keep" },
  DEFAULT: { normalises: true, mergesSlashes: false, escapedSlashes: "keep" },
  MERGE_SLASHES: { normalises: true, mergesSlashes: true, escapedSlashes: "keep" },
  DECODE_AND_MERGE_SLASHES: { normalises: true, mergesSlashes: true, escapedSlashes: "forward" },
} as const satisfies Record<string, PathRules>;

const refused: LocalReply = { status: 400, details: "path_normalization_failed" };

/** Something that any of the rules may act upon. Most paths have nothing of that. */
const conspicuous = /[%\\"<>^`{|}]|\/[./]/;

/** Edits `request.path`. @returns the answer to give instead of going on, if any */
export function normalisePath(request: RequestHead, rules: PathRules): LocalReply | undefined {
  const { path } = request;
  if (!conspicuous.test(path) || path.charCodeAt(0) !== slash) return undefined;
  const mark = path.indexOf("?");
  const query = mark === -1 ? "" : path.slice(mark);
  const found = normalised(mark === -1 ? path : path.slice(0, mark), rules);
  if (found === undefined) return refused;
  request.path = found.path + query;
  if (!found.redirects) return undefined;
  return {
    status: 307,
    details: "path_normalization_failed",
    headers: new Headers(["location", request.path]),
  };
}

const slash = 0x2f;
const escapedSlash = /%2f|%5c/i;

/** A path without its query; undefined where it must not pass. */
function normalised(path: string, rules: PathRules): { path: string; redirects: boolean } | undefined {
  const { escapedSlashes, normalises, mergesSlashes } = rules;
  let result = path;
  const acts = escapedSlashes !== "keep" && escapedSlash.test(result);
  if (acts) {
    if (escapedSlashes === "reject") return undefined;
    result = result.replace(/%2f/gi, "/").replace(/%5c/gi, "\\");
  }
  if (normalises) {
    if (result.includes("%00")) return undefined;
    result = withoutDotSegments(withPlainCharacters(result));
  }
  if (mergesSlashes && result.includes("//")) result = mergedSlashes(result);
  return { path: result, redirects: acts && escapedSlashes === "redirect" };
}

/** Backslashes are slashes to too many servers; escapes of unreserved characters mean nothing; what has to be escaped is. */
function withPlainCharacters(path: string): string {
  if (!/[%\\"<>^`{|}]/.test(path)) return path;
  return path
    .replaceAll("\\", "/")
    .replace(/%[0-9a-f]{2}/gi, (escaped) => {
      const character = String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
      return /[A-Za-z0-9\-._~]/.test(character) ? character : escaped;
    })
    .replace(/["<>^`{|}]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** RFC 3986 §5.2.4. A dot segment with parameters is one too: there are servers that take `..;x` for `..`. */
function withoutDotSegments(path: string): string {
  if (!path.includes("/.")) return path;
  const kept: string[] = [];
  const segments = path.slice(1).split("/");
  segments.forEach((segment, i) => {
    const parameters = segment.indexOf(";");
    const name = parameters === -1 ? segment : segment.slice(0, parameters);
    const isDots = name === "." || name === "..";
    if (name === "..") kept.pop();
    if (!isDots) kept.push(segment);
    else if (i === segments.length - 1) kept.push("");
  });
  return `/${kept.join("/")}`;
}

/** Like Envoy: what consists of slashes only keeps two of them. */
function mergedSlashes(path: string): string {
  const names = path.split("/").filter((name) => name !== "");
  return `/${names.join("/")}${path.endsWith("/") ? "/" : ""}`;
}
