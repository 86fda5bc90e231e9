/**
 * `npm run demo`: a mesh on this machine, told in seven short chapters, each of which checks what it says.
 * It then stays up for the reader's own kubectl; with `--once` it ends, with status 0 if every chapter held, else 1.
 */
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { assertNodeVersion } from "#shared/lifecycle/node-version.ts";

assertNodeVersion(process.version);

const help = `npm run demo [-- --once]

Starts a cluster of two nodes on this machine, with a small bookshop on it, and shows what an ambient mesh does to its
traffic. Afterwards it stays up and prints what to try; Ctrl-C takes everything down again.

  --once   end when the story ends: status 0 if all held, 1 if something did not
  --help   this text`;

const { values } = parseArgs({
  options: { once: { type: "boolean", default: false }, help: { type: "boolean", default: false } },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const { startSandbox } = await import("#e2e/sandbox/sandbox.ts");
const { Cluster } = await import("#e2e/support/cluster.ts");
const { Storyteller } = await import("./storyteller.ts");
const { tellStory } = await import("./story.ts");

const story = new Storyteller();
const root = join(import.meta.dirname, "../..");

story.chapter("A cluster of two nodes, with the mesh installed and nobody in it");
await using sandbox = await startSandbox({
  name: "demo",
  progress: (text) => story.say(text),
});
const cluster = new Cluster(sandbox.kubeconfig);
const kubectl = `kubectl --kubeconfig ${sandbox.kubeconfig}`;

try {
  await tellStory({ story, cluster, root, kubectl });
} catch (error) {
  story.failure(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

if (!values.once) {
  console.log(`
It is all yours until Ctrl-C. Try:
  ${kubectl} get pods -A -o wide
  ${kubectl} logs -n istio-system ds/ztunnel
  ${kubectl} apply -f manifests/samples/bookshop/routing/canary-by-weight.yaml
  ${kubectl} apply -f manifests/samples/bookshop/policies/allow-frontend-to-catalog.yaml
  ${kubectl} label namespace legacy istio.io/dataplane-mode=ambient
  ${kubectl} exec -n bookshop deploy/frontend -- node -e 'fetch("http://catalog:8080/books").then(async r => console.log(await r.text()))'`);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  console.log("\nTaking it down.");
}
