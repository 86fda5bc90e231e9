/** The L4 part of the bench: two captured pods on different nodes, beside the same two pods without the mesh. */
import { ambient, namespaceManifest, startMesh } from "#e2e/support/mesh.ts";
import { loadPods, measureMesh, measurePlainPair, measureTraffic, policyManifest, reachesServer } from "./measure.ts";
import { printTable, rowsOf } from "./report.ts";

export interface L4Options {
  readonly seconds: number;
  readonly quick: boolean;
  readonly say: (text: string) => void;
}

export async function benchL4({ seconds, quick, say }: L4Options) {
  await using mesh = await startMesh("bench", { progress: say });
  const { cluster } = mesh;
  await cluster.apply([namespaceManifest("bench"), ...loadPods()].join("\n---\n"));
  await cluster.podsReady("bench", 2);

  say("the pods without the mesh");
  const direct = await measureTraffic(cluster, "direct", { seconds, say });
  say("two plain proxies between the same pods");
  const plain = await measurePlainPair(cluster, { seconds, say });
  say("the same pods, captured, with a policy");
  await cluster.apply(policyManifest());
  await cluster.labelNamespace("bench", ambient);
  await cluster.captured("bench", true);
  // Captured at both ends, the pods speak in clear until the control plane has told each end about the other.
  await cluster.until("the policy to know the client", () => reachesServer(cluster));
  const meshed = await measureMesh(cluster, { seconds, say, quick });

  const rows = rowsOf(direct, meshed, plain);
  printTable(rows);
  return { rows, direct, plain, meshed };
}
