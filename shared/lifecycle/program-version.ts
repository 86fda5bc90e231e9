import { readFileSync } from "node:fs";

/** Of Ambit, as `package.json` says. */
export function programVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { readonly version: string }).version;
}
