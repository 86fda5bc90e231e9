/** RE2 expressions of configurations. JavaScript's own engine never sees them: it would not finish on some. */
import { RE2JS } from "re2js";

export type TextTest = (value: string) => boolean;

/** The longest that Istio accepts is 1024; configurations of others may hold generated ones. */
const longestPattern = 4_096;
/** `.*`, `.+`, and a plain text between them: what policies are made of mostly, and no engine is needed for. */
const simple = /^(\.\*)?((?:[\w/:@=, -]|\\[.*+?^${}()|[\]\\/-])*)(\.\*)?$/;

/** Tests the whole text. @throws Error with what is wrong in the expression */
export function compileRegex(pattern: string): TextTest {
  if (pattern.length > longestPattern) throw new Error(`it has ${pattern.length} characters, limit ${longestPattern}`);
  const regex = RE2JS.compile(pattern);
  const slow = rememberLast((value) => regex.testExact(value));
  const fast = pattern === ".+" ? (value: string): boolean => value !== "" : compileSimple(pattern);
  if (fast === undefined) return slow;
  // A dot is any character but the end of a line.
  return (value) => (value.includes("\n") ? slow(value) : fast(value));
}

function compileSimple(pattern: string): TextTest | undefined {
  const parts = simple.exec(pattern);
  if (parts === null) return undefined;
  const text = (parts[2] ?? "").replace(/\\(.)/g, "$1");
  const [open, close] = [parts[1] !== undefined, parts[3] !== undefined];
  if (open && close) return (value) => value.includes(text);
  if (open) return (value) => value.endsWith(text);
  if (close) return (value) => value.startsWith(text);
  return (value) => value === text;
}

/** Requests of one client look alike: the same identity, the same host. */
function rememberLast(test: TextTest): TextTest {
  let lastValue: string | undefined;
  let lastResult = false;
  return (value) => {
    if (value === lastValue) return lastResult;
    lastResult = test(value);
    lastValue = value;
    return lastResult;
  };
}
