/** `npm run sandbox -- up|down|status`: a cluster with the mesh on it, on this machine, without Kubernetes. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

try {
  assertNodeVersion(process.version);
  enableCompileCache(join(import.meta.dirname, "../../.cache/compile"));
  const { runCommand } = await import("./commands.ts");
  const status = await runCommand(process.argv.slice(2));
  // Also out of a start that was interrupted: what it started ends with us.
  process.exit(status);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
