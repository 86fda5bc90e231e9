import { expect, test } from "@jest/globals";
import { existsSync, readFileSync } from "node:fs";

const page = readFileSync(new URL("RULES.md", import.meta.url), "utf8");
const groups = page.split(/^\d+\. /m).slice(1);

test("RULES.md numbers its groups", () => {
  expect([...page.matchAll(/^(\d+)\. \*\*/gm)].map(([, number]) => Number(number))).toEqual(
    Array.from({ length: 21 }, (_, index) => index + 1),
  );
});

test("RULES.md names files that there are", () => {
  const named = groups.flatMap((group) =>
    [...group.matchAll(/`([^`]+\.(?:ts|yaml|go))`/g)].map(([, file = ""]) => file),
  );
  const places = new Map(
    named.map((file) => [file, file.replace(/^testdata\//, "controlplane/translate/testdata/envoy/")]),
  );
  const missing = [...places].filter(([, file]) => !existsSync(new URL(`../${file}`, import.meta.url)));
  expect(missing.map(([file]) => file)).toEqual([]);
  expect(places.size).toBeGreaterThan(60);
});
