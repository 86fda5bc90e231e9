/** Starts a daemon over again, in place, as a Node that takes less memory. */
import { fileURLToPath } from "node:url";

type ProcessLike = Pick<NodeJS.Process, "argv" | "env" | "execArgv" | "execPath" | "version"> & {
  execve?(file: string, args: string[], env: NodeJS.ProcessEnv): void;
};

/**
 * New objects of a proxy of bytes die young or live long, so a small nursery loses little, and V8 touches no more of it.
 * With half of this, short connections at full speed cost twice the garbage collection (11 % of the time). Unit: MiB.
 */
const semiSpaceMibDefault = 4;
const sizeOption = "--max-semi-space-size";

/**
 * - Bytes in transit lie outside V8's heap, and by its older rule every few dozen MiB of them ask for a full collection
 *   of the heap, which holds none of them. The newer rule counts them with the heap.
 * - No full collection below 40 MiB of heap, about twice what lives in it, or 80 MiB with what lies outside. By itself V8
 *   would set the limit just above what is in use: together, these two were a quarter of all CPU at full throughput.
 * - Programs say when else to collect, see `garbage.ts`.
 * - Compiled code knows objects by their shapes, which die with the last object that has them, and the code with them.
 *   A proxy that collects while it is idle has no connections then: small messages of the next ones cost up to a third
 *   more CPU, for good, as some code is not compiled well again. So shapes that compiled code knows stay, and V8 makes no
 *   collections of its own for an idle process, which would not spare them.
 * - Pages that a collection has freed go back to the system after one second, not eight.
 */
const collectionOptions = [
  "--external-memory-accounted-in-global-limit",
  "--external-memory-max-growing-factor=4",
  "--initial-old-space-size=40",
  "--expose-gc",
  "--memory-pool-timeout=1",
  "--retain-maps-for-n-gc=1000000000",
  "--no-memory-reducer",
];
const firstMajorWithCollectionOptions = 26;

/** Beside the code and not in a shared temporary directory, where others could leave code for us to run. */
const cacheDirectory = fileURLToPath(new URL("../../.cache/compile", import.meta.url));

/**
 * Replaces this process, keeping its id and descriptors, unless that was done already or cannot be. Three settings need
 * it, as they count from the first moment on: the compile cache, without which Node loads its type stripper for good
 * (13 MiB), the size of the nursery (15 MiB), and one arena for all threads' allocations (8 MiB).
 *
 * @param semiSpaceMib size of the nursery: larger where much is in flight that a collection would find alive
 */
export function becomeLean(process: ProcessLike, semiSpaceMib = semiSpaceMibDefault): void {
  const { env, execPath, execArgv, argv } = process;
  // Also an operator's own size, given in any way, is left as it is.
  const given = [...execArgv, env["NODE_OPTIONS"] ?? ""].some((option) => option.includes(sizeOption));
  if (given || process.execve === undefined) return;
  const knowsCollectionOptions = Number.parseInt(process.version.slice(1), 10) >= firstMajorWithCollectionOptions;
  const options = [`${sizeOption}=${semiSpaceMib}`, ...(knowsCollectionOptions ? collectionOptions : [])];
  const args = [execPath, ...options, ...execArgv, ...argv.slice(1)];
  process.execve(execPath, args, { NODE_COMPILE_CACHE: cacheDirectory, MALLOC_ARENA_MAX: "1", ...env });
}
