/** Small worlds with what Istio's control plane served for them: ours must mean the same. */
import { readdirSync, readFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { withApiDefaults, type WrittenObject } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { World } from "#controlplane/mesh/world.ts";
import { defaultOptions } from "./options.ts";
import { servedForm } from "./served-form.ts";
import { translate } from "./translate.ts";

const folder = join(import.meta.dirname, "testdata/wds");
/** Of our own, for rules that the others do not touch: the answers follow from Istio's documented behaviour. */
const derived = join(import.meta.dirname, "testdata/derived");

/** Cases that we answer otherwise on purpose, with the reason. */
const intended: ReadonlyMap<string, string> = new Map([]);

function readObjects(file: string): readonly WrittenObject[] {
  const text = readFileSync(file, "utf8");
  let from = 0;
  return parseAllDocuments(text).map((document) => {
    const to = document.range[2];
    const isLater = /^\s*# pause\b/m.test(text.slice(from, to));
    from = to;
    return { object: document.toJS() as KubeObject, isLater };
  });
}

function answer(directory: string): unknown {
  const world = new World();
  for (const object of withApiDefaults(readObjects(join(directory, "input.yaml")))) world.upsert(object);
  expect(world.problems).toEqual([]);
  return servedForm(translate(world, defaultOptions));
}

function expected(directory: string): unknown {
  const read = (part: string): unknown => {
    const file = join(directory, `${part}.json`);
    return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as unknown) : [];
  };
  return { addresses: read("addresses"), authorizations: read("authorizations"), status: read("status") };
}

/** Lists whose order means nothing. */
const unordered = new Set([
  "ports",
  "authorizationPolicies",
  "groups",
  "rules",
  "matches",
  "conditions",
  "listeners",
  "weightedWaypoints",
  ...["namespaces", "principals", "serviceAccounts", "sourceIps", "destinationIps", "destinationPorts"].flatMap(
    (field) => [field, `not${field.charAt(0).toUpperCase()}${field.slice(1)}`],
  ),
]);

/** Automatic addresses, as octets in base64 or as text. */
function isAutomatic(value: string): boolean {
  const octets = Buffer.from(value, "base64");
  return (
    value === "<auto>" ||
    /^240\.240\.|^2001:2:/.test(value) ||
    (octets.length === 4 && octets[0] === 240 && octets[1] === 240) ||
    (octets.length === 16 && octets.subarray(0, 6).toString("hex") === "200100020000")
  );
}

function normalised(value: unknown, key = ""): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item) => normalised(item));
    if (!unordered.has(key)) return items;
    return items.map((item) => JSON.stringify(item)).sort();
  }
  if (typeof value === "string" && ["address", "value"].includes(key) && isAutomatic(value)) return "<auto>";
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value)
    .filter(([name]) => name !== "message" && name !== "lastTransitionTime")
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, each]) => [name, normalised(each, name)] as const);
  return Object.fromEntries(fields);
}

describe("answers of Istio's control plane", () => {
  const cases = readdirSync(folder).sort();

  test("are here", () => {
    expect(cases.length).toBeGreaterThanOrEqual(46);
    expect([...intended.keys()].filter((name) => !cases.includes(name))).toEqual([]);
  });

  test.each(cases.filter((name) => !intended.has(name)))("%s", (name) => {
    const directory = join(folder, name);
    expect(normalised(answer(directory))).toEqual(normalised(expected(directory)));
  });
});

test.each(readdirSync(derived).sort())("derived: %s", (name) => {
  const directory = join(derived, name);
  expect(normalised(answer(directory))).toEqual(normalised(expected(directory)));
});
