/** Any part of the mesh may be somebody else's: a command in its place, or a control plane that runs outside. */
import { spawn, type ChildProcess } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Outcome } from "#e2e/support/client.ts";
import { isReady, nameOf, type Cluster } from "#e2e/support/cluster.ts";
import {
  ambient,
  namespaceManifest,
  peerManifest,
  projectRoot,
  startMesh,
  talk,
  ztunnelLog,
  type Mesh,
} from "#e2e/support/mesh.ts";
import { recordIn, type StartRecord } from "#e2e/support/recorded.ts";

const client = { namespace: "shop", name: "client" };
const pods = [
  namespaceManifest("shop", ambient),
  peerManifest("client", { namespace: "shop", node: "node-1" }),
  peerManifest("server", { namespace: "shop", node: "node-2", service: "cluster-ip" }),
].join("\n---\n");

async function startPods(cluster: Cluster): Promise<void> {
  await cluster.apply(pods);
  await cluster.podsReady("shop", 2);
  await cluster.captured("shop", true);
}

const reaches = async (cluster: Cluster): Promise<boolean> =>
  (await talk<Outcome>(cluster, client, "echo", "--host", "server")).ok;

/** Denies, sees it denied, allows, sees it allowed: the whole way from the API server to ztunnel works. */
async function enforces(cluster: Cluster): Promise<void> {
  await cluster.until("traffic", () => reaches(cluster));
  await cluster.apply(
    JSON.stringify({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "no-client", namespace: "shop" },
      spec: { action: "DENY", rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/client"] } }] }] },
    }),
  );
  // Who lost its control plane asks for it every 15 seconds at last, and a new one has to start.
  await cluster.until("the denial", async () => !(await reaches(cluster)), 60_000);
  const log = await ztunnelLog(cluster);
  expect(log.some((line) => line.includes("shop/no-client") && line.includes("/ns/shop/sa/client"))).toBe(true);
  await cluster.delete("security.istio.io/v1", "AuthorizationPolicy", "no-client", "shop");
  await cluster.until("traffic to be back", () => reaches(cluster));
}

/** Runs the program of ours behind a door of its own, as the sandbox would run anybody's. */
const recorded = (program: string) =>
  `${process.execPath} ${join(projectRoot, "e2e/support/recorded.ts")} ${join(projectRoot, program)}`;

/** What every container has, what stands for the services of its namespace, and what some shells cannot but add. */
const everybodys = /^(_|PATH|HOME|HOSTNAME|KUBERNETES_\w+|ISTIOD_(SERVICE|PORT)\w*)$/u;
const ownNames = ({ environment }: StartRecord) =>
  Object.keys(environment)
    .filter((name) => !everybodys.test(name))
    .toSorted();

describe("commands in place of ztunnel and the control plane", () => {
  let mesh: Mesh;
  beforeAll(async () => {
    mesh = await startMesh("replaced", {
      ztunnel: recorded("ztunnel/main.ts"),
      controlPlane: recorded("controlplane/main.ts"),
    });
  }, 90_000);
  afterAll(async () => mesh?.[Symbol.asyncDispose](), 30_000);

  const started = async (app: string) =>
    Promise.all(
      (await mesh.cluster.pods("istio-system", `app=${app}`)).map(async (pod) => ({
        pod,
        record: recordIn(await mesh.cluster.logs(nameOf(pod))),
      })),
    );

  test("ztunnel gets the arguments and the environment of Istio's chart, and no more", async () => {
    const all = await started("ztunnel");
    expect(new Set(all.map(({ pod }) => pod.spec?.nodeName))).toEqual(new Set(["node-1", "node-2"]));
    for (const { pod, record } of all) {
      expect(record.arguments).toEqual(["proxy", "ztunnel"]);
      expect(ownNames(record)).toEqual([
        "CA_ADDRESS",
        "INPOD_ENABLED",
        "INSTANCE_IP",
        "ISTIO_META_CLUSTER_ID",
        "ISTIO_META_ENABLE_HBONE",
        "NODE_NAME",
        "POD_NAME",
        "POD_NAMESPACE",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "SERVICE_ACCOUNT",
        "TERMINATION_GRACE_PERIOD_SECONDS",
        "XDS_ADDRESS",
      ]);
      expect(record.environment).toMatchObject({
        CA_ADDRESS: "istiod.istio-system.svc:15012",
        XDS_ADDRESS: "istiod.istio-system.svc:15012",
        ISTIO_META_CLUSTER_ID: "Kubernetes",
        INPOD_ENABLED: "true",
        INSTANCE_IP: pod.status?.podIP,
        NODE_NAME: pod.spec?.nodeName,
        POD_NAME: pod.metadata?.name,
        POD_NAMESPACE: "istio-system",
        SERVICE_ACCOUNT: "ztunnel",
        KUBERNETES_SERVICE_PORT: "443",
      });
    }
  });

  test("ztunnel finds its files where Istio's looks for them, relative to /", async () => {
    for (const { pod, record } of await started("ztunnel")) {
      expect(record.workingFolder).toBe("/");
      expect(record.files.rootCertificate).toMatch(/^-----BEGIN CERTIFICATE-----\n[^]+-----END CERTIFICATE-----\n?$/);
      expect(record.files.istioToken).toMatchObject({
        aud: ["istio-ca"],
        sub: "system:serviceaccount:istio-system:ztunnel",
        "kubernetes.io": {
          namespace: "istio-system",
          pod: { name: pod.metadata?.name, uid: pod.metadata?.uid },
          serviceaccount: { name: "ztunnel" },
        },
      });
      expect(record.files.socketFolder).toBeDefined();
      // The chart mounts no token for the API server.
      expect(record.files.apiToken).toBeUndefined();
    }
  });

  test("ztunnel runs in its pod's network namespace, with the powers of the chart", async () => {
    const all = await started("ztunnel");
    for (const { pod, record } of all) {
      expect(record.addresses).toContain(pod.status?.podIP);
      const here = await mesh.cluster.exec(nameOf(pod), ["readlink", "/proc/self/ns/net"]);
      expect(record.networkNamespace).toBe(here.stdout.trim());
      // NET_ADMIN is bit 12, NET_RAW 13, SYS_ADMIN 21.
      expect(BigInt(`0x${record.capabilities}`)).toBe((1n << 12n) | (1n << 13n) | (1n << 21n));
    }
    expect(new Set(all.map(({ record }) => record.networkNamespace)).size).toBe(2);
  });

  test("the control plane gets what its manifest says, and the token for the API server", async () => {
    const [first] = await started("istiod");
    expect(first?.record).toMatchObject({
      arguments: ["discovery"],
      environment: { POD_NAME: first?.pod.metadata?.name, POD_NAMESPACE: "istio-system", CLUSTER_ID: "Kubernetes" },
      files: { apiToken: { sub: "system:serviceaccount:istio-system:istiod" } },
    });
  });

  test("pods are captured by them, and policy holds", async () => {
    await startPods(mesh.cluster);
    await enforces(mesh.cluster);
    const tunnelled =
      /src\.identity="[^"]*\/ns\/shop\/sa\/client".*dst\.hbone_addr=.*dst\.identity="[^"]*\/ns\/shop\/sa\/server"/u;
    expect((await ztunnelLog(mesh.cluster)).some((line) => tunnelled.test(line))).toBe(true);
  });
});

describe("a control plane outside of the sandbox", () => {
  let mesh: Mesh;
  let outside: OutsideControlPlane;
  beforeAll(async () => {
    outside = await OutsideControlPlane.prepare();
    mesh = await startMesh("outside", {
      controlPlane: `127.0.0.1:${outside.port}`,
      kubeconfig: outside.kubeconfig,
      // The API server is there before the mesh: that is when its control plane can start.
      progress: (text) => {
        if (text.startsWith("The API server listens")) outside.start();
      },
    });
  }, 90_000);
  afterAll(async () => {
    await mesh?.[Symbol.asyncDispose]();
    await outside?.[Symbol.asyncDispose]();
  }, 30_000);

  test("the mesh is ready on it, with no control plane inside", async () => {
    expect(await mesh.cluster.pods("istio-system", "app=istiod")).toEqual([]);
    const ztunnels = await mesh.cluster.pods("istio-system", "app=ztunnel");
    expect(ztunnels.map(isReady)).toEqual([true, true]);
  });

  test("it hands out certificates and policies", async () => {
    await startPods(mesh.cluster);
    await enforces(mesh.cluster);
    const log = await ztunnelLog(mesh.cluster);
    expect(log.some((line) => line.includes("spiffe://cluster.local/ns/shop/sa/client"))).toBe(true);
  });

  test("while it is away, what is known goes on; when it is back, changes come", async () => {
    await outside.stop();
    expect(await reaches(mesh.cluster)).toBe(true);
    outside.start();
    await enforces(mesh.cluster);
  }, 150_000);
});

/** Below the range that the kernel chooses from, so that nobody gets it while it is not listened on. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const probe = createServer().listen(port, "127.0.0.1");
    const isFree = await once(probe, "listening").then(
      () => true,
      () => false,
    );
    await new Promise((resolve) => probe.close(resolve));
    if (isFree) return port;
  }
}

/** Our control plane as a process of this machine, on a port of its own. */
class OutsideControlPlane implements AsyncDisposable {
  readonly port: number;
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #log = "";

  private constructor(port: number, folder: string) {
    this.port = port;
    this.#folder = folder;
  }

  static async prepare(): Promise<OutsideControlPlane> {
    const port = await freePort();
    return new OutsideControlPlane(port, mkdtempSync(join(tmpdir(), "ambit-outside-")));
  }

  get kubeconfig(): string {
    return join(this.#folder, "kubeconfig");
  }

  start(): void {
    const anywhere = "127.0.0.1:0";
    const flags = ["--grpcAddr", "", "--httpAddr", anywhere, "--monitoringAddr", anywhere];
    this.#child = spawn(
      process.execPath,
      [join(projectRoot, "controlplane/main.ts"), "discovery", "--secureGRPCAddr", `127.0.0.1:${this.port}`, ...flags],
      { env: { PATH: process.env["PATH"], KUBECONFIG: this.kubeconfig }, stdio: ["ignore", "pipe", "pipe"] },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk: Buffer) => (this.#log += chunk.toString("utf8")));
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    if (child.exitCode !== null) throw new Error(`The control plane ended by itself: ${this.#log}`);
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().finally(() => rmSync(this.#folder, { recursive: true, force: true }));
  }
}
