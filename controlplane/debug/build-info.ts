import process from "node:process";
import { programVersion } from "#shared/lifecycle/program-version.ts";

const version = programVersion();

/** What this program is, in the fields that istioctl reads. */
export const buildInfo = {
  version,
  revision: "unknown",
  golang_version: `none: node ${process.versions.node}`,
  status: "unknown",
  tag: version,
} as const;
