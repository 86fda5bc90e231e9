/** Starts a daemon over again, in place, as a Node that takes less memory. */
import { fileURLToPath } from "node:url";

type ProcessLike = Pick<NodeJS.Process, "argv" | "env" | "execArgv" | "execPath"> & {
  execve?(file: string, args: string[], env: NodeJS.ProcessEnv): void;
};

/**
 * New objects of a proxy die young or live long, so a small nursery loses little, and V8 touches no more of it. With
 * half of this, short connections at full speed cost twice the garbage collection (11 % of the time). Unit: MiB.
 */
const semiSpaceMib = 4;
const sizeOption = "--max-semi-space-size";

/** Beside the code and not in a shared temporary directory, where others could leave code for us to run. */
const cacheDirectory = fileURLToPath(new URL("../../.cache/compile", import.meta.url));

/**
 * Replaces this process, keeping its id and descriptors, unless that was done already or cannot be. Three settings need
 * it, as they count from the first moment on: the compile cache, without which Node loads its type stripper for good
 * (13 MiB), the size of the nursery (15 MiB), and one arena for all threads' allocations (8 MiB).
 */
export function becomeLean(process: ProcessLike): void {
  const { env, execPath, execArgv, argv } = process;
  // Also an operator's own size, given in any way, is left as it is.
  const given = [...execArgv, env["NODE_OPTIONS"] ?? ""].some((option) => option.includes(sizeOption));
  if (given || process.execve === undefined) return;
  const args = [execPath, `${sizeOption}=${semiSpaceMib}`, ...execArgv, ...argv.slice(1)];
  process.execve(execPath, args, { NODE_COMPILE_CACHE: cacheDirectory, MALLOC_ARENA_MAX: "1", ...env });
}
