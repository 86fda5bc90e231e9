/** A sandbox with the mesh on it and a few pods to talk: what most scenarios start from. */
import { join } from "node:path";
import process from "node:process";
import { startSandbox, type SandboxOptions } from "#e2e/sandbox/sandbox.ts";
import type { ProcessUsage } from "./process-usage.ts";
import { Cluster, isReady, nameOf, type Manifest, type PodName, type RunningCommand } from "./cluster.ts";

export const projectRoot = join(import.meta.dirname, "../..");

/** The program of `e2e/support/server.ts` and `client.ts` as a pod's command. */
export const serverCommand = ["node", join(projectRoot, "e2e/support/server.ts")];
const clientProgram = join(projectRoot, "e2e/support/client.ts");

export interface Mesh extends AsyncDisposable {
  readonly cluster: Cluster;
  readonly kubeconfig: string;
}

export async function startMesh(name: string, options: Partial<SandboxOptions> = {}): Promise<Mesh> {
  const sandbox = await startSandbox({ ...options, name: `${name}-${process.pid}` });
  return {
    cluster: new Cluster(sandbox.kubeconfig),
    kubeconfig: sandbox.kubeconfig,
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
}

export interface PeerOptions {
  readonly namespace: string;
  readonly node: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Also a Service of that name: `ClusterIP`, or headless. */
  readonly service?: "cluster-ip" | "headless";
  readonly serviceAccount?: string;
  readonly hostNetwork?: boolean;
}

/** A pod that serves every port of `e2e/support/server.ts` and in which clients run. */
export function peerManifest(
  name: string,
  { namespace, node, labels, service, serviceAccount, hostNetwork }: PeerOptions,
): string {
  const account = serviceAccount ?? name;
  const objects: unknown[] = [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account, namespace } },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name, ...labels } },
      spec: {
        nodeName: node,
        serviceAccountName: account,
        terminationGracePeriodSeconds: 1,
        ...(hostNetwork === true && { hostNetwork, dnsPolicy: "ClusterFirstWithHostNet" }),
        containers: [
          {
            name: "peer",
            image: "ambit/tools",
            command: serverCommand,
            readinessProbe: { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 },
            livenessProbe: { tcpSocket: { port: 7000 }, periodSeconds: 2, failureThreshold: 3 },
          },
        ],
      },
    },
  ];
  if (service !== undefined) {
    const ports = {
      echo: 7000,
      first: 7001,
      digest: 7002,
      halfclose: 7003,
      reset: 7004,
      source: 7005,
      sink: 7006,
      http: 8080,
    };
    objects.push({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace },
      spec: {
        selector: { app: name },
        ipFamilyPolicy: "PreferDualStack",
        ...(service === "headless" ? { clusterIP: "None" } : {}),
        ports: Object.entries(ports).map(([portName, port]) => ({ name: `tcp-${portName}`, port })),
      },
    });
  }
  return objects.map((object) => JSON.stringify(object)).join("\n---\n");
}

export const namespaceManifest = (name: string, labels: Readonly<Record<string, string>> = {}): string =>
  JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });

export const ambient = { "istio.io/dataplane-mode": "ambient" };

/** Runs one conversation of `e2e/support/client.ts` in a pod and answers its JSON. */
export async function talk<T>(cluster: Cluster, pod: PodName, ...args: readonly (string | number)[]): Promise<T> {
  const { stdout, stderr, exitCode } = await cluster.exec(pod, ["node", clientProgram, ...args.map(String)]);
  const last = stdout.trim().split("\n").at(-1) ?? "";
  if (exitCode !== 0 || last === "")
    throw new Error(`${args.join(" ")} in ${pod.name} exited ${exitCode}: ${stderr}${stdout}`);
  return JSON.parse(last) as T;
}

/** Starts a longer conversation; resolves when it is under way. */
export async function startTalk(
  cluster: Cluster,
  pod: PodName,
  ...args: readonly (string | number)[]
): Promise<RunningCommand> {
  const running = await cluster.start(pod, ["node", clientProgram, ...args.map(String)]);
  await running.line((line) => line.startsWith("{"));
  return running;
}

/** The JSON that a longer conversation ended with. */
export async function outcomeOf<T>(running: RunningCommand): Promise<T> {
  const { stdout } = await running.done;
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as T;
}

/** Lines of all ztunnels' logs. */
export async function ztunnelLog(cluster: Cluster): Promise<string[]> {
  const pods = await cluster.pods("istio-system", "app=ztunnel");
  return (await Promise.all(pods.map((pod) => cluster.logs(nameOf(pod))))).flatMap((text) => text.split("\n"));
}

/** What each ztunnel's process uses. */
export async function ztunnelUsage(cluster: Cluster): Promise<ProcessUsage[]> {
  const pods = await cluster.pods("istio-system", "app=ztunnel");
  return Promise.all(pods.map((pod) => podUsage(cluster, nameOf(pod), "ztunnel")));
}

/** What those processes of a pod use whose command line holds the text. */
export async function podUsage(cluster: Cluster, pod: PodName, text: string): Promise<ProcessUsage> {
  const program = join(projectRoot, "e2e/support/process-usage.ts");
  const { stdout, stderr } = await cluster.exec(pod, ["node", program, text]);
  if (stdout === "") throw new Error(`Cannot read what ${text} uses in ${pod.name}: ${stderr}`);
  return JSON.parse(stdout) as ProcessUsage;
}

/** The pod IP of one family. */
export async function podIp(cluster: Cluster, pod: PodName, family: 4 | 6 = 4): Promise<string> {
  const found = (await cluster.pods(pod.namespace)).find(({ metadata }) => metadata?.name === pod.name);
  const ip = found?.status?.podIPs
    ?.map((entry) => entry.ip ?? "")
    .find((text) => text.includes(":") === (family === 6));
  if (ip === undefined) throw new Error(`${pod.name} has no IPv${family} address`);
  return ip;
}

/** Changes environment variables of every ztunnel and waits until only new ones are left. */
export async function setZtunnelEnv(
  cluster: Cluster,
  env: readonly { readonly name: string; readonly value: string }[],
): Promise<void> {
  const ztunnels = () => cluster.pods("istio-system", "app=ztunnel");
  const before = new Set((await ztunnels()).map((pod) => pod.metadata?.uid));
  const daemonSet = await cluster.get<Manifest>("apps/v1", "DaemonSet", "ztunnel", "istio-system");
  const spec = daemonSet["spec"] as { template: { spec: { containers: { env: { name: string }[] }[] } } };
  const [container] = spec.template.spec.containers;
  if (container === undefined) throw new Error("ztunnel's DaemonSet has no container");
  const names = new Set(env.map(({ name }) => name));
  container.env = [...container.env.filter(({ name }) => !names.has(name)), ...env];
  await cluster.merge({
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "ztunnel", namespace: "istio-system" },
    spec,
  });
  await cluster.until(
    "new ztunnels alone",
    async () => {
      const pods = await ztunnels();
      return pods.length === before.size && pods.every((pod) => !before.has(pod.metadata?.uid) && isReady(pod));
    },
    90_000,
  );
}
