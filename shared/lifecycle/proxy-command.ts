/** The command line of a proxy: its settings come from the environment. */
import { becomeLean } from "./lean-process.ts";
import { assertNodeVersion } from "./node-version.ts";

interface ProxyProgram {
  readonly name: string;
  /** As of `becomeLean`. */
  readonly semiSpaceMib?: number;
  /** Loaded when needed: until then the process may be replaced by a leaner one. Resolves with the exit status. */
  readonly run: () => Promise<(process: NodeJS.Process) => Promise<number>>;
  /** What `version` prints, for a version of Istio that the environment names. */
  readonly version: () => Promise<(istioVersion: string) => unknown>;
}

const usage = (name: string): string => `Usage: ${name} [command]

Commands:
  proxy    run the proxy (default); further arguments are ignored, settings come from the environment
  version  print the version
  help     print this text
`;

/** Runs it to its end, and the process with it. */
export async function runProxyCommand(process: NodeJS.Process, program: ProxyProgram): Promise<never> {
  assertNodeVersion(process.version);
  becomeLean(process, program.semiSpaceMib);
  process.exitCode = await runCommand(process, program);
  return process.exit();
}

async function runCommand(process: NodeJS.Process, { name, run, version }: ProxyProgram): Promise<number> {
  const [command = "proxy"] = process.argv.slice(2);
  switch (command) {
    case "proxy":
      return (await run())(process);
    case "version": {
      const describe = await version();
      process.stdout.write(`${JSON.stringify(describe(process.env["ISTIO_META_ISTIO_VERSION"] ?? "unknown"))}\n`);
      return 0;
    }
    case "help":
    case "--help":
      process.stdout.write(usage(name));
      return 0;
    default:
      process.stderr.write(`Unknown command "${command}"\n\n${usage(name)}`);
      return 1;
  }
}
