/**
 * The node agent: captures the pods of its node that belong in the mesh, hands them to ztunnel, and proves it.
 * Arguments: `agent`, and `--cleanup` to take every pod out of the mesh at the end.
 */
import process from "node:process";
import { MeshError, explain } from "#shared/errors/mesh-error.ts";
import { becomeLean } from "#shared/lifecycle/lean-process.ts";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

try {
  assertNodeVersion(process.version);
  becomeLean(process);
  const [verb, ...options] = process.argv.slice(2);
  const unknown = options.find((option) => option !== "--cleanup");
  if ((verb !== undefined && verb !== "agent") || unknown !== undefined) {
    throw new MeshError("CONFIG_INVALID", `Cannot read "${unknown ?? verb}": write "agent" or "agent --cleanup"`);
  }
  const { readAgentConfig } = await import("./config.ts");
  const config = readAgentConfig(process.env);
  const { runAgent } = await import("./run.ts");
  await runAgent(config, { process, cleansUp: options.includes("--cleanup") });
} catch (error) {
  process.stderr.write(`node agent: ${explain(error)}\n`);
  if (error instanceof MeshError) process.stderr.write(`${error.remedy}\n`);
  process.exitCode = 1;
}
