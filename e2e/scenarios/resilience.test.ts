/** What breaks and what must not: certificates renewed, the control plane gone, ztunnel replaced. */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { LoadOutcome, Outcome } from "#e2e/support/client.ts";
import { isReady, nameOf } from "#e2e/support/cluster.ts";
import { strangeAuthority } from "#e2e/support/forged-certificate.ts";
import {
  ambient,
  namespaceManifest,
  outcomeOf,
  peerManifest,
  setZtunnelEnv,
  startMesh,
  startTalk,
  talk,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
const client = { namespace: "work", name: "client" };

beforeAll(async () => {
  mesh = await startMesh("resilience");
  await mesh.cluster.apply(
    [
      namespaceManifest("work", ambient),
      peerManifest("client", { namespace: "work", node: "node-1" }),
      peerManifest("server", { namespace: "work", node: "node-2", service: "cluster-ip" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("work", 2);
  await mesh.cluster.captured("work", true);
  expect(await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).toMatchObject({ ok: true });
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

const ztunnels = () => mesh.cluster.pods("istio-system", "app=ztunnel");

/** A part of every ztunnel's `config_dump`. */
async function dumps<T>(part: "certificates" | "workloadState"): Promise<readonly T[]> {
  const script = `fetch("http://localhost:15000/config_dump").then((r) => r.json()).then((d) => console.log(JSON.stringify(d.${part})))`;
  const texts = (await ztunnels()).map((pod) => mesh.cluster.exec(nameOf(pod), ["node", "-e", script]));
  return (await Promise.all(texts)).map(({ stdout }) => JSON.parse(stdout) as T);
}

const certificates = async (): Promise<readonly Certified[]> => (await dumps<Certified[]>("certificates")).flat();

/** Protocols of what a pod has open outward. */
async function protocolsOf({ namespace, name }: typeof client): Promise<readonly string[]> {
  const pods = (await dumps<Record<string, DumpedPod>>("workloadState")).flatMap((each) => Object.values(each));
  return pods
    .filter(({ info }) => info.namespace === namespace && info.name === name)
    .flatMap(({ connections }) => connections?.outbound.map(({ protocol }) => protocol) ?? []);
}

interface DumpedPod {
  readonly info: { readonly namespace: string; readonly name: string };
  readonly connections?: { readonly outbound: readonly { readonly protocol: string }[] };
}

interface Certified {
  readonly certChain: readonly { readonly serialNumber: string }[];
  /** In base64. */
  readonly rootCerts: readonly { readonly pem: string }[];
}

/** One that is being fetched has none yet. */
async function serials(): Promise<ReadonlySet<string>> {
  const leaves = (await certificates()).flatMap(({ certChain }) => certChain.slice(0, 1));
  return new Set(leaves.map(({ serialNumber }) => serialNumber));
}

/** None, or one that is ready. */
async function scaleControlPlane(replicas: 0 | 1): Promise<void> {
  await mesh.cluster.merge({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "istiod", namespace: "istio-system" },
    spec: { replicas },
  });
  await mesh.cluster.until(
    replicas === 0 ? "the control plane to be gone" : "the control plane to be back",
    async () => {
      const pods = await mesh.cluster.pods("istio-system", "app=istiod");
      return pods.length === replicas && pods.every(isReady);
    },
    60_000,
  );
}

/** Changes ztunnel's environment, which replaces every ztunnel, and waits until the new ones alone are there. */
test("ztunnels are replaced under load: connections may end with the old one's drain, new ones never fail", async () => {
  const load = await startTalk(mesh.cluster, client, "load", "--host", "server", "--seconds", 25, "--every", 25);
  await setZtunnelEnv(mesh.cluster, [
    { name: "SECRET_TTL", value: "10s" },
    { name: "TERMINATION_GRACE_PERIOD_SECONDS", value: "8" },
  ]);
  const outcome = await outcomeOf<LoadOutcome>(load);
  expect(outcome).toMatchObject({ failed: 0, failures: [] });
}, 150_000);

test("certificates are renewed under load without a failed request", async () => {
  const before = await serials();
  const held = await startTalk(mesh.cluster, client, "hold", "--host", "server", "--seconds", 16);
  const load = await startTalk(mesh.cluster, client, "load", "--host", "server", "--seconds", 16, "--every", 20);
  expect(await outcomeOf<LoadOutcome>(load)).toMatchObject({ failed: 0, failures: [] });
  expect(await outcomeOf(held)).toMatchObject({ closedByPeer: false });
  const after = await serials();
  expect(before.size).toBeGreaterThan(0);
  expect([...before].filter((serial) => after.has(serial))).toEqual([]);
  await setZtunnelEnv(mesh.cluster, [{ name: "SECRET_TTL", value: "24h" }]);
}, 150_000);

test("without a control plane, existing and new connections between known pods go on; it comes back and serves changes", async () => {
  const held = await startTalk(mesh.cluster, client, "hold", "--host", "server", "--seconds", 12);
  await scaleControlPlane(0);
  const load = await startTalk(mesh.cluster, client, "load", "--host", "server", "--seconds", 5, "--every", 20);
  expect(await outcomeOf<LoadOutcome>(load)).toMatchObject({ failed: 0 });
  await scaleControlPlane(1);
  expect(await outcomeOf(held)).toMatchObject({ closedByPeer: false });
  await mesh.cluster.apply(
    JSON.stringify({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "closed", namespace: "work" },
      spec: {},
    }),
  );
  await mesh.cluster.until(
    "a change to be served",
    async () => !(await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).ok,
    60_000,
  );
  await mesh.cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "closed", "work");
  await mesh.cluster.until(
    "its removal to be served",
    async () => (await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).ok,
  );
}, 180_000);

test("who is captured while the control plane is away speaks in clear; once it is back, connections take tunnels", async () => {
  await mesh.cluster.apply(
    [
      namespaceManifest("late"),
      peerManifest("client", { namespace: "late", node: "node-1" }),
      peerManifest("server", { namespace: "late", node: "node-2", service: "cluster-ip" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("late", 2);
  const late = { namespace: "late", name: "client" };
  expect(await talk<Outcome>(mesh.cluster, late, "echo", "--host", "server")).toMatchObject({ ok: true });
  await scaleControlPlane(0);
  await mesh.cluster.labelNamespace("late", ambient);
  await mesh.cluster.captured("late", true);
  const inClear = await startTalk(mesh.cluster, late, "hold", "--host", "server", "--seconds", 100);
  expect(await protocolsOf(late)).toEqual(["TCP"]);
  await scaleControlPlane(1);
  expect(await outcomeOf(inClear)).toMatchObject({ closedByPeer: true });
  const inTunnel = await startTalk(mesh.cluster, late, "hold", "--host", "server", "--seconds", 4);
  expect(await protocolsOf(late)).toEqual(["HBONE"]);
  expect(await outcomeOf(inTunnel)).toMatchObject({ closedByPeer: false });
}, 180_000);

test("another root takes the old one's place: certificates follow without a restart, and old pods know new ones", async () => {
  const { certificatePem, keyPem } = await strangeAuthority();
  await mesh.cluster.apply(
    JSON.stringify({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "cacerts", namespace: "istio-system" },
      stringData: { "ca-cert.pem": certificatePem, "ca-key.pem": keyPem, "root-cert.pem": certificatePem },
    }),
  );
  await scaleControlPlane(0);
  await scaleControlPlane(1);
  const bare = (pem: string) => pem.replace(/\s/g, "");
  const wanted = [bare(certificatePem)];
  await mesh.cluster.until(
    "every certificate to be signed by the new root",
    async () => {
      const all = await certificates();
      const rootsOf = ({ rootCerts }: Certified) =>
        rootCerts.map(({ pem }) => bare(Buffer.from(pem, "base64").toString()));
      return all.length > 0 && all.every((each) => isDeepStrictEqual(rootsOf(each), wanted));
    },
    60_000,
  );
  const newcomer = { namespace: "work", name: "newcomer" };
  await mesh.cluster.apply(peerManifest("newcomer", { namespace: "work", node: "node-1", service: "cluster-ip" }));
  await mesh.cluster.podsReady("work", 3);
  await mesh.cluster.captured("work", true);
  const reaches = async (from: typeof client, host: string) =>
    (await talk<Outcome>(mesh.cluster, from, "echo", "--host", host)).ok;
  await mesh.cluster.until("old pods and new ones to reach each other", async () => {
    return (await reaches(newcomer, "server")) && (await reaches({ ...client, name: "server" }, "newcomer"));
  });
}, 180_000);

test("a ztunnel that is killed comes back with all its pods, and traffic with it", async () => {
  const [first] = await ztunnels();
  if (first === undefined) throw new Error("There is no ztunnel");
  const script = `const fs=require("fs"); for (const pid of fs.readdirSync("/proc").filter((n)=>/^\\d+$/.test(n))) { try { if (pid !== String(process.pid) && fs.readFileSync("/proc/"+pid+"/environ","utf8").includes("POD_NAME=${first.metadata?.name}\\0") && fs.readFileSync("/proc/"+pid+"/cmdline","utf8").includes("ztunnel/main.ts")) process.kill(Number(pid), "SIGKILL"); } catch {} }`;
  await mesh.cluster.exec(nameOf(first), ["node", "-e", script]).catch(() => undefined);
  await mesh.cluster.until(
    "a restart",
    async () =>
      (await ztunnels()).some((pod) => (pod.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0 && isReady(pod)),
    60_000,
  );
  await mesh.cluster.until(
    "traffic to be back",
    async () => (await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).ok,
  );
}, 120_000);
