import { collectionPath, objectPath, type Collection } from "#controlplane/sources/kubernetes/collection.ts";
import { Backoff } from "#controlplane/sources/kubernetes/backoff.ts";
import { isPassing, isStatus, KubeError, type KubeClient } from "#controlplane/sources/kubernetes/kube-client.ts";
import { Reflector } from "#controlplane/sources/kubernetes/reflector.ts";
import type { SourceObject } from "#controlplane/sources/source.ts";
import { managedLabel } from "#controlplane/translate/annotations.ts";
import { waypointManagedValue } from "#controlplane/translate/gateway-classes.ts";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { overlay } from "./overlay.ts";
import type { AppliedObject, WantedWaypoint } from "./waypoint-objects.ts";

export interface WaypointControllerOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock: Clock;
  /** Of several control planes one writes. */
  readonly isLeader: () => boolean;
  /** Told whenever {@link WaypointController.problems} differs from before. */
  readonly onProblems: () => void;
}

/** A GatewayClass that shall exist. */
export interface WantedClass {
  readonly name: string;
  readonly controllerName: string;
}

/** As Istio's, so that either control plane can take over from the other. */
const fieldManager = "istio.io/gateway-controller";
const maxAttempts = 5;
const retryLongestMs = 30_000;
/** Between looks whether GatewayClass is installed. */
const kindLookMs = 5_000;

/** Not installed, or its definition is being deleted. */
const isMissingKind = (thrown: unknown): boolean =>
  isStatus(thrown, 404) || (isStatus(thrown, 403) && /definition is terminating/.test(explain(thrown)));

/** The kinds that are made for waypoints. */
const collections: Readonly<Record<string, Collection>> = {
  ServiceAccount: { group: "", versions: ["v1"], kind: "ServiceAccount", plural: "serviceaccounts" },
  Service: { group: "", versions: ["v1"], kind: "Service", plural: "services" },
  Deployment: { group: "apps", versions: ["v1"], kind: "Deployment", plural: "deployments" },
  HorizontalPodAutoscaler: {
    group: "autoscaling",
    versions: ["v2"],
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
  },
  PodDisruptionBudget: {
    group: "policy",
    versions: ["v1"],
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
  },
};
/** Those that always are, and so are watched. */
const watched = ["ServiceAccount", "Service", "Deployment"] as const;
const configMaps: Collection = { group: "", versions: ["v1"], kind: "ConfigMap", plural: "configmaps" };
const gateways = { group: "gateway.networking.k8s.io", plural: "gateways" };
const gatewayClasses: Collection = {
  group: "gateway.networking.k8s.io",
  versions: ["v1"],
  kind: "GatewayClass",
  plural: "gatewayclasses",
};

interface Task {
  readonly wanted: WantedWaypoint;
  attempts: number;
}

/**
 * Runs what Gateways of a waypoint class ask for: applies it, mends it where somebody changed or deleted it, and takes in
 * the changes that users make through a ConfigMap. Deleting is the garbage collector's work: everything is owned by the
 * Gateway. An object of the same name that is not marked as made for a Gateway is never touched.
 */
export class WaypointController {
  readonly #options: WaypointControllerOptions;
  #tasks = new Map<string, Task>();
  #classes: readonly WantedClass[] = [];
  readonly #queue = new Set<string>();
  /** What each object looked like when we had applied it, by kind and name. */
  readonly #applied = new Map<string, string>();
  /** Parameters of Gateways, by namespace and name; each ends with its controller. */
  readonly #parameters = new Map<string, Parameters>();
  readonly #problems = new Map<string, string>();
  #wake: (() => void) | undefined;
  #cancelLook: () => void = () => {};
  #signal: AbortSignal | undefined;

  constructor(options: WaypointControllerOptions) {
    this.#options = options;
  }

  /** Why a Gateway is not run as written, by `namespace/name`. */
  get problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  /** The whole of what shall run. What it does not name any more is the garbage collector's. */
  want(waypoints: readonly WantedWaypoint[], missingClasses: readonly WantedClass[]): void {
    const before = this.#tasks;
    this.#tasks = new Map();
    for (const wanted of waypoints) {
      const key = `${wanted.namespace}/${wanted.name}`;
      const task = before.get(key);
      const isSame = task !== undefined && JSON.stringify(task.wanted) === JSON.stringify(wanted);
      this.#tasks.set(key, isSame ? task : { wanted, attempts: 0 });
      if (!isSame) this.#enqueue(key);
    }
    for (const key of before.keys()) if (!this.#tasks.has(key)) this.#report(key, undefined);
    this.#classes = missingClasses;
    if (missingClasses.length > 0) this.#enqueue(classesTask);
    this.#watchParameters();
  }

  /** Looks at everything again: this control plane has become the leader. */
  lead(): void {
    for (const [key, task] of this.#tasks) {
      task.attempts = 0;
      this.#enqueue(key);
    }
    if (this.#classes.length > 0) this.#enqueue(classesTask);
  }

  /** Until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#watchParameters();
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    const selector = `${managedLabel}=${waypointManagedValue}`;
    const watching = watched.map((kind) => {
      const collection = { ...(collections[kind] as Collection), labelSelector: selector };
      return this.#reflector(collection, {
        seen: (object, isGone) => this.#seen(kind, object, isGone),
      }).run(signal);
    });
    await Promise.all([...watching, this.#work(signal)]);
    for (const { abort } of this.#parameters.values()) abort.abort();
    this.#cancelLook();
  }

  #reflector(collection: Collection, { seen, synced = () => {} }: Watcher): Reflector {
    const { client, log, clock } = this.#options;
    return new Reflector({
      client,
      log,
      clock,
      collection,
      installed: (until) => sleep(clock, 30_000, until),
      listener: {
        upsert: (object) => seen(object, false),
        remove: (object) => seen(object, true),
        synced,
        trouble: (why) => {
          if (why !== undefined) log.warn({ plural: collection.plural, error: why }, "collection cannot be read");
        },
      },
    });
  }

  #seen(kind: string, object: SourceObject, isGone: boolean): void {
    const { namespace = "", name } = object.metadata;
    const key = appliedKey(kind, namespace, name);
    const applied = this.#applied.get(key);
    if (isGone) this.#applied.delete(key);
    // Unknown to us: not applied yet, and what has to be is in the queue already.
    if (applied === undefined || (!isGone && applied === fingerprint(object))) return;
    for (const [taskKey, { wanted }] of this.#tasks) {
      if (
        wanted.namespace === namespace &&
        wanted.objects.some((each) => each.kind === kind && each.metadata.name === name)
      )
        this.#enqueue(taskKey);
    }
  }

  /** One watch for each ConfigMap that a Gateway names. */
  #watchParameters(): void {
    const signal = this.#signal;
    if (signal === undefined || signal.aborted) return;
    const named = new Set<string>();
    for (const { wanted } of this.#tasks.values()) {
      if (wanted.parameters !== undefined) named.add(`${wanted.namespace}/${wanted.parameters}`);
    }
    for (const [place, { abort }] of this.#parameters) {
      if (named.has(place)) continue;
      abort.abort();
      this.#parameters.delete(place);
    }
    for (const place of named) {
      if (this.#parameters.has(place)) continue;
      const [namespace = "", name = ""] = place.split("/");
      const abort = new AbortController();
      const entry: Parameters = { abort, data: "unread" };
      this.#parameters.set(place, entry);
      const tell = (data: ParameterData): void => {
        entry.data = data;
        for (const [key, { wanted }] of this.#tasks) {
          if (`${wanted.namespace}/${wanted.parameters}` === place) this.#enqueue(key);
        }
      };
      const collection = { ...configMaps, namespace, fieldSelector: `metadata.name=${name}` };
      const reflector = this.#reflector(collection, {
        seen: (object, isGone) =>
          tell(isGone ? "missing" : ((object["data"] ?? {}) as Readonly<Record<string, string>>)),
        synced: () => {
          if (entry.data === "unread") tell("missing");
        },
      });
      void reflector.run(AbortSignal.any([signal, abort.signal]));
    }
  }

  #enqueue(key: string): void {
    this.#queue.add(key);
    this.#wake?.();
  }

  async #work(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [key] = this.#queue;
      if (key === undefined || !this.#options.isLeader()) {
        // Who becomes the leader is told to look again.
        this.#queue.clear();
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
        continue;
      }
      this.#queue.delete(key);
      if (key === classesTask) await this.#makeClasses(signal);
      else await this.#reconcile(key, signal);
    }
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<void> {
    const task = this.#tasks.get(key);
    if (task === undefined) return;
    const { wanted } = task;
    const changed = this.#changed(wanted);
    // Told again when the ConfigMap has been read.
    if (changed === undefined) return;
    const { objects, problem } = changed;
    const problems = problem === undefined ? [] : [problem];
    try {
      if (!(await this.#isThere(wanted, signal))) return;
      for (const object of objects) {
        if (!(await this.#apply(object, signal))) {
          const { name } = object.metadata;
          problems.push(
            `${object.kind} "${name}" exists and was not made for a Gateway: rename one of them, or write the annotation gateway.istio.io/name-override`,
          );
        }
      }
      task.attempts = 0;
    } catch (thrown) {
      if (signal.aborted) return;
      this.#retry(key, task, thrown, signal);
      if (task.attempts >= maxAttempts) problems.push(explain(thrown));
    }
    this.#report(key, problems.length === 0 ? undefined : problems.join("; "));
  }

  /** What shall be applied, the user's changes in it; undefined while these are unknown. */
  #changed(
    wanted: WantedWaypoint,
  ): { readonly objects: readonly AppliedObject[]; readonly problem?: string } | undefined {
    const { parameters, namespace, objects } = wanted;
    if (parameters === undefined) return { objects };
    const data = this.#parameters.get(`${namespace}/${parameters}`)?.data ?? "unread";
    if (data === "unread") return undefined;
    if (data === "missing") {
      return { objects, problem: `spec.infrastructure.parametersRef: there is no ConfigMap "${parameters}"` };
    }
    const overlaid = overlay(objects, data);
    if (overlaid.problems.length === 0) return { objects: overlaid.objects };
    return {
      objects,
      problem: `spec.infrastructure.parametersRef: ConfigMap "${parameters}": ${overlaid.problems.join("; ")}`,
    };
  }

  /**
   * Whether the Gateway exists now. When one is deleted, the garbage collector takes its objects before we are told, and
   * they must not be mended then.
   */
  async #isThere({ namespace, name, uid }: WantedWaypoint, signal: AbortSignal): Promise<boolean> {
    const path = objectPath({ ...gateways, version: "v1" }, { namespace, name });
    try {
      const { metadata } = await this.#options.client.request<SourceObject>(path, { signal });
      return metadata.uid === uid && metadata["deletionTimestamp"] === undefined;
    } catch (thrown) {
      if (isStatus(thrown, 404)) return false;
      throw thrown;
    }
  }

  /** False where somebody else's object has that name. */
  async #apply(object: AppliedObject, signal: AbortSignal): Promise<boolean> {
    const { client, log } = this.#options;
    const { namespace, name } = object.metadata;
    const collection = collections[object.kind] as Collection;
    const path = objectPath({ ...collection, version: collection.versions[0] as string }, { namespace, name });
    const existing = await client.request<SourceObject>(path, { signal }).catch((thrown: unknown) => {
      if (isStatus(thrown, 404)) return undefined;
      throw thrown;
    });
    if (existing !== undefined && existing.metadata.labels?.[managedLabel] === undefined) return false;
    const result = await client.request<SourceObject>(path, {
      method: "PATCH",
      contentType: "application/apply-patch+yaml",
      query: { fieldManager, force: true },
      body: object,
      signal,
    });
    this.#applied.set(appliedKey(object.kind, namespace, name), fingerprint(result));
    if (existing === undefined) log.info({ kind: object.kind, namespace, name }, "made for a waypoint");
    else log.debug({ kind: object.kind, namespace, name }, "applied for a waypoint");
    return true;
  }

  async #makeClasses(signal: AbortSignal): Promise<void> {
    const { client, log, clock } = this.#options;
    let isMissing = false;
    for (const { name, controllerName } of this.#classes) {
      const body = {
        apiVersion: "gateway.networking.k8s.io/v1",
        kind: "GatewayClass",
        metadata: { name },
        spec: { controllerName, description: "The default Istio GatewayClass" },
      };
      try {
        await client.request(collectionPath(gatewayClasses, "v1"), { method: "POST", body, signal });
        log.info({ name }, "GatewayClass made");
      } catch (thrown) {
        if (signal.aborted) return;
        // There already: the watch will tell.
        if (isStatus(thrown, 409)) continue;
        if (isMissingKind(thrown)) isMissing = true;
        else log.warn({ name, error: explain(thrown) }, "GatewayClass cannot be made");
      }
    }
    // A kind that is installed later has no objects that would tell of it.
    this.#cancelLook();
    this.#cancelLook = isMissing ? clock.schedule(kindLookMs, () => this.#enqueue(classesTask)) : () => {};
  }

  #retry(key: string, task: Task, thrown: unknown, signal: AbortSignal): void {
    task.attempts++;
    const { log, clock } = this.#options;
    const facts = { gateway: key, attempt: task.attempts, error: explain(thrown) };
    const isFinal = thrown instanceof KubeError && [400, 405, 422].includes(thrown.status);
    if (!isPassing(thrown) && (isFinal || task.attempts >= maxAttempts)) {
      task.attempts = maxAttempts;
      log.warn(facts, "waypoint cannot be run: given up until its Gateway changes");
      return;
    }
    if (task.attempts === maxAttempts) log.warn(facts, "waypoint cannot be run: trying again, slowly");
    log.debug(facts, "waypoint cannot be run: trying again");
    clock.schedule(new Backoff(200 * 2 ** Math.min(task.attempts, 10), retryLongestMs).nextMs(), () => {
      if (!signal.aborted && this.#tasks.get(key) === task) this.#enqueue(key);
    });
  }

  #report(key: string, problem: string | undefined): void {
    if (this.#problems.get(key) === problem) return;
    if (problem === undefined) this.#problems.delete(key);
    else {
      this.#problems.set(key, problem);
      this.#options.log.warn({ gateway: key, problem }, "waypoint is not run as written");
    }
    this.#options.onProblems();
  }
}

type ParameterData = Readonly<Record<string, string>> | "unread" | "missing";

interface Parameters {
  readonly abort: AbortController;
  data: ParameterData;
}

interface Watcher {
  readonly seen: (object: SourceObject, isGone: boolean) => void;
  /** The whole collection has been told once. */
  readonly synced?: () => void;
}

/** Place in the queue of the classes; a Gateway's has a slash. */
const classesTask = "classes";

const appliedKey = (kind: string, namespace: string, name: string): string => `${kind} ${namespace}/${name}`;

/** What somebody could change about an object: everything but what the server and controllers write. */
function fingerprint(object: SourceObject): string {
  const { labels, annotations, ownerReferences } = object.metadata;
  const kept = Object.fromEntries(
    Object.entries(annotations ?? {}).filter(([name]) => name !== "deployment.kubernetes.io/revision"),
  );
  const { metadata: _metadata, ["status"]: _status, ["secrets"]: _secrets, ...rest } = object;
  // A scale is the user's: replicas are not ours to mend.
  const spec = rest["spec"] as Readonly<Record<string, unknown>> | undefined;
  const { ["replicas"]: _replicas, ...others } = spec ?? {};
  return JSON.stringify({ ...rest, spec: others, labels, annotations: kept, ownerReferences });
}
