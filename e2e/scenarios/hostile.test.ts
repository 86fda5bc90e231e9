/** Garbage on every port, from outside the mesh and from inside: refused, logged, survived. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { join } from "node:path";
import type { Attack } from "#e2e/support/attacker.ts";
import type { Outcome } from "#e2e/support/client.ts";
import { nameOf, type PodName } from "#e2e/support/cluster.ts";
import { forge, meshAuthority, strangeAuthority } from "#e2e/support/forged-certificate.ts";
import {
  ambient,
  namespaceManifest,
  outcomeOf,
  peerManifest,
  podIp,
  projectRoot,
  startMesh,
  talk,
  ztunnelLog,
  ztunnelUsage,
  type Mesh,
} from "#e2e/support/mesh.ts";

let mesh: Mesh;
let serverIp: string;
let otherIp: string;
const client = { namespace: "target", name: "client" };
const server = { namespace: "target", name: "server" };
const attacker = { namespace: "outside", name: "attacker" };
const program = join(projectRoot, "e2e/support/attacker.ts");

beforeAll(async () => {
  mesh = await startMesh("hostile");
  await mesh.cluster.apply(
    [
      namespaceManifest("target", ambient),
      namespaceManifest("outside"),
      peerManifest("client", { namespace: "target", node: "node-1" }),
      peerManifest("server", { namespace: "target", node: "node-2", service: "cluster-ip" }),
      peerManifest("attacker", { namespace: "outside", node: "node-1" }),
    ].join("\n---\n"),
  );
  await mesh.cluster.podsReady("target", 2);
  await mesh.cluster.podsReady("outside", 1);
  await mesh.cluster.captured("target", true);
  serverIp = await podIp(mesh.cluster, server);
  otherIp = await podIp(mesh.cluster, client);
  await expectHealth();
}, 90_000);

afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

async function attack(from: PodName, ...args: (string | number)[]): Promise<Attack> {
  const running = await mesh.cluster.start(from, ["node", program, ...args.map(String)]);
  return outcomeOf<Attack>(running);
}

/** The mesh still carries traffic, and no ztunnel was restarted to do so. */
async function expectHealth(): Promise<void> {
  expect(await talk<Outcome>(mesh.cluster, client, "echo", "--host", "server")).toMatchObject({ ok: true });
  const pods = await mesh.cluster.pods("istio-system", "app=ztunnel");
  expect(pods.map((pod) => pod.status?.containerStatuses?.[0]?.restartCount)).toEqual([0, 0]);
}

describe.each([
  ["outside the mesh", attacker],
  ["inside the mesh", client],
])("an attacker %s", (_where, from) => {
  test.each([15_001, 15_006, 15_008])(
    "random bytes on the pod's port %i get nothing back",
    async (port) => {
      const { bytesReceived, open } = await attack(
        from,
        "garbage",
        "--host",
        serverIp,
        "--port",
        port,
        "--count",
        50,
        "--seconds",
        30,
      );
      // A TLS alert or an HTTP/2 GOAWAY may come back; nothing of the application's does.
      expect(bytesReceived).toBeLessThan(50 * 200);
      expect(open).toBe(0);
      await expectHealth();
    },
    60_000,
  );

  test("plain HTTP on the tunnel port is closed", async () => {
    const { open } = await attack(from, "http", "--host", serverIp, "--port", 15_008);
    expect(open).toBe(0);
    await expectHealth();
  }, 40_000);
});

test("TLS without a client certificate is refused, with a log line", async () => {
  const { error, bytesReceived } = await attack(attacker, "tls", "--host", serverIp);
  expect(`${error}`).not.toBe("timeout");
  expect(bytesReceived).toBeLessThan(200);
  await mesh.cluster.until("a line about the refusal", async () =>
    (await ztunnelLog(mesh.cluster)).some((line) => line.includes("connection failed")),
  );
  await expectHealth();
}, 30_000);

test("a certificate of an authority that nobody trusts is refused", async () => {
  const pem = await forge(await strangeAuthority(), "spiffe://cluster.local/ns/target/sa/client");
  expect(
    await attack(attacker, "connect", "--host", serverIp, "--pem", pem, "--authority", `${serverIp}:7000`),
  ).toMatchObject({ status: 0 });
  await expectHealth();
}, 30_000);

test("a certificate of our root but of another trust domain, or with no identity, is refused", async () => {
  for (const uri of ["spiffe://elsewhere.test/ns/target/sa/client", "https://cluster.local/ns/target/sa/client"]) {
    const pem = await forge(await meshAuthority(mesh.cluster), uri);
    expect(
      await attack(attacker, "connect", "--host", serverIp, "--pem", pem, "--authority", `${serverIp}:7000`),
    ).toMatchObject({ status: 0 });
  }
  await expectHealth();
}, 30_000);

test.each<[string, () => string, string, number]>([
  ["the pod itself", () => `${serverIp}:7000`, "CONNECT", 200],
  ["another pod's address", () => `${otherIp}:7000`, "CONNECT", 400],
  ["ztunnel's own port", () => `${serverIp}:15008`, "CONNECT", 503],
  ["a port where nobody listens", () => `${serverIp}:7999`, "CONNECT", 503],
  ["no port", () => serverIp, "CONNECT", 400],
  ["not with CONNECT", () => `${serverIp}:7000`, "GET", 400],
])(
  "with a good certificate, asking for %s",
  async (_what, authority, method, status) => {
    const pem = await forge(await meshAuthority(mesh.cluster), "spiffe://cluster.local/ns/target/sa/client");
    const answer = await attack(
      attacker,
      "connect",
      "--host",
      serverIp,
      "--pem",
      pem,
      "--authority",
      authority(),
      "--method",
      method,
    );
    expect(answer.status).toBe(status);
    await expectHealth();
  },
  30_000,
);

test("10 000 half-open connections are let go again, and others are served meanwhile", async () => {
  const before = await ztunnelUsage(mesh.cluster);
  const running = await mesh.cluster.start(attacker, [
    "node",
    program,
    "halfopen",
    "--host",
    serverIp,
    "--port",
    "15008",
    "--count",
    "10000",
    "--seconds",
    "40",
  ]);
  await running.line((line) => line.startsWith("{"));
  await expectHealth();
  const { connected, open } = await outcomeOf<Attack>(running);
  expect(connected).toBeGreaterThan(5_000);
  expect(open).toBe(0);
  await mesh.cluster.until("the descriptors to be given back", async () => {
    const after = await ztunnelUsage(mesh.cluster);
    return after.every(({ openFiles }, at) => openFiles < (before[at]?.openFiles ?? 0) + 200);
  });
  await expectHealth();
}, 120_000);

test("ports of ztunnel's own that are for operators are not open to pods", async () => {
  const [ztunnel] = await mesh.cluster.pods("istio-system", "app=ztunnel");
  if (ztunnel === undefined) throw new Error("There is no ztunnel");
  const host = await podIp(mesh.cluster, nameOf(ztunnel));
  const { connected } = await attack(attacker, "http", "--host", host, "--port", 15_000, "--seconds", 2);
  expect(connected).toBe(0);
}, 30_000);
