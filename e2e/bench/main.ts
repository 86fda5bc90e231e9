/**
 * `npm run bench`: how fast the mesh is. L4 is two captured pods beside the same two without the mesh; L7 is the waypoint
 * beside haproxy, and in its place in the mesh. Everything is compared within one run: ratios mean something anywhere,
 * seconds only here. Prints tables and writes `bench.json`. Never fails on a number.
 */
import { writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

assertNodeVersion(process.version);

const help = `npm run bench [-- --only l4|l7] [--seconds S] [--rounds N] [--quick] [--output FILE]

l4: traffic between two pods on different nodes of a sandbox, first without the mesh, then captured.
l7: a waypoint beside haproxy on the same core (HTTP/1.1, HTTP/2, gRPC; one route and everything on; latency, CPU,
    memory), then in a sandbox between two ztunnels. Needs haproxy, nginx, wrk and h2load; an Envoy is a column more.

  --only PART     only that part
  --seconds S     length of each measurement (default 4)
  --rounds N      of l7: repeats, of which the median counts (default 3)
  --quick         one second and one round each: to see whether it runs, not how fast it is
  --output FILE   where the JSON goes (default bench.json)`;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    output: { type: "string", default: "bench.json" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const wrong = (text: string): never => {
  console.error(`bench: ${text}`);
  process.exit(2);
};
const { only, quick } = values;
if (only !== undefined && only !== "l4" && only !== "l7") wrong(`--only "${only}": write l4 or l7`);
const seconds = quick ? 1 : Number(values.seconds);
if (!(seconds > 0)) wrong(`--seconds "${values.seconds}": write a number above 0`);
const rounds = quick ? 1 : Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) wrong(`--rounds "${values.rounds}": write a number from 1 on`);
const say = (text: string) => console.error(`bench: ${text}`);

const results: { l4?: unknown; l7?: unknown } = {};
if (only !== "l7") {
  const { benchL4 } = await import("./l4/run.ts");
  results.l4 = await benchL4({ seconds, quick, say });
}
if (only !== "l4") {
  const { benchL7 } = await import("./l7/run.ts");
  console.log("");
  try {
    results.l7 = await benchL7({ seconds: Math.ceil(seconds), rounds, say });
  } catch (error) {
    if (only === "l7") throw error;
    say(error instanceof Error ? error.message : String(error));
  }
}

const machine = {
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  kernel: release(),
  node: process.version,
  date: new Date().toISOString(),
  seconds,
};
writeFileSync(resolve(values.output), `${JSON.stringify({ machine, ...results }, null, 2)}\n`);
console.log(
  `\n${machine.cores} cores, ${machine.cpu}, Linux ${machine.kernel}, Node ${machine.node}; written to ${values.output}`,
);
