import process from "node:process";
import { programVersion } from "#shared/lifecycle/program-version.ts";

/** In the fields that istioctl reads; those of a Rust build say what stands in their place here. */
export const describeVersion = (istioVersion: string): Readonly<Record<string, string>> => ({
  version: programVersion(),
  gitRevision: "unknown",
  rustVersion: `none: node ${process.versions.node}`,
  buildProfile: "release",
  buildStatus: "unknown",
  istioVersion,
  cryptoProvider: `openssl ${process.versions.openssl}`,
});
