import { readFileSync } from "node:fs";
import process from "node:process";

/** In the fields that istioctl reads; those of a Rust build say what stands in their place here. */
export function describeVersion(istioVersion: string): Readonly<Record<string, string>> {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
    readonly version: string;
  };
  return {
    version,
    gitRevision: "unknown",
    rustVersion: `none: node ${process.versions.node}`,
    buildProfile: "release",
    buildStatus: "unknown",
    istioVersion,
    cryptoProvider: `openssl ${process.versions.openssl}`,
  };
}
