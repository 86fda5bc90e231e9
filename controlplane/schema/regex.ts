import { RE2JS } from "re2js";
import type { Field } from "./field.ts";

/** An expression of RE2, as waypoints and Envoy understand it. How long it may be, the schema says. */
export function checkRegex(field: Field): void {
  const { text } = field;
  if (text === undefined) return;
  if (text === "") {
    field.error("must not be empty", "write an RE2 expression");
    return;
  }
  try {
    RE2JS.compile(text);
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message.replace("error parsing regexp: ", "") : String(thrown);
    field.error(`${field.quoted} is not RE2: ${reason}`, "RE2 has no look-around and no back-references");
  }
}
