/**
 * Part of `npm ci`: compiles every daemon's code into the cache that it starts from. A daemon that finds its code there
 * starts in half the time and does without Node's type stripper, which costs 13 MiB for as long as it runs.
 *
 *   node e2e/support/compile-ahead.ts          what runs in a Node as it is
 *   node e2e/support/compile-ahead.ts --lean   what starts over with options of its own: code is kept by options
 *   node e2e/support/compile-ahead.ts --waypoint   the same for the one daemon whose options are others
 */
import { spawnSync } from "node:child_process";
import { enableCompileCache, flushCompileCache } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { becomeLean } from "#shared/lifecycle/lean-process.ts";
import { semiSpaceMib } from "#waypoint/nursery.ts";

const root = join(import.meta.dirname, "../..");

/** What the `main.ts` of daemons load when they run, some of it late; importing one starts nothing. */
const leanPrograms = [
  "ztunnel/config.ts",
  "ztunnel/run.ts",
  "ztunnel/version.ts",
  "ztunnel/inpod/pod-manager.ts",
  "ztunnel/inpod/zds-client.ts",
  "ztunnel/state/local-config.ts",
  "ztunnel/agent/config.ts",
  "ztunnel/agent/run.ts",
  "shared/observe/otel-bridge.ts",
];
const waypointPrograms = ["waypoint/config.ts", "waypoint/run.ts", "waypoint/version.ts"];
const plainPrograms = [
  "controlplane/backend.ts",
  "controlplane/discovery.ts",
  "controlplane/sources/folder/folder-source.ts",
  "controlplane/sources/kubernetes/config-map-writer.ts",
  "controlplane/sources/kubernetes/kube-client.ts",
  "controlplane/sources/kubernetes/kubernetes-source.ts",
  "controlplane/sources/kubernetes/secret-store.ts",
  "controlplane/sources/kubernetes/token-review.ts",
  "controlplane/status/leader-elector.ts",
  "controlplane/status/status-writer.ts",
  "controlplane/waypoints/waypoint-controller.ts",
  "controlplane/cli/offline.ts",
  "e2e/sandbox/sandbox.ts",
  "e2e/sandbox/world.ts",
  "e2e/sandbox/apiserver/api-server.ts",
  "e2e/sandbox/controllers/start-controllers.ts",
  "e2e/sandbox/dns/dns-server.ts",
  "e2e/sandbox/kubelet/kubelet.ts",
  "e2e/sandbox/network/fabric.ts",
  "e2e/sandbox/network/service-proxy.ts",
  "e2e/support/cluster.ts",
];
/** What the programs are started by, and what the sandbox loads before them: one file that is missing loads the stripper. */
const leanMains = ["ztunnel/main.ts", "ztunnel/agent/main.ts"];
const waypointMains = ["waypoint/main.ts"];
const preloaded = join(root, "e2e/sandbox/kubelet/keep-compiled.ts");
const packages = ["fastify", "yaml", "@kubernetes/client-node"];

/** Starts over where the programs do. */
function chosenPrograms(args: readonly string[]): readonly string[] {
  if (args.includes("--waypoint")) {
    becomeLean(process, semiSpaceMib);
    return waypointPrograms;
  }
  if (!args.includes("--lean")) return plainPrograms;
  becomeLean(process);
  return leanPrograms;
}

function chosenMains(args: readonly string[]): readonly string[] {
  if (args.includes("--waypoint")) return waypointMains;
  return args.includes("--lean") ? leanMains : [];
}

const programs = chosenPrograms(process.argv);
enableCompileCache(join(root, ".cache/compile"));
for (const module of [...packages, ...programs.map((program) => join(root, program))]) {
  await import(module);
}
flushCompileCache();
for (const main of chosenMains(process.argv)) {
  // Asked for help, or for something that it does not know, it ends at once; then Node keeps what it has compiled.
  spawnSync(process.execPath, ["--import", preloaded, join(root, main), "help"], { stdio: "ignore" });
}
process.exit(0);
