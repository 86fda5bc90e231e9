/**
 * The webhook as users meet it: kubectl says what is wrong with an object before it is stored, what is there already can
 * still be cleaned up, and a control plane that is away, new or newly certified stands in nobody's way for longer than it must.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { isReady, nameOf, type Manifest } from "#e2e/support/cluster.ts";
import { namespaceManifest, projectRoot, startMesh, type Mesh } from "#e2e/support/mesh.ts";
import { withoutWebhook, write } from "#e2e/support/written.ts";
import { findKubectl, KubectlDriver } from "./kubectl/kubectl-driver.ts";

const configurationName = "istio-validator-istio-system";
const manifest = readFileSync(join(projectRoot, "manifests/base/admission.yaml"), "utf8");

let mesh: Mesh;
const found = findKubectl();
if ("missing" in found) {
  process.stderr.write(`\n### admission.test.ts: ${found.missing}: what it says is NOT LOOKED AT ###\n\n`);
}
let kubectl: KubectlDriver | undefined;

beforeAll(async () => {
  mesh = await startMesh("admission");
  if (!("missing" in found)) kubectl = new KubectlDriver(found, readFileSync(mesh.kubeconfig, "utf8"));
  await mesh.cluster.apply(namespaceManifest("shop"));
}, 90_000);

afterAll(async () => {
  await kubectl?.close();
  await mesh?.[Symbol.asyncDispose]();
}, 30_000);

const virtualService = (name: string, http: object, meta: object = {}): Manifest => ({
  apiVersion: "networking.istio.io/v1",
  kind: "VirtualService",
  metadata: { name, namespace: "shop", ...meta },
  spec: { hosts: ["reviews"], http: [http] },
});
const wrong = (name: string, meta: object = {}) =>
  virtualService(name, { retries: { attempts: 1, retryOn: "5XX" } }, meta);
const right = (name: string) => virtualService(name, { directResponse: { status: 200 } });
const denied = 'admission webhook "validation.istio.io" denied the request: ';

const exists = (name: string): Promise<boolean> =>
  mesh.cluster.get("networking.istio.io/v1", "VirtualService", name, "shop").then(
    () => true,
    () => false,
  );

interface Webhook {
  readonly name: string;
  readonly failurePolicy: string;
  readonly clientConfig: { readonly caBundle?: string };
}

async function webhooks(): Promise<readonly Webhook[]> {
  const read = await mesh.cluster.get<Manifest>(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    configurationName,
  );
  return read["webhooks"] as readonly Webhook[];
}

/** The API server trusts the control plane. */
const trusted = () =>
  mesh.cluster.until("the control plane's roots", async () =>
    (await webhooks()).every(({ clientConfig }) => (clientConfig.caBundle ?? "") !== ""),
  );
const policies = async () => (await webhooks()).map(({ failurePolicy }) => failurePolicy);

describe("kubectl", () => {
  const apply = async (object: object, ...more: readonly string[]) =>
    kubectl?.run(["apply", "-f", "-", ...more], { stdin: JSON.stringify(object) });

  test.each([[[]], [["--dry-run=server"]], [["--server-side"]]])("says what is wrong, %j", async (more) => {
    await trusted();
    const said = await apply(wrong("bad"), ...more);
    if (said === undefined) return;
    expect(said.code).toBe(1);
    expect(said.stderr).toMatch(/^Error from server \(BadRequest\): /);
    expect(said.stderr).toContain(
      [
        `${denied}2 mistakes:`,
        "- spec.http[0]: says nothing to do: set one of route, redirect, directResponse (or delegate)",
        '- spec.http[0].retries.retryOn: unknown condition "5XX": did you mean "5xx"?',
      ].join("\n"),
    );
    expect(await exists("bad")).toBe(false);
  });

  test("prints warnings, and goes on", async () => {
    const odd = virtualService("odd", { route: [{ destination: { host: "reviews", subset: "v3" } }] });
    const said = await apply(odd);
    if (said === undefined) return;
    expect(said).toMatchObject({ code: 0, stdout: expect.stringContaining("created") as unknown });
    expect(said.stderr).toContain(
      'Warning: spec.http[0].route[0].destination.host: there is no service "reviews.shop.svc.cluster.local"',
    );
  });

  test("says what an edit breaks, and keeps what was there", async () => {
    if (kubectl === undefined) return;
    await apply(right("edited"));
    const patch = JSON.stringify({ spec: { http: [{}] } });
    const said = await kubectl.run(["patch", "virtualservice", "edited", "-n", "shop", "--type=merge", "-p", patch]);
    expect(said.code).toBe(1);
    expect(said.stderr).toContain(denied);
    const kept = await kubectl.run(["get", "virtualservice", "edited", "-n", "shop", "-o", "jsonpath={.spec.http[0]}"]);
    expect(JSON.parse(kept.stdout)).toEqual({ directResponse: { status: 200 } });
  });

  test("every kind of ours is asked about, routes of gateways are not", async () => {
    const limits = { apiVersion: "policy.ambit.dev/v1alpha1", kind: "RateLimitPolicy" };
    const at = { name: "a", namespace: "shop" };
    const spec = {
      targetRefs: [{ group: "", kind: "Service", name: "reviews" }],
      limits: [{ name: "a", key: [{ header: { name: "a" }, method: {} }], rates: [{ requests: 1, per: "1s" }] }],
    };
    expect((await write(mesh.cluster, { ...limits, metadata: at, spec })).refusal).toContain("set exactly one of");
    const route = (parent: object): Manifest => ({
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: at,
      spec: { parentRefs: [parent], rules: [{ matches: [{ path: { type: "RegularExpression", value: "(?=a)" } }] }] },
    });
    expect((await write(mesh.cluster, route({ group: "", kind: "Service", name: "reviews" }))).refusal).toContain(
      'admission webhook "gateway-api.validation.istio.io" denied the request: ',
    );
    expect(await write(mesh.cluster, route({ name: "somebodys-gateway" }))).toEqual({ refusal: "", warnings: [] });
  });
});

describe("what is there from a time without the webhook", () => {
  beforeAll(async () => {
    await withoutWebhook(mesh.cluster);
    expect(await write(mesh.cluster, wrong("old", { finalizers: ["shop.io/hold"] }))).toEqual({
      refusal: "",
      warnings: [],
    });
    await mesh.cluster.apply(manifest);
    await trusted();
  }, 60_000);

  test("can be labelled, with a warning; not be made wrong in another way; be put right", async () => {
    const labelled = await write(mesh.cluster, wrong("old", { finalizers: ["shop.io/hold"], labels: { team: "a" } }));
    expect(labelled.refusal).toBe("");
    expect(labelled.warnings).toContainEqual(expect.stringContaining("not in force: spec.http[0]"));
    const other = {
      ...wrong("old"),
      spec: { hosts: ["ratings"], http: [{ retries: { attempts: 1, retryOn: "5XX" } }] },
    };
    expect((await write(mesh.cluster, other)).refusal).toContain(denied);
  });

  test("gets its status, and can be deleted with its finalizer", async () => {
    await mesh.cluster.until("the complaint in its status", async () => {
      const read = await mesh.cluster.get<Manifest>("networking.istio.io/v1", "VirtualService", "old", "shop");
      return JSON.stringify(read["status"] ?? {}).includes("ambit.dev/Valid");
    });
    await mesh.cluster.delete("networking.istio.io/v1", "VirtualService", "old", "shop");
    const metadata = { name: "old", namespace: "shop", finalizers: null };
    const release = { apiVersion: "networking.istio.io/v1", kind: "VirtualService", metadata };
    await mesh.cluster.merge(release as unknown as Manifest);
    await mesh.cluster.until("it to be gone", async () => !(await exists("old")));
  });
});

describe("the control plane", () => {
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "istiod", namespace: "istio-system" },
  };
  const controlPlanes = () => mesh.cluster.pods("istio-system", "app=istiod");
  const scale = async (replicas: number) => {
    await mesh.cluster.merge({ ...deployment, spec: { replicas } });
    await mesh.cluster.until(
      `${replicas} control planes`,
      async () => {
        const pods = await controlPlanes();
        return pods.length === replicas && pods.every(isReady);
      },
      60_000,
    );
  };
  /** Replaces the control plane by a new one with these variables. */
  const renew = async (...env: readonly { readonly name: string; readonly value: string }[]) => {
    const before = new Set((await controlPlanes()).map(({ metadata }) => metadata?.uid));
    const read = await mesh.cluster.get<Manifest>("apps/v1", "Deployment", "istiod", "istio-system");
    const { template } = read["spec"] as { template: { spec: { containers: { env: { name: string }[] }[] } } };
    const [container] = template.spec.containers;
    const kept = (container?.env ?? []).filter(({ name }) => !env.some((each) => each.name === name));
    const containers = [{ ...container, env: [...kept, ...env] }];
    await mesh.cluster.merge({ ...deployment, spec: { template: { spec: { containers } } } });
    await mesh.cluster.until(
      "the new control plane alone",
      async () => {
        const pods = await controlPlanes();
        return pods.length === 1 && pods.every((pod) => isReady(pod) && !before.has(pod.metadata?.uid));
      },
      60_000,
    );
  };
  const refused = async () => (await write(mesh.cluster, wrong("probe"))).refusal.startsWith(denied);

  const annotate = (failurePolicy: string | null) =>
    mesh.cluster.merge({
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingWebhookConfiguration",
      metadata: { name: configurationName, annotations: { "ambit.dev/failure-policy": failurePolicy } },
    } as unknown as Manifest);

  test("is away: nobody waits for it, and it tells what was wrong when it is back", async () => {
    expect(await policies()).toEqual(["Ignore", "Ignore"]);
    await scale(0);
    expect(await write(mesh.cluster, wrong("unchecked"))).toEqual({ refusal: "", warnings: [] });
    await scale(1);
    await mesh.cluster.until("the complaint in its status", async () => {
      const read = await mesh.cluster.get<Manifest>("networking.istio.io/v1", "VirtualService", "unchecked", "shop");
      return JSON.stringify(read["status"] ?? {}).includes("The object has no effect");
    });
    await mesh.cluster.until("wrong objects to be refused", refused);
    await mesh.cluster.delete("networking.istio.io/v1", "VirtualService", "unchecked", "shop");
  }, 120_000);

  test("is waited for where somebody asks for that; other people's kinds and every deletion are not held up", async () => {
    await mesh.cluster.apply(JSON.stringify(right("left")));
    await annotate("Fail");
    await mesh.cluster.until("the policy", async () => (await policies()).join() === "Fail,Ignore");
    await scale(0);
    expect((await write(mesh.cluster, right("waiting"))).refusal).toMatch(
      /^Internal error occurred: failed calling webhook "validation\.istio\.io": failed to call webhook: /,
    );
    const gateway: Manifest = {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "Gateway",
      metadata: { name: "edge", namespace: "shop" },
      spec: { gatewayClassName: "somebodys", listeners: [{ name: "http", port: 80, protocol: "HTTP" }] },
    };
    expect((await write(mesh.cluster, gateway)).refusal).toBe("");
    await mesh.cluster.delete("networking.istio.io/v1", "VirtualService", "left", "shop");
    expect(await exists("left")).toBe(false);
    // A new one is not waited for before the first has answered.
    await withoutWebhook(mesh.cluster);
    await mesh.cluster.apply(manifest);
    await annotate("Fail");
    expect(await write(mesh.cluster, right("early"))).toEqual({ refusal: "", warnings: [] });
    await scale(1);
    await mesh.cluster.until("wrong objects to be refused", refused);
    await mesh.cluster.until("the policy", async () => (await policies()).join() === "Fail,Ignore");
  }, 120_000);

  test("renews its certificate under way", async () => {
    await renew({ name: "DEFAULT_WORKLOAD_CERT_TTL", value: "6s" });
    await trusted();
    const [pod] = await controlPlanes();
    if (pod === undefined) throw new Error("There is no control plane");
    const renewals = async () =>
      (await mesh.cluster.logs(nameOf(pod))).split("\n").filter((line) => line.includes("serving certificate renewed"))
        .length;
    await mesh.cluster.until("the first certificate to have ended", async () => (await renewals()) >= 3, 40_000);
    expect(await refused()).toBe(true);
    await renew({ name: "DEFAULT_WORKLOAD_CERT_TTL", value: "24h" });
  }, 120_000);

  test("gets another root", async () => {
    const before = (await webhooks()).map(({ clientConfig }) => clientConfig.caBundle);
    await mesh.cluster.delete("v1", "Secret", "istio-ca-secret", "istio-system");
    await renew({ name: "MAX_WORKLOAD_CERT_TTL", value: "2000h" });
    await mesh.cluster.until("another bundle", async () =>
      (await webhooks()).every(({ clientConfig }, at) => clientConfig.caBundle !== before[at]),
    );
    await mesh.cluster.until("wrong objects to be refused", refused);
    await mesh.cluster.apply(JSON.stringify(right("after")));
  }, 120_000);
});
