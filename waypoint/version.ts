import process from "node:process";
import { programVersion } from "#shared/lifecycle/program-version.ts";

export const describeVersion = (istioVersion: string): Readonly<Record<string, string>> => ({
  version: programVersion(),
  runtime: `node ${process.versions.node}`,
  istioVersion,
});
