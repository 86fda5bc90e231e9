/** For tests: objects with anything where something else belongs. */
import fc from "#shared/testing/properties.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";

/** Any value, often one of those that trip readers up. */
export const junk = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    undefined,
    "",
    "*",
    "/",
    "%",
    "None",
    -1,
    0.5,
    1e20,
    NaN,
    true,
    [],
    {},
    [null],
    [[]],
    "\uD800",
    "constructor",
    "::ffff:1.2.3.4",
    "a/b/c",
  ),
  fc.anything({ maxDepth: 3, withNullPrototype: false }),
);

/** Replaces a value somewhere in the object, or in one field of it. */
export function damaged(original: KubeObject, field?: "spec"): fc.Arbitrary<KubeObject> {
  const paths: string[][] = [];
  const walk = (value: unknown, path: readonly string[]): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, each] of Object.entries(value)) {
      paths.push([...path, key]);
      walk(each, [...path, key]);
    }
  };
  if (field === undefined) walk(original, []);
  else walk(original[field], [field]);
  return fc.tuple(fc.constantFrom(...paths), junk).map(([path, value]) => {
    const copy = structuredClone(original) as unknown as Record<string, unknown>;
    let at = copy;
    for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
    at[path.at(-1) ?? ""] = value;
    return copy;
  });
}
