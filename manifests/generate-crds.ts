/**
 * Writes manifests/crds from the schemas of the control plane: node manifests/generate-crds.ts
 * With --check it writes nothing and fails where a file differs.
 */
import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { crdFiles } from "./crd-files.ts";

const isCheck = process.argv.includes("--check");
const folder = new URL("crds/", import.meta.url);
const stale: string[] = [];
for (const [name, text] of await crdFiles()) {
  const file = new URL(name, folder);
  if (!isCheck) await writeFile(file, text);
  else if ((await readFile(file, "utf8").catch(() => "")) !== text) stale.push(name);
}
if (stale.length > 0) {
  console.error(`manifests/crds is out of date (${stale.join(", ")}): run node manifests/generate-crds.ts`);
  process.exitCode = 1;
}
