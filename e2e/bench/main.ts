/**
 * `npm run bench`: how fast the mesh is, between two captured pods on different nodes, beside the same two pods without
 * the mesh in the same run; policy, access log and metrics on. Ratios mean something anywhere, seconds only here. Prints
 * a table and writes `bench.json`. Never fails on a number.
 */
import { writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

assertNodeVersion(process.version);

const help = `npm run bench [-- --seconds S] [--quick] [--output FILE]

Measures traffic between two pods on different nodes of a sandbox, first without the mesh, then captured.

  --seconds S     length of each measurement (default 4)
  --quick         one second each: to see whether it runs, not how fast it is
  --output FILE   where the JSON goes (default bench.json)`;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "4" },
    quick: { type: "boolean", default: false },
    output: { type: "string", default: "bench.json" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const { startMesh, namespaceManifest, ambient } = await import("#e2e/support/mesh.ts");
const { measureMesh, measureTraffic, policyManifest, loadPods, reachesServer } = await import("./measure.ts");
const { rowsOf, printTable } = await import("./report.ts");

const seconds = values.quick ? 1 : Number(values.seconds);
if (!(seconds > 0)) {
  console.error(`bench: --seconds "${values.seconds}": write a number above 0`);
  process.exit(2);
}
const say = (text: string) => console.error(`bench: ${text}`);

await using mesh = await startMesh("bench", { progress: say });
const { cluster } = mesh;
await cluster.apply([namespaceManifest("bench"), ...loadPods()].join("\n---\n"));
await cluster.podsReady("bench", 2);

say("the pods without the mesh");
const direct = await measureTraffic(cluster, "direct", { seconds, say });
say("the same pods, captured, with a policy");
await cluster.apply(policyManifest());
await cluster.labelNamespace("bench", ambient);
await cluster.captured("bench", true);
// Captured at both ends, the pods speak in clear until the control plane has told each end about the other.
await cluster.until("the policy to know the client", () => reachesServer(cluster));
const meshed = await measureMesh(cluster, { seconds, say, quick: values.quick });

const rows = rowsOf(direct, meshed);
printTable(rows);
const machine = {
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  node: process.version,
  date: new Date().toISOString(),
  seconds,
};
const file = resolve(values.output);
writeFileSync(file, `${JSON.stringify({ machine, rows, direct, meshed }, null, 2)}\n`);
console.log(
  `\n${machine.cores} cores, ${machine.cpu}, Linux ${machine.kernel}, Node ${machine.node}; written to ${values.output}`,
);
