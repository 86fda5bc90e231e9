/** Web services behind a waypoint, and callers with curl: what the L7 scenarios start from. */
import { join } from "node:path";
import process from "node:process";
import type { Cluster, Manifest, PodName, RunningCommand } from "./cluster.ts";
import type { Authority } from "./forged-certificate.ts";
import { ambient, namespaceManifest, projectRoot, startMesh, type Mesh } from "./mesh.ts";
import type { LoadOptions, LoadOutcome, WebCommands } from "./web-client.ts";
import { webPorts, type Echo } from "./web.ts";

const webProgram = join(projectRoot, "e2e/support/web.ts");
const clientProgram = join(projectRoot, "e2e/support/web-client.ts");

/**
 * A mesh whose namespace `shop` uses a waypoint, with a pod `caller` on node-1 and whatever else belongs there: `pods` is
 * how many pods that is.
 */
export async function startWebMesh(name: string, manifests: readonly string[], pods: number): Promise<Mesh> {
  const mesh = await startMesh(name);
  try {
    await mesh.cluster.apply(
      [
        namespaceManifest("shop", { ...ambient, "istio.io/use-waypoint": "waypoint" }),
        callerPod("caller", "shop", "node-1"),
        ...manifests,
      ].join("\n---\n"),
    );
    await mesh.cluster.podsReady("shop", pods + 1, 60_000);
    await mesh.cluster.captured("shop", true, 30_000);
    await mesh.cluster.apply(waypointGateway("waypoint", "shop"));
    await waypointReady(mesh.cluster, "shop");
    return mesh;
  } catch (error) {
    await mesh[Symbol.asyncDispose]();
    throw error;
  }
}

export interface WebOptions {
  readonly namespace: string;
  readonly node?: string;
  /** Label `app`, which services select. Default: the name. */
  readonly app?: string;
  readonly version?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** With it, HTTPS is served. */
  readonly certificate?: Authority;
}

/** A pod of `e2e/support/web.ts` with a service account of its name. */
export function webPod(name: string, options: WebOptions): string {
  const { namespace, node, app = name, version = "v1", labels } = options;
  return documents(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app, version, ...labels } },
      spec: {
        ...(node === undefined ? {} : { nodeName: node }),
        ...webPodSpec({ name: "NAME", value: name }, name, options.certificate),
      },
    },
  );
}

/** The same as a Deployment: pods that come and go. */
export function webDeployment(name: string, { namespace, app = name }: WebOptions, replicas: number): string {
  const podName = { name: "NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } };
  return documents(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace },
      spec: {
        replicas,
        selector: { matchLabels: { app } },
        template: { metadata: { labels: { app } }, spec: webPodSpec(podName, name) },
      },
    },
  );
}

const webPodSpec = (name: object, serviceAccountName: string, certificate?: Authority): object => ({
  serviceAccountName,
  terminationGracePeriodSeconds: 5,
  containers: [
    {
      name: "web",
      image: "ambit/tools",
      command: ["node", webProgram],
      env: [
        name,
        ...(certificate === undefined
          ? []
          : [
              { name: "TLS_CERTIFICATE", value: certificate.certificatePem },
              { name: "TLS_KEY", value: certificate.keyPem },
            ]),
      ],
      readinessProbe: { tcpSocket: { port: webPorts.grpc }, periodSeconds: 1 },
    },
  ],
});

/** A Service over its ports: `http`, `http2`, `https`, `grpc`, `tcp`, and one whose name says nothing. */
export function webService(
  name: string,
  namespace: string,
  {
    app = name,
    selector = {},
    labels = {},
  }: {
    readonly app?: string;
    readonly selector?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
  } = {},
): string {
  return documents({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, labels },
    spec: {
      selector: { app, ...selector },
      ports: [
        { name: "http", port: 80, targetPort: webPorts.http },
        { name: "http2", port: webPorts.http2 },
        { name: "https", port: 443, targetPort: webPorts.https },
        { name: "grpc", port: webPorts.grpc },
        { name: "tcp", port: webPorts.tcp },
        { name: "tcp-first", port: webPorts.first },
        { name: "auto", port: webPorts.auto },
      ],
    },
  });
}

/** A pod from which to call. */
export function callerPod(name: string, namespace: string, node?: string): string {
  return documents(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } },
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name } },
      spec: {
        ...(node === undefined ? {} : { nodeName: node }),
        serviceAccountName: name,
        terminationGracePeriodSeconds: 0,
        containers: [{ name: "caller", image: "ambit/tools", command: ["sleep", "infinity"] }],
      },
    },
  );
}

export const waypointGateway = (
  name: string,
  namespace: string,
  {
    serves = "service",
    className = "istio-waypoint",
    from,
  }: { readonly serves?: string; readonly className?: string; readonly from?: unknown } = {},
): string =>
  documents({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name, namespace, labels: { "istio.io/waypoint-for": serves } },
    spec: {
      gatewayClassName: className,
      listeners: [
        {
          name: "mesh",
          port: 15_008,
          protocol: "HBONE",
          ...(from === undefined ? {} : { allowedRoutes: { namespaces: from } }),
        },
      ],
    },
  });

export const documents = (...objects: readonly unknown[]): string =>
  objects.map((object) => JSON.stringify(object)).join("\n---\n");

/** Waits until the waypoint's pods are ready and its Gateway has an address. */
export async function waypointReady(cluster: Cluster, namespace: string, name = "waypoint", replicas = 1) {
  await cluster.until(
    `waypoint ${namespace}/${name}`,
    async () => {
      const pods = await cluster.pods(namespace, `gateway.networking.k8s.io/gateway-name=${name}`);
      const ready = pods.filter(
        ({ metadata, status }) =>
          metadata?.deletionTimestamp === undefined &&
          status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
      );
      const gateway = await cluster.get<Manifest & { readonly status?: { readonly addresses?: readonly unknown[] } }>(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        name,
        namespace,
      );
      return ready.length === replicas && (gateway.status?.addresses?.length ?? 0) > 0;
    },
    60_000,
  );
}

export interface Answer {
  /** 0 where there was none. */
  readonly status: number;
  /** The last head; names in lower case. */
  readonly headers: ReadonlyMap<string, readonly string[]>;
  readonly text: string;
  /** What `e2e/support/web.ts` says; undefined where somebody else answered. */
  readonly echo: Echo | undefined;
  /** Of curl. */
  readonly exitCode: number;
}

/** One request by curl, from a pod. */
export async function curl(cluster: Cluster, pod: PodName, ...args: readonly string[]): Promise<Answer> {
  const { stdout, exitCode } = await cluster.exec(pod, ["curl", "-sS", "-i", "-m", "15", ...args]);
  return parseAnswer(stdout, exitCode);
}

/** Many requests to one URL, over one connection each: their statuses and who answered. */
export async function curlMany(
  cluster: Cluster,
  pod: PodName,
  count: number,
  ...args: readonly string[]
): Promise<readonly { readonly status: number; readonly servedBy: string }[]> {
  const script = `for i in $(seq ${count}); do curl -s -m 15 -o /dev/null -w '%{http_code} %header{x-served-by}\\n' ${args
    .map((each) => `'${each.replaceAll("'", "'\\''")}'`)
    .join(" ")}; done`;
  const { stdout } = await cluster.exec(pod, ["sh", "-c", script]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [status = "0", servedBy = ""] = line.trim().split(" ");
      return { status: Number(status), servedBy };
    });
}

type Answered<Name extends keyof WebCommands> = Awaited<ReturnType<WebCommands[Name]>>;

const clientCommand = (name: keyof WebCommands, options: unknown): readonly string[] => [
  "node",
  clientProgram,
  name,
  JSON.stringify(options),
];

function outcomeIn({ stdout, stderr, exitCode }: { stdout: string; stderr: string; exitCode: number }): unknown {
  const last = stdout.trim().split("\n").at(-1) ?? "";
  if (exitCode !== 0 || last === "") throw new Error(`The client exited ${exitCode}: ${stderr}${stdout}`);
  return JSON.parse(last);
}

/** A command of `e2e/support/web-client.ts`, in a pod, to its end. */
export async function client<Name extends keyof WebCommands>(
  cluster: Cluster,
  pod: PodName,
  name: Name,
  options: Parameters<WebCommands[Name]>[0],
): Promise<Answered<Name>> {
  return outcomeIn(await cluster.exec(pod, clientCommand(name, options))) as Answered<Name>;
}

/** Steady requests while `during` happens. */
export async function underLoad(
  cluster: Cluster,
  pod: PodName,
  options: Omit<LoadOptions, "until">,
  during: () => Promise<unknown>,
): Promise<LoadOutcome> {
  const until = `/tmp/ambit-load-${process.pid}-${loads++}`;
  const running: RunningCommand = await cluster.start(pod, clientCommand("load", { ...options, until }));
  await running.line((line) => line.startsWith("{"));
  try {
    await during();
  } finally {
    await cluster.exec(pod, ["touch", until]);
  }
  const outcome = await running.done;
  await cluster.exec(pod, ["rm", "-f", until]);
  return outcomeIn(outcome) as LoadOutcome;
}
let loads = 0;

/** The statuses of requests by curl, in the order given, from one shell in a pod; 0 where there was none. */
export async function statusesOf(
  cluster: Cluster,
  pod: PodName,
  requests: readonly (readonly string[])[],
): Promise<readonly number[]> {
  const statuses: number[] = [];
  let script = "";
  const run = async () => {
    const { stdout } = await cluster.exec(pod, ["sh", "-c", script]);
    statuses.push(...stdout.trim().split("\n").map(Number));
    script = "";
  };
  for (const args of requests) {
    script += `curl -s -m 8 -o /dev/null -w '%{http_code}\\n' ${args.map(quoted).join(" ")}\n`;
    if (script.length > longestScript) await run();
  }
  if (script !== "") await run();
  return statuses;
}

/** It travels in the address of a request. */
const longestScript = 4_000;

/** For a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function parseAnswer(text: string, exitCode: number): Answer {
  let rest = text;
  let status = 0;
  const headers = new Map<string, string[]>();
  // Interim answers come before the last head.
  for (let head = /^HTTP\/[\d.]+ (\d{3})[^\r\n]*\r?\n/.exec(rest); head !== null;) {
    const end = rest.indexOf("\r\n\r\n");
    status = Number(head[1]);
    headers.clear();
    for (const line of rest.slice(head[0].length, end < 0 ? undefined : end).split("\r\n")) {
      const colon = line.indexOf(":");
      if (colon <= 0) continue;
      const name = line.slice(0, colon).toLowerCase();
      headers.set(name, [...(headers.get(name) ?? []), line.slice(colon + 1).trim()]);
    }
    rest = end < 0 ? "" : rest.slice(end + 4);
    head = status >= 200 ? null : /^HTTP\/[\d.]+ (\d{3})[^\r\n]*\r?\n/.exec(rest);
  }
  return { status, headers, text: rest, echo: echoOf(rest), exitCode };
}

function echoOf(text: string): Echo | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(text) as Partial<Echo>;
    return typeof value.protocol === "string" ? (value as Echo) : undefined;
  } catch {
    return undefined;
  }
}
