/** Pods join and leave the mesh while they work, and those beside them notice nothing. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { LoadOutcome, Outcome } from "#e2e/support/client.ts";
import { isCaptured } from "#e2e/support/cluster.ts";
import {
  ambient,
  namespaceManifest,
  outcomeOf,
  peerManifest,
  startMesh,
  startTalk,
  talk,
  ztunnelLog,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
const client = { namespace: "moving", name: "client" };
const bystander = { namespace: "settled", name: "bystander" };

beforeAll(async () => {
  mesh = await startMesh("enrolment");
  await mesh.cluster.apply(
    [
      namespaceManifest("moving"),
      namespaceManifest("settled", ambient),
      peerManifest("client", { namespace: "moving", node: "node-1" }),
      peerManifest("server", { namespace: "moving", node: "node-2", service: "cluster-ip" }),
      peerManifest("bystander", { namespace: "settled", node: "node-1" }),
      peerManifest("neighbour", { namespace: "settled", node: "node-2", service: "cluster-ip" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("moving", 2);
  await mesh.cluster.podsReady("settled", 2);
  await mesh.cluster.captured("settled", true);
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const restarts = async (): Promise<string> =>
  (await mesh.cluster.pods("moving"))
    .map((pod) => `${pod.metadata?.uid} ${pod.status?.containerStatuses?.[0]?.restartCount}`)
    .toSorted()
    .join("\n");

test("a namespace joins and leaves under load: no pod restarts, probes go on, the others lose nothing", async () => {
  const before = await restarts();
  const beside = await startTalk(mesh.cluster, bystander, "load", "--host", "neighbour", "--seconds", 14);
  const held = await startTalk(mesh.cluster, bystander, "hold", "--host", "neighbour", "--seconds", 14);
  for (let round = 0; round < 2; round++) {
    await mesh.cluster.labelNamespace("moving", ambient);
    await mesh.cluster.captured("moving", true);
    expect(await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).toMatchObject({ ok: true });
    await mesh.cluster.until("a tunnelled connection", async () => {
      await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server");
      return (await ztunnelLog(mesh.cluster)).some((line) => line.includes("ns/moving/sa/client"));
    });
    await mesh.cluster.labelNamespace("moving", { "istio.io/dataplane-mode": null });
    await mesh.cluster.captured("moving", false);
    expect(await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).toMatchObject({ ok: true });
  }
  expect(await outcomeOf<LoadOutcome>(beside)).toMatchObject({ failed: 0, failures: [] });
  expect(await outcomeOf(held)).toMatchObject({ closedByPeer: false, end: "close" });
  expect(await restarts()).toBe(before);
}, 90_000);

test("short connections of the joining pods themselves go on", async () => {
  const load = await startTalk(mesh.cluster, client, "load", "--host", "server", "--seconds", 8, "--every", 40);
  await mesh.cluster.labelNamespace("moving", ambient);
  await mesh.cluster.captured("moving", true);
  const outcome = await outcomeOf<LoadOutcome>(load);
  expect(outcome.done).toBeGreaterThan(10);
  // Those under way in the very moment may break; none may that began after the first did.
  const broken = outcome.failures.map((failure) => {
    const [, at = "", tookMs = ""] = /^(\S+) \S+ after (\d+) ms/u.exec(failure) ?? [];
    return { beganMs: Date.parse(at) - Number(tookMs), endedMs: Date.parse(at) };
  });
  const firstEndMs = Math.min(...broken.map(({ endedMs }) => endedMs));
  expect(broken.filter(({ beganMs }) => !(beganMs <= firstEndMs))).toEqual([]);
  await mesh.cluster.labelNamespace("moving", { "istio.io/dataplane-mode": null });
  await mesh.cluster.captured("moving", false);
}, 60_000);

test.each<[string, Readonly<Record<string, string | null>>]>([
  ["joins", ambient],
  ["leaves", { "istio.io/dataplane-mode": null }],
])(
  "who waits for an answer while the pod %s the mesh hears that the connection is over",
  async (_how, labels) => {
    const waiting = [
      await startTalk(mesh.cluster, client, "wait", "--host", "server", "--seconds", 20),
      await startTalk(mesh.cluster, client, "wait", "--host", "neighbour.settled", "--seconds", 20),
      await startTalk(mesh.cluster, bystander, "wait", "--host", "server.moving", "--seconds", 20),
    ];
    await mesh.cluster.labelNamespace("moving", labels);
    await mesh.cluster.captured("moving", labels === ambient);
    expect(await Promise.all(waiting.map((each) => outcomeOf<Outcome>(each)))).toMatchObject([
      { ok: true },
      { ok: true },
      { ok: true },
    ]);
  },
  60_000,
);

test("a pod's own label beats its namespace's", async () => {
  const label = (value: string | null) =>
    mesh.cluster.merge({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { ...client, labels: { "istio.io/dataplane-mode": value } },
    } as never);
  const clientCaptured = async () =>
    isCaptured((await mesh.cluster.pods("moving")).find(({ metadata }) => metadata?.name === "client") ?? {});
  await label("ambient");
  await mesh.cluster.until("the labelled pod alone to be captured", clientCaptured);
  expect((await mesh.cluster.pods("moving")).filter(isCaptured)).toHaveLength(1);
  await mesh.cluster.labelNamespace("moving", ambient);
  await label("none");
  await mesh.cluster.until("the pod to be let go", async () => !(await clientCaptured()));
  await label(null);
  await mesh.cluster.captured("moving", true);
  await mesh.cluster.labelNamespace("moving", { "istio.io/dataplane-mode": null });
  await mesh.cluster.captured("moving", false);
}, 60_000);

test("each pod says whether it is captured, with proof", async () => {
  const condition = async (namespace: string) =>
    (await mesh.cluster.pods(namespace)).map(
      (pod) => pod.status?.conditions?.find(({ type }) => type === "ambit.dev/Captured")?.status,
    );
  await mesh.cluster.until("captured pods to say so", async () =>
    (await condition("settled")).every((status) => status === "True"),
  );
});
