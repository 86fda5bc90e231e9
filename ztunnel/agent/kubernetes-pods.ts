/** The only file of the node agent that knows the Kubernetes client: watches in, status patches out. */
import {
  AppsV1Api,
  CoreV1Api,
  ListWatch,
  PatchStrategy,
  setHeaderOptions,
  Watch,
  type KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  type V1Namespace,
  type V1Pod,
} from "@kubernetes/client-node";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { tryIp } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { capturedCondition, redirectionAnnotation, type Labels, type PodFacts } from "./pod-facts.ts";
import { KeptKubeConfig } from "./kept-connections.ts";
import type { PodStatusWriter } from "./reconciler.ts";

/** What the watches tell; the lists that they start from come as single changes too. */
export interface ClusterEvents {
  podChanged(pod: PodFacts): void;
  podGone(uid: string): void;
  namespaceChanged(name: string, labels: Labels | undefined): void;
}

/** In the cluster by service account, else by KUBECONFIG or ~/.kube/config. */
export function openKubeConfig(): KubeConfig {
  const config = new KeptKubeConfig();
  config.loadFromDefault();
  return config;
}

/** Undefined where the pod cannot be captured yet, having no uid. */
export function podFactsOf(pod: V1Pod): PodFacts | undefined {
  const { metadata, spec, status } = pod;
  if (metadata?.uid === undefined || metadata.name === undefined) return undefined;
  const texts = new Set([...(status?.podIPs ?? []).map(({ ip }) => ip), ...(status?.podIP ? [status.podIP] : [])]);
  const condition = status?.conditions?.find(({ type }) => type === capturedCondition);
  return {
    uid: metadata.uid,
    name: metadata.name,
    namespace: metadata.namespace ?? "",
    serviceAccount: spec?.serviceAccountName ?? "default",
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    ips: [...texts].flatMap((text) => tryIp(text) ?? []),
    hostNetwork: spec?.hostNetwork === true,
    phase: status?.phase ?? "Unknown",
    isTerminating: metadata.deletionTimestamp !== undefined,
    ...(condition === undefined
      ? {}
      : {
          captured: {
            status: condition.status,
            reason: condition.reason ?? "",
            message: condition.message ?? "",
          },
        }),
  };
}

export interface ClusterWatch {
  /** Resolves when both lists have been read once. */
  readonly synced: Promise<void>;
  stop(): Promise<void>;
}

/** Follows the pods of one node and all namespaces, for ever. */
export function watchCluster(
  config: KubeConfig,
  nodeName: string,
  events: ClusterEvents,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): ClusterWatch {
  const core = config.makeApiClient(CoreV1Api);
  const fieldSelector = `spec.nodeName=${nodeName}`;
  const namespaces = follow<V1Namespace>({
    config,
    path: "/api/v1/namespaces",
    list: () => core.listNamespace(),
    changed: ({ metadata }) => events.namespaceChanged(metadata?.name ?? "", metadata?.labels ?? {}),
    gone: ({ metadata }) => events.namespaceChanged(metadata?.name ?? "", undefined),
    clock,
    log,
  });
  /** A pod deleted and made again under its name may come as one change. */
  const uids = new Map<string, string>();
  const keyOf = ({ metadata }: V1Pod) => `${metadata?.namespace}/${metadata?.name}`;
  const pods = follow<V1Pod>({
    config,
    path: "/api/v1/pods",
    fieldSelector,
    list: () => core.listPodForAllNamespaces({ fieldSelector }),
    changed: (pod) => {
      const facts = podFactsOf(pod);
      const former = uids.get(keyOf(pod));
      if (former !== undefined && former !== facts?.uid) events.podGone(former);
      if (facts === undefined) return;
      uids.set(keyOf(pod), facts.uid);
      events.podChanged(facts);
    },
    gone: (pod) => {
      const uid = uids.get(keyOf(pod));
      uids.delete(keyOf(pod));
      if (uid !== undefined) events.podGone(uid);
    },
    clock,
    log,
  });
  const synced = Promise.all([namespaces.synced, pods.synced]).then(() => undefined);
  return {
    synced,
    stop: async () => {
      await Promise.all([namespaces.stop(), pods.stop()]);
    },
  };
}

interface Follow<T extends KubernetesObject> {
  readonly config: KubeConfig;
  readonly path: string;
  readonly fieldSelector?: string;
  readonly list: () => Promise<KubernetesListObject<T>>;
  readonly changed: (object: T) => void;
  readonly gone: (object: T) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** An API server that is away is asked again after 100 ms, then twice as long each time up to 5 s. */
const watchDelay = { firstMs: 100, longestMs: 5_000 };

function follow<T extends KubernetesObject>(options: Follow<T>): ClusterWatch {
  const { config, path, fieldSelector, list, clock, log } = options;
  const stopped = new AbortController();
  const firstList = Promise.withResolvers<void>();
  let failures = 0;
  const listAndNote = async () => {
    const answer = await list();
    failures = 0;
    // The client hands the items out right after this returns.
    setImmediate(() => firstList.resolve());
    return answer;
  };
  const informer = new ListWatch<T>(path, new Watch(config), listAndNote, false, undefined, fieldSelector);
  informer.on("add", options.changed);
  informer.on("update", options.changed);
  informer.on("delete", options.gone);
  const start = async (): Promise<void> => {
    try {
      await informer.start();
    } catch (error) {
      await startAgain(error);
    }
  };
  const startAgain = async (why: unknown): Promise<void> => {
    const delayMs = Math.min(watchDelay.firstMs * 2 ** failures, watchDelay.longestMs);
    failures += 1;
    log.warn({ path, why: explain(why), delayMs }, "watch ended and will be started again");
    try {
      await sleep(clock, delayMs, stopped.signal);
    } catch {
      return;
    }
    await start();
  };
  informer.on("error", (error: unknown) => void startAgain(error));
  void start();
  return {
    synced: firstList.promise,
    stop: async () => {
      stopped.abort(new Error("stopped"));
      await informer.stop();
    },
  };
}

/** Needs the right to patch `pods/status` and nothing else. */
export function openStatusWriter(config: KubeConfig, clock: Clock): PodStatusWriter {
  const core = config.makeApiClient(CoreV1Api);
  const patch = async (pod: PodFacts, body: object, strategy: string): Promise<void> => {
    const options = setHeaderOptions("Content-Type", strategy);
    try {
      await core.patchNamespacedPodStatus({ name: pod.name, namespace: pod.namespace, body }, options);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  };
  // A patch that carries the uid does not touch a pod that has taken the name since.
  const identity = ({ uid }: PodFacts) => ({ uid });
  return {
    setRedirection: (pod, value) =>
      patch(
        pod,
        { metadata: { ...identity(pod), annotations: { [redirectionAnnotation]: value ?? null } } },
        PatchStrategy.MergePatch,
      ),
    setCaptured: (pod, { status, reason, message }) =>
      patch(
        pod,
        {
          metadata: identity(pod),
          status: {
            conditions: [
              {
                type: capturedCondition,
                status,
                reason,
                message,
                // Merged by type: left out, the time of the last change of status stays.
                ...(pod.captured?.status === status ? {} : { lastTransitionTime: new Date(clock.now()).toISOString() }),
              },
            ],
          },
        },
        PatchStrategy.StrategicMergePatch,
      ),
  };
}

/** 404: deleted; 409: its name belongs to another pod by now. */
function isGone(error: unknown): boolean {
  const code = (error as { readonly code?: unknown }).code;
  return code === 404 || code === 409;
}

/**
 * Whether our DaemonSet is being removed, rather than this pod replaced. Where the API server does not answer, the
 * rules stay: an upgrade is likelier than an uninstallation that nobody can see.
 */
export async function isUninstalled(config: KubeConfig, namespace: string, name: string): Promise<boolean> {
  try {
    const { metadata } = await config.makeApiClient(AppsV1Api).readNamespacedDaemonSet({ name, namespace });
    return metadata?.deletionTimestamp !== undefined;
  } catch (error) {
    return (error as { readonly code?: unknown }).code === 404;
  }
}
