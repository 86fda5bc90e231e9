/** waypoint: the L7 proxy of a namespace, run on demand. */
import process from "node:process";
import { becomeLean } from "#shared/lifecycle/lean-process.ts";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

const usage = `Usage: waypoint [command]

Commands:
  proxy    run the proxy (default); further arguments are ignored, settings come from the environment
  version  print the version
  help     print this text
`;

async function main([command = "proxy"]: readonly string[]): Promise<number> {
  switch (command) {
    case "proxy": {
      const { run } = await import("./run.ts");
      return run(process);
    }
    case "version": {
      const { describeVersion } = await import("./version.ts");
      process.stdout.write(
        `${JSON.stringify(describeVersion(process.env["ISTIO_META_ISTIO_VERSION"] ?? "unknown"))}\n`,
      );
      return 0;
    }
    case "help":
      process.stdout.write(usage);
      return 0;
    default:
      process.stderr.write(`Unknown command "${command}"\n\n${usage}`);
      return 1;
  }
}

assertNodeVersion(process.version);
becomeLean(process);
process.exitCode = await main(process.argv.slice(2));
process.exit();
