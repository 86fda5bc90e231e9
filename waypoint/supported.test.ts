import { expect, test } from "@jest/globals";
import { readFileSync } from "node:fs";
import { fieldTables, type FieldTable } from "./ingress/supported-fields.ts";
import { layerKinds, networkLayerKinds } from "./layers/registry.ts";

const page = readFileSync(new URL("SUPPORTED.md", import.meta.url), "utf8");
const squeezed = page.replace(/ {2,}/g, " ");

test("SUPPORTED.md names every filter", () => {
  const types = [...layerKinds, ...networkLayerKinds].map(({ type }) => type);
  expect(types.filter((type) => !page.includes(`- \`${type}\``))).toEqual([]);
});

test.each(Object.values<FieldTable>(fieldTables).map((table) => [table.schema.typeName, table] as const))(
  "SUPPORTED.md tells of %s what the code says, and names only fields that there are",
  (typeName, { schema, supported, withoutEffect }) => {
    const wanted = [
      ...supported.map((name) => `| \`${name}\` | supported |`),
      ...Object.entries(withoutEffect).map(([name, why]) => `| \`${name}\` | without effect: ${why} |`),
    ];
    const [, section = ""] = squeezed.split(`### ${typeName}\n`);
    const rows = (section.split("\n### ")[0] ?? "").split("\n").filter((line) => line.startsWith("| `"));
    expect(rows).toEqual(wanted);
    const known = new Set(schema.fields.map(({ name }) => name));
    expect([...supported, ...Object.keys(withoutEffect)].filter((name) => !known.has(name))).toEqual([]);
  },
);
