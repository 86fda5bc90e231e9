/** Fields that a newer sender wrote and this proxy does not know: they may change what the rest means, so they are told. */
import type { Problem } from "./string-matcher.ts";

interface UnknownField {
  readonly no: number;
}

type Bag = Readonly<Record<string, unknown>>;

/** Deeper than any configuration in use; keeps a hostile one from filling the stack. */
const deepest = 64;

/** Reports every unknown field in a message and the messages in it; `knows` may let some pass. */
export function reportUnknownFields(
  message: object,
  problem: Problem,
  knows: (typeName: string, field: number) => boolean = () => false,
  path = "",
  depth = 0,
): void {
  if (depth > deepest) {
    problem(path, "is nested too deeply");
    return;
  }
  const bag = message as Bag;
  const typeName = typeof bag["$typeName"] === "string" ? bag["$typeName"] : "";
  for (const { no } of (bag["$unknown"] ?? []) as readonly UnknownField[]) {
    if (!knows(typeName, no)) problem(path, `has field ${no} of ${typeName}, which this proxy does not know`);
  }
  for (const [name, value] of Object.entries(bag)) {
    if (name.startsWith("$") || typeof value !== "object" || value === null || ArrayBuffer.isView(value)) continue;
    reportUnknownFields(value, problem, knows, path === "" ? name : `${path}.${name}`, depth + 1);
  }
}
