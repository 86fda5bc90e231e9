/** waypoint: the L7 proxy of a namespace, run on demand. */
import process from "node:process";
import { runProxyCommand } from "#shared/lifecycle/proxy-command.ts";
import { semiSpaceMib } from "./nursery.ts";

await runProxyCommand(process, {
  name: "waypoint",
  semiSpaceMib,
  run: async () => (await import("./run.ts")).run,
  version: async () => (await import("./version.ts")).describeVersion,
});
