/** The demo's chapters. Each acts on the cluster as a user would and checks what the reader is told. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CaptureSummary } from "#e2e/support/packet-capture.ts";
import { nameOf, type Cluster, type PodName } from "#e2e/support/cluster.ts";
import { podOf, samples, type Stage } from "./stage.ts";
import { tellWaypointStory } from "./waypoint-story.ts";

const title = "Tunnels and Their Makers";
const hbonePort = "15008";

export async function tellStory(stage: Stage): Promise<void> {
  await openTheShop(stage);
  await beforeTheMesh(stage);
  await joinTheMesh(stage);
  await watchTheWire(stage);
  await refuseStrangers(stage);
  await denyOneCaller(stage);
  await takeThePolicyAway(stage);
  await tellWaypointStory(stage);
}

async function openTheShop({ story, cluster, root, kubectl }: Stage): Promise<void> {
  story.chapter("A bookshop opens: four services over two nodes, and an old client elsewhere");
  story.command(`${kubectl} apply -k ${samples}`);
  for (const file of ["namespaces", "catalog", "reviews", "stock", "frontend", "legacy-client"]) {
    await cluster.applyFile(join(root, samples, `${file}.yaml`));
  }
  const pods = [...(await cluster.podsReady("bookshop", 4)), ...(await cluster.podsReady("legacy", 1))];
  for (const pod of pods) {
    story.say(
      `${pod.metadata?.namespace}/${pod.metadata?.labels?.["app"]} on ${pod.spec?.nodeName}, ${pod.status?.podIP}`,
    );
  }
}

async function beforeTheMesh({ story, cluster }: Stage): Promise<void> {
  story.chapter("Before the mesh: everybody talks to everybody, in clear");
  const [frontend, legacy] = [await podOf(cluster, "frontend"), await podOf(cluster, "legacy-client")];
  await expectPage(cluster, frontend);
  story.proof(`frontend asks catalog, reviews (HTTP) and stock (plain TCP), and shows "${title}"`);
  await expectPage(cluster, legacy);
  story.proof("legacy-client, from a namespace outside, gets the same page");
}

async function joinTheMesh({ story, cluster, kubectl }: Stage): Promise<void> {
  story.chapter("One label, no restarts: the bookshop joins the mesh");
  const before = await identitiesOfPods(cluster);
  story.command(`${kubectl} label namespace bookshop istio.io/dataplane-mode=ambient`);
  await cluster.labelNamespace("bookshop", { "istio.io/dataplane-mode": "ambient" });
  await cluster.captured("bookshop", true);
  const frontend = await podOf(cluster, "frontend");
  const line = await cluster.until("a tunnelled connection from frontend to stock in ztunnel's log", async () => {
    await expectPage(cluster, frontend);
    return (await ztunnelLines(cluster)).find(
      (text) => text.includes("sa/frontend") && text.includes("sa/stock") && text.includes(hbonePort),
    );
  });
  const [source, destination] = [field(line, "src.identity"), field(line, "dst.identity")];
  if (!source.endsWith("/ns/bookshop/sa/frontend") || !destination.endsWith("/ns/bookshop/sa/stock")) {
    throw new Error(`The log names "${source}" and "${destination}" instead of frontend and stock`);
  }
  story.proof("the same page, now through HBONE; ztunnel's log names both ends, proven by certificates:");
  story.say(`    from  ${source}`);
  story.say(`    to    ${destination}`);
  if ((await identitiesOfPods(cluster)) !== before) throw new Error("A pod was restarted to join the mesh");
  story.proof("every pod is the process that it was: nothing was restarted");
}

async function watchTheWire({ story, cluster, root }: Stage): Promise<void> {
  story.chapter("What the wire between the nodes carries");
  const frontend = await podOf(cluster, "frontend");
  const summary = await captureDuring(cluster, root, async () => {
    for (let round = 0; round < 5; round++) await expectPage(cluster, frontend);
  });
  const tunnel = summary.ports[hbonePort];
  const clear = ["8080", "7070"].reduce((sum, port) => sum + (summary.ports[port]?.data ?? 0), 0);
  if (tunnel === undefined || tunnel.tls === 0)
    throw new Error(`No TLS on port ${hbonePort}: ${JSON.stringify(summary)}`);
  if (clear > 0 || summary.needleSeen > 0) throw new Error(`Readable traffic on the wire: ${JSON.stringify(summary)}`);
  story.proof(`${tunnel.data} packets with data on port ${hbonePort}, TLS records; none on the services' own ports`);
  story.proof(`"${title}" was served five times and could be read in none of them`);
}

async function refuseStrangers({ story, cluster, root, kubectl }: Stage): Promise<void> {
  story.chapter("STRICT: callers must prove who they are");
  const [frontend, legacy] = [await podOf(cluster, "frontend"), await podOf(cluster, "legacy-client")];
  await expectPage(cluster, legacy);
  story.proof("until now legacy-client was still let in, in clear (PERMISSIVE)");
  await applyPolicy({ story, cluster, root, kubectl }, "strict-mtls");
  await cluster.until("legacy-client to be refused", async () => (await page(cluster, legacy)).refused);
  story.proof("legacy-client, outside the mesh, is refused");
  await expectPage(cluster, frontend);
  story.proof("frontend still gets the page");
}

async function denyOneCaller(stage: Stage): Promise<void> {
  const { story, cluster } = stage;
  story.chapter("One caller is denied one service, by name");
  const frontend = await podOf(cluster, "frontend");
  await applyPolicy(stage, "deny-frontend-to-stock");
  await cluster.until("frontend to be denied stock", async () => (await page(cluster, frontend)).refused);
  story.proof("frontend can no longer ask stock");
  const line = await cluster.until("a refusal in ztunnel's log that names its policy", async () =>
    (await ztunnelLines(cluster)).find((text) => text.includes("bookshop/deny-frontend")),
  );
  story.proof("the refusal names its policy in ztunnel's log:");
  story.say(`    ${field(line, "error") || line}`);
}

async function takeThePolicyAway({ story, cluster, kubectl }: Stage): Promise<void> {
  story.chapter("And all is well again");
  story.command(`${kubectl} delete authorizationpolicy -n bookshop deny-frontend`);
  await cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "deny-frontend", "bookshop");
  const frontend = await podOf(cluster, "frontend");
  await cluster.until("the page to come back", async () => (await page(cluster, frontend)).served);
  story.proof("frontend shows the page again");
}

async function applyPolicy({ story, cluster, root, kubectl }: Stage, name: string): Promise<void> {
  const file = `${samples}/policies/${name}.yaml`;
  story.command(`${kubectl} apply -f ${file}`);
  for (const text of readFileSync(join(root, file), "utf8").split("\n"))
    if (text.trim() !== "") story.say(`    ${text}`);
  await cluster.applyFile(join(root, file));
}

/** The frontend's page, asked for inside its own pod. */
async function page(
  cluster: Cluster,
  pod: PodName,
): Promise<{ readonly served: boolean; readonly refused: boolean; readonly text: string }> {
  const script = `fetch("http://localhost:8080/").then(async (answer) => console.log(answer.status, await answer.text()), (error) => console.log(0, String(error)))`;
  const { stdout, stderr } = await cluster.exec(pod, ["node", "-e", script]);
  return {
    served: stdout.startsWith("200 ") && stdout.includes(title),
    refused: stdout.startsWith("502 "),
    text: stdout || stderr,
  };
}

async function expectPage(cluster: Cluster, pod: PodName): Promise<void> {
  const { served, text } = await page(cluster, pod);
  if (!served) throw new Error(`${pod.namespace}/${pod.name} did not get the page: ${text.trim()}`);
}

/** Which processes the pods are: their uids and restart counts. */
async function identitiesOfPods(cluster: Cluster): Promise<string> {
  const pods = await cluster.pods("bookshop");
  return pods
    .map(
      (pod) => `${pod.metadata?.uid} ${pod.status?.containerStatuses?.map(({ restartCount }) => restartCount).join()}`,
    )
    .toSorted()
    .join("\n");
}

/** What all ztunnels have logged. */
async function ztunnelLines(cluster: Cluster): Promise<string[]> {
  const pods = await cluster.pods("istio-system", "app=ztunnel");
  const logs = await Promise.all(pods.map((pod) => cluster.logs(nameOf(pod))));
  return logs.flatMap((text) => text.split("\n"));
}

/** A field of a log line, in the plain form (`key="value"`) or in JSON. */
function field(line: string, name: string): string {
  const plain = new RegExp(`(?:^|\\s)${name.replaceAll(".", "\\.")}=("(?:[^"\\\\]|\\\\.)*"|\\S+)`, "u").exec(line)?.[1];
  const found =
    plain ?? new RegExp(`"${name.replaceAll(".", "\\.")}":("(?:[^"\\\\]|\\\\.)*")`, "u").exec(line)?.[1] ?? "";
  return found.startsWith('"') ? (JSON.parse(found) as string) : found;
}

/** Listens on a node's own interface, by a pod of the host network, while `action` runs. */
async function captureDuring(cluster: Cluster, root: string, action: () => Promise<void>): Promise<CaptureSummary> {
  const nodeName = (await cluster.pod("bookshop", "frontend")).spec?.nodeName ?? "";
  const pod: PodName = { namespace: "legacy", name: "wire" };
  await cluster.apply(
    JSON.stringify({
      apiVersion: "v1",
      kind: "Pod",
      metadata: pod,
      spec: {
        nodeName,
        hostNetwork: true,
        restartPolicy: "Never",
        containers: [{ name: "wire", image: "ambit/tools", command: ["sleep", "600"] }],
      },
    }),
  );
  await cluster.until("the listening pod", async () =>
    (await cluster.pods("legacy")).some((one) => one.metadata?.name === "wire" && one.status?.phase === "Running"),
  );
  const command = [
    "node",
    join(root, "e2e/support/packet-capture.ts"),
    "--interface",
    "eth0",
    "--seconds",
    "4",
    "--needle",
    title,
  ];
  const capture = await cluster.start(pod, command);
  await capture.line((line) => line.includes("capturing"));
  await action();
  const { stdout, stderr } = await capture.done;
  await cluster.delete("v1", "Pod", pod.name, pod.namespace);
  const line = stdout.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) throw new Error(`The capture said nothing: ${stderr}`);
  return JSON.parse(line) as CaptureSummary;
}
