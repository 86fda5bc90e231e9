import { setTimeout as delay } from "node:timers/promises";
import type { KubeObject, NewObject } from "../apiserver/object-store.ts";
import { as, type ContainerStatus, type Pod } from "../kinds.ts";
import { referenceTo, type KubeClient } from "../kube-client.ts";
import { applyManifests, describeObject } from "./apply-manifests.ts";

export interface MeshStart {
  readonly client: KubeClient;
  readonly objects: readonly NewObject[];
  readonly say: (text: string) => void;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

const lookEveryMs = 100;
const controlPlaneName = "istiod";

/** Applies the objects and waits until every workload among them is ready, telling of each. */
export async function startMesh({ client, objects, say, timeoutMs, signal }: MeshStart): Promise<void> {
  await applyManifests(client, objects);
  let waiting = objects.filter(({ kind }) => kind === "Deployment" || kind === "DaemonSet" || kind === "StatefulSet");
  const untilMs = Date.now() + timeoutMs;
  while (waiting.length > 0) {
    const states = await Promise.all(
      waiting.map(async (object) => ({ object, now: await client.get(referenceTo(object)) })),
    );
    for (const { object, now } of states)
      if (now !== undefined && isRolledOut(now)) say(`${describeObject(object)} is ready`);
    waiting = states.filter(({ now }) => now === undefined || !isRolledOut(now)).map(({ object }) => object);
    if (waiting.length === 0) return;
    if (Date.now() > untilMs) throw new Error(await explainDelay(client, waiting, timeoutMs));
    await delay(lookEveryMs, undefined, { signal });
  }
}

function isRolledOut({ kind, metadata, status, spec }: KubeObject): boolean {
  const counts = (status ?? {}) as Record<string, number | undefined>;
  if (counts["observedGeneration"] !== metadata.generation) return false;
  if (kind === "DaemonSet") {
    const wanted = counts["desiredNumberScheduled"] ?? 0;
    return counts["numberAvailable"] === wanted && counts["updatedNumberScheduled"] === wanted;
  }
  const wanted = (spec as { replicas?: number }).replicas ?? 1;
  return (counts["availableReplicas"] ?? 0) >= wanted && (counts["updatedReplicas"] ?? 0) >= wanted;
}

/** Which pods hold up the start, why, and the end of their logs. */
async function explainDelay(client: KubeClient, waiting: readonly NewObject[], timeoutMs: number): Promise<string> {
  const lines = [`Not ready after ${timeoutMs / 1000} s: ${waiting.map(describeObject).join(", ")}`];
  const namespaces = new Set(waiting.map(({ metadata }) => metadata.namespace ?? "default"));
  for (const namespace of namespaces) {
    const pods = await client.list({ apiVersion: "v1", kind: "Pod", namespace });
    for (const pod of pods.map(as<Pod>)) {
      for (const status of pod.status?.containerStatuses ?? []) {
        if (!status.ready) lines.push(await explainContainer(client, pod, status));
      }
    }
  }
  return lines.join("\n");
}

async function explainContainer(client: KubeClient, { metadata }: Pod, status: ContainerStatus): Promise<string> {
  const { waiting, running, terminated } = status.state;
  const state = waiting?.reason ?? terminated?.reason ?? (running === undefined ? "unknown" : "running, not ready");
  const why = waiting?.message ?? terminated?.message ?? (await lastWarning(client, metadata));
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/log?container=${status.name}&tailLines=5`;
  const log = await client.request("GET", path).catch(() => "");
  const text = typeof log === "string" ? log : JSON.stringify(log);
  return `  ${metadata.namespace}/${metadata.name}: ${state} ${why}\n${text.replaceAll(/^/gmu, "    ")}`;
}

/** What a pod waits for, such as a config map that nobody has written, stands in its events. */
async function lastWarning(client: KubeClient, { namespace, name }: Pod["metadata"]): Promise<string> {
  const events = await client.list({
    apiVersion: "v1",
    kind: "Event",
    ...(namespace === undefined ? {} : { namespace }),
  });
  const own = events.filter(
    ({ type, involvedObject }) =>
      type === "Warning" && (involvedObject as { name?: string } | undefined)?.name === name,
  );
  const message = own.at(-1)?.["message"];
  return typeof message === "string" ? message : "";
}

/**
 * The mesh's objects for a control plane that runs elsewhere: its Deployment is left out, and its Service leads to
 * `address`, where the sandbox passes connections on.
 */
export function withOutsideControlPlane(objects: readonly NewObject[], addresses: readonly string[]): NewObject[] {
  return objects.flatMap((object): NewObject[] => {
    if (object.metadata.name !== controlPlaneName) return [object];
    if (object.kind === "Deployment") return [];
    if (object.kind !== "Service") return [object];
    const { selector: _, ...spec } = object["spec"] as { selector?: unknown; ports?: ServicePort[] };
    const { namespace } = object.metadata;
    const slices = addresses.map((address): NewObject => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${controlPlaneName}-outside-${address.includes(":") ? "v6" : "v4"}`,
        ...(namespace === undefined ? {} : { namespace }),
        labels: { "kubernetes.io/service-name": controlPlaneName },
      },
      addressType: address.includes(":") ? "IPv6" : "IPv4",
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
      ports: (spec.ports ?? []).map((port) => ({ name: port.name, port: behind(port), protocol: "TCP" })),
    }));
    return [{ ...object, spec }, ...slices];
  });
}

interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly targetPort?: number;
}

/** The port that the control plane itself listens on. */
const behind = ({ port, targetPort = port }: ServicePort): number => targetPort;

/** Ports of the control plane behind its Service. */
export function controlPlanePorts(objects: readonly NewObject[]): number[] {
  const service = objects.find(({ kind, metadata }) => kind === "Service" && metadata.name === controlPlaneName);
  const { ports = [] } = (service?.["spec"] ?? {}) as { ports?: ServicePort[] };
  return ports.map(behind);
}
