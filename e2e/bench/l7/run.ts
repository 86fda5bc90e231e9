/** The L7 part of the bench: what a waypoint costs, beside haproxy on the same core, and in its place in the mesh. */
import { measureFullPath } from "./full-path.ts";
import { measureProxies } from "./measure.ts";
import { optionalEnvoy, missingPrograms } from "./programs.ts";
import { scratchFolder } from "./proxies.ts";
import { printTable, rowsOf } from "./report.ts";

export interface L7Options {
  readonly seconds: number;
  readonly rounds: number;
  readonly say: (text: string) => void;
}

/** @throws where a program is missing */
export async function benchL7({ seconds, rounds, say }: L7Options) {
  const missing = missingPrograms();
  if (missing !== undefined) throw new Error(`The L7 part cannot run: ${missing}`);
  say("proxies beside each other");
  using scratch = scratchFolder();
  const envoy = await optionalEnvoy(say);
  const proxies = await measureProxies({ seconds, rounds, scratch: scratch.path, envoy, say });
  const fullPath = await measureFullPath(seconds, say);
  const rows = rowsOf(proxies, fullPath);
  printTable(rows);
  return { rows, proxies, fullPath };
}
