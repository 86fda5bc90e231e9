/**
 * A cluster as scenarios and the demo use it: through its API, by a kubeconfig, as kubectl would. Nothing here knows
 * whether the cluster is our sandbox.
 */
import { readFileSync } from "node:fs";
import { PassThrough, Writable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import {
  CoreV1Api,
  Exec,
  KubernetesObjectApi,
  PatchStrategy,
  type KubernetesObject,
  type V1Pod,
  type V1Status,
} from "@kubernetes/client-node";
import { parseAllDocuments } from "yaml";
import { KeptKubeConfig } from "#ztunnel/agent/kept-connections.ts";

/** An object as YAML gives it. */
export type Manifest = KubernetesObject & { metadata: { name: string; namespace?: string }; [field: string]: unknown };

export interface PodName {
  readonly namespace: string;
  readonly name: string;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** A command that goes on running in a pod. */
export interface RunningCommand {
  /** Resolves with the first line of output that `wanted` accepts; rejects when the command ends without one. */
  line(wanted: (line: string) => boolean): Promise<string>;
  readonly done: Promise<CommandResult>;
}

const fieldManager = "ambit-e2e";
const pollMs = 100;

export class Cluster {
  readonly kubeconfigPath: string;
  readonly #config = new KeptKubeConfig();
  readonly #objects: KubernetesObjectApi;
  readonly #core: CoreV1Api;

  constructor(kubeconfigPath: string) {
    this.kubeconfigPath = kubeconfigPath;
    this.#config.loadFromFile(kubeconfigPath);
    this.#objects = KubernetesObjectApi.makeApiClient(this.#config);
    this.#core = this.#config.makeApiClient(CoreV1Api);
  }

  /** Server-side applies every document of a YAML text. */
  async apply(yaml: string): Promise<void> {
    for (const document of parseAllDocuments(yaml)) {
      const object = document.toJS() as Manifest | null;
      if (object === null) continue;
      await this.#objects.patch(object, undefined, undefined, fieldManager, true, PatchStrategy.ServerSideApply);
    }
  }

  async applyFile(path: string): Promise<void> {
    await this.apply(readFileSync(path, "utf8"));
  }

  async get<T extends KubernetesObject>(
    apiVersion: string,
    kind: string,
    name: string,
    namespace?: string,
  ): Promise<T> {
    const metadata = namespace === undefined ? { name } : { name, namespace };
    return (await this.#objects.read({ apiVersion, kind, metadata })) as unknown as T;
  }

  /** Absent already is fine. */
  async delete(apiVersion: string, kind: string, name: string, namespace?: string): Promise<void> {
    const metadata = namespace === undefined ? { name } : { name, namespace };
    await this.#objects.delete({ apiVersion, kind, metadata }).catch((error: unknown) => {
      if ((error as { code?: number }).code !== 404) throw error;
    });
  }

  /** Merges into an object; null removes a field. */
  async merge(object: Manifest): Promise<void> {
    await this.#objects.patch(object, undefined, undefined, fieldManager, undefined, PatchStrategy.MergePatch);
  }

  async labelNamespace(name: string, labels: Readonly<Record<string, string | null>>): Promise<void> {
    await this.merge({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } } as unknown as Manifest);
  }

  async pods(namespace: string, labelSelector?: string): Promise<V1Pod[]> {
    const list = await this.#core.listNamespacedPod({
      namespace,
      ...(labelSelector === undefined ? {} : { labelSelector }),
    });
    return list.items;
  }

  /** The pod of that `app` label which is running and not going away. */
  async pod(namespace: string, app: string): Promise<V1Pod> {
    const running = (await this.pods(namespace, `app=${app}`)).filter(
      (pod) => pod.status?.phase === "Running" && pod.metadata?.deletionTimestamp === undefined,
    );
    const found = running[0];
    if (found === undefined) throw new Error(`No running pod with app=${app} in namespace ${namespace}`);
    return found;
  }

  async logs(
    pod: PodName,
    options: { readonly container?: string; readonly previous?: boolean } = {},
  ): Promise<string> {
    return this.#core.readNamespacedPodLog({ ...pod, ...options });
  }

  /** Runs a command in a pod to its end. */
  async exec(pod: PodName, command: readonly string[]): Promise<CommandResult> {
    return (await this.start(pod, command)).done;
  }

  /** Starts a command in a pod. */
  async start(pod: PodName, command: readonly string[]): Promise<RunningCommand> {
    const stderr = collect();
    const lines = new Lines();
    let settle: (result: CommandResult) => void;
    let fail: (error: Error) => void;
    const done = new Promise<CommandResult>((resolve, reject) => {
      settle = resolve;
      fail = reject;
    });
    done.catch(() => undefined);
    const socket = await new Exec(this.#config).exec(
      pod.namespace,
      pod.name,
      "",
      [...command],
      lines,
      stderr.stream,
      new PassThrough(),
      false,
      (status: V1Status) => {
        lines.finish();
        settle({ stdout: lines.text, stderr: stderr.text(), exitCode: exitCodeOf(status) });
      },
    );
    socket.addEventListener("close", () => {
      lines.finish();
      fail(new Error(`The connection that ran ${command.join(" ")} in ${pod.name} closed early`));
    });
    return { line: (wanted) => lines.next(wanted), done };
  }

  /** Waits until `ready` answers something; the error says what was waited for and what was last wrong. */
  async until<T>(what: string, ready: () => Promise<T | undefined | false>, timeoutMs = 30_000): Promise<T> {
    return until(what, ready, timeoutMs);
  }

  /** Waits until `count` pods of the namespace are ready. */
  async podsReady(namespace: string, count: number, timeoutMs = 30_000): Promise<V1Pod[]> {
    return until(
      `${count} ready pods in namespace ${namespace}`,
      async () => {
        const ready = (await this.pods(namespace)).filter(isReady);
        return ready.length >= count ? ready : undefined;
      },
      timeoutMs,
    );
  }

  /** Waits until each pod of the namespace is captured (or is not), as its annotation says; waypoints never are. */
  async captured(namespace: string, wanted: boolean, timeoutMs = 20_000): Promise<void> {
    await until(
      `pods of ${namespace} to be ${wanted ? "" : "not "}captured`,
      async () => (await this.pods(namespace)).every((pod) => isCaptured(pod) === (wanted && !staysOut(pod))),
      timeoutMs,
    );
  }
}

export const nameOf = (pod: V1Pod): PodName => ({
  namespace: pod.metadata?.namespace ?? "",
  name: pod.metadata?.name ?? "",
});

export const isReady = (pod: V1Pod): boolean =>
  pod.metadata?.deletionTimestamp === undefined &&
  (pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false);

export const isCaptured = (pod: V1Pod): boolean =>
  pod.metadata?.annotations?.["ambient.istio.io/redirection"] === "enabled";

const staysOut = (pod: V1Pod): boolean => pod.metadata?.labels?.["istio.io/dataplane-mode"] === "none";

/** Polls, since what is waited for is often not an object: a log line, a metric, an answer. */
export async function until<T>(
  what: string,
  ready: () => Promise<T | undefined | false>,
  timeoutMs = 30_000,
): Promise<T> {
  const endsMs = performance.now() + timeoutMs;
  let last = "";
  for (;;) {
    try {
      const answer = await ready();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (performance.now() > endsMs) {
      throw new Error(`Waited ${timeoutMs} ms for ${what}${last === "" ? "" : `; last error: ${last}`}`);
    }
    await pause(pollMs);
  }
}

function exitCodeOf(status: V1Status): number {
  if (status.status === "Success") return 0;
  const cause = status.details?.causes?.find(({ reason }) => reason === "ExitCode");
  return cause?.message === undefined ? 255 : Number(cause.message);
}

function collect(): { stream: Writable; text: () => string } {
  let text = "";
  const stream = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      text += chunk.toString("utf8");
      done();
    },
  });
  return { stream, text: () => text };
}

/** Collects output and hands out its lines as they come. */
class Lines extends Writable {
  text = "";
  #waiting: { wanted: (line: string) => boolean; resolve: (line: string) => void; reject: (error: Error) => void }[] =
    [];
  #ended = false;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString("utf8");
    this.#offer();
    done();
  }

  next(wanted: (line: string) => boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ wanted, resolve, reject });
      this.#offer();
      if (this.#ended) this.finish();
    });
  }

  finish(): void {
    this.#ended = true;
    this.#offer();
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(`The command ended; it said: ${this.text}`));
  }

  #offer(): void {
    const lines = this.text.split("\n").slice(0, this.#ended ? undefined : -1);
    this.#waiting = this.#waiting.filter(({ wanted, resolve }) => {
      const found = lines.find(wanted);
      if (found !== undefined) resolve(found);
      return found === undefined;
    });
  }
}
