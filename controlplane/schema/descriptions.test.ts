/** `kubectl explain` says what every field is for. */
import { describe, expect, test } from "@jest/globals";
import { toCrd } from "./crd.ts";
import { configKinds } from "./kinds.ts";

/** Letters: what a reader of kubectl explain takes in at once. */
const longest = 300;

interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
}

interface Crd {
  readonly spec: { readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Schema } }[] };
}

const fieldsOf = (
  { properties = {}, items, additionalProperties }: Schema,
  path: string,
): (readonly [string, Schema])[] => [
  ...Object.entries(properties).flatMap(([name, schema]) => {
    const at = path === "" ? name : `${path}.${name}`;
    return [[at, schema] as const, ...fieldsOf(schema, at)];
  }),
  ...(items === undefined ? [] : fieldsOf(items, path)),
  ...(additionalProperties === undefined ? [] : fieldsOf(additionalProperties, path)),
];

describe.each(configKinds.map((definition) => [definition.kind, definition] as const))("%s", (_kind, definition) => {
  const fields = (toCrd(definition) as unknown as Crd).spec.versions.flatMap(({ schema }) =>
    fieldsOf(schema.openAPIV3Schema, ""),
  );

  test("says of every field what it is for", () => {
    const silent = fields.filter(([, { description = "" }]) => description === "").map(([path]) => path);
    expect([...new Set(silent)]).toEqual([]);
  });

  test("is short about it, and ends without a full stop", () => {
    const odd = fields.filter(
      ([, { description = "" }]) => /[.\s]$|\n/.test(description) || description.length > longest,
    );
    expect(odd.map(([path, { description }]) => `${path}: ${description ?? ""}`)).toEqual([]);
  });
});
