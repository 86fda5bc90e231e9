import { readFileSync } from "node:fs";
import process from "node:process";

export function describeVersion(istioVersion: string): Readonly<Record<string, string>> {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    readonly version: string;
  };
  return { version, runtime: `node ${process.versions.node}`, istioVersion };
}
