import { RE2JS } from "re2js";
import type { Field } from "./field.ts";

/** Of a compiled expression: waypoints take no longer ones. */
const mostSteps = 32_768;

/** An expression of RE2, as waypoints and Envoy understand it. How long it may be, the schema says. */
export function checkRegex(field: Field): void {
  const { text } = field;
  if (text === undefined) return;
  if (text === "") {
    field.error("must not be empty", "write an RE2 expression");
    return;
  }
  try {
    const steps = RE2JS.compile(text).programSize();
    if (steps > mostSteps) field.error(`needs ${steps} steps, limit ${mostSteps}`, "repeat less of it, or less often");
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message.replace("error parsing regexp: ", "") : String(thrown);
    field.error(`${field.quoted} is not RE2: ${reason}`, "RE2 has no look-around and no back-references");
  }
}

/** How many groups an expression has; undefined where it is none. */
export function groupsOf(text: string): number | undefined {
  try {
    return RE2JS.compile(text).groupCount();
  } catch {
    return undefined;
  }
}
