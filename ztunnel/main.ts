/** ztunnel: one per node, carries its pods' connections in HBONE tunnels and enforces policy on what reaches them. */
import process from "node:process";
import { runProxyCommand } from "#shared/lifecycle/proxy-command.ts";

await runProxyCommand(process, {
  name: "ztunnel",
  run: async () => (await import("./run.ts")).run,
  version: async () => (await import("./version.ts")).describeVersion,
});
