import { coreKinds } from "#controlplane/schema/core-kinds.ts";
import { configKinds } from "#controlplane/schema/kinds.ts";
import type { MeshConfigPlace } from "#controlplane/mesh/mesh-config.ts";
import { systemClock, sleep, type Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { Admission } from "../admission.ts";
import { refOf, type ConfigSource, type SourceListener, type SourceObject } from "../source.ts";
import { crdName, type Collection } from "./collection.ts";
import type { KubeClient } from "./kube-client.ts";
import { NamedConfigMaps } from "./named-config-maps.ts";
import { Reflector, type ReflectorListener } from "./reflector.ts";

export interface KubernetesSourceOptions {
  readonly client: KubeClient;
  /** The ConfigMap with the mesh configuration. */
  readonly meshConfig: MeshConfigPlace;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** What the mesh reads, as collections of the API server. */
function collections(place: MeshConfigPlace): readonly Collection[] {
  const core = coreKinds
    .filter(({ kind }) => kind !== "ConfigMap")
    .map(({ group, version, kind, plural }) => ({
      group,
      versions: [version],
      kind,
      plural,
      // Certificates for TLS may have any type but that of tokens, which are none of our business.
      ...(kind === "Secret" ? { fieldSelector: "type!=kubernetes.io/service-account-token" } : {}),
    }));
  return [...core, oneConfigMap(place), ...configKinds];
}

const oneConfigMap = ({ namespace, name }: MeshConfigPlace): Collection => ({
  group: "",
  versions: ["v1"],
  kind: "ConfigMap",
  plural: "configmaps",
  namespace,
  fieldSelector: `metadata.name=${name}`,
});

const crds: Collection = {
  group: "apiextensions.k8s.io",
  versions: ["v1"],
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
};

/** A look at kinds that are not there, where definitions cannot be watched. */
const reinstallLookMs = 60_000;
/** One of several API servers may know a definition before the one does that is asked next. */
const freshLookMs = 1_000;
const freshForMs = 30_000;

/** Wakes those who wait for a kind to be installed. */
class Installations {
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #changedMs = new Map<string, number>();

  changed(name: string, nowMs: number): void {
    this.#changedMs.set(name, nowMs);
    for (const wake of this.#waiting.get(name) ?? []) wake();
    this.#waiting.delete(name);
  }

  removed(name: string): void {
    this.#changedMs.delete(name);
  }

  async wait(name: string, clock: Clock, signal: AbortSignal): Promise<void> {
    const waiting = this.#waiting.get(name) ?? new Set();
    this.#waiting.set(name, waiting);
    const done = new AbortController();
    const wake = (): void => done.abort();
    waiting.add(wake);
    try {
      const isFresh = clock.now() - (this.#changedMs.get(name) ?? -Infinity) < freshForMs;
      const lookMs = isFresh ? freshLookMs : reinstallLookMs;
      await sleep(clock, lookMs, AbortSignal.any([signal, done.signal])).catch(() => undefined);
    } finally {
      waiting.delete(wake);
    }
  }
}

/**
 * Objects of a Kubernetes API server. Each kind is listed and watched by itself, so that trouble with one does not hold
 * up the others; the source is synced when every kind has been told once. Kinds that are not installed count as empty
 * and are taken up when they appear. A kind that may not be listed holds up `synced`: serving without the policies that
 * exist would open what they close.
 */
export class KubernetesSource implements ConfigSource {
  readonly name = "kubernetes";
  readonly #options: KubernetesSourceOptions;

  constructor(options: KubernetesSourceOptions) {
    this.#options = options;
  }

  async run(listener: SourceListener, signal: AbortSignal): Promise<void> {
    const { client, log, clock = systemClock, meshConfig } = this.#options;
    const admission = new Admission((event) => {
      named.take(event);
      listener(event);
    }, log);
    const installations = new Installations();
    const all = collections(meshConfig);
    const waiting = new Set<Collection>(all);
    let isSynced = false;
    const reflect = (collection: Collection, to: ReflectorListener, until = signal): Promise<void> =>
      new Reflector({
        client,
        collection,
        listener: to,
        clock,
        log,
        installed: (ended) => installations.wait(crdName(collection), clock, ended),
      }).run(until);
    const definitions = reflect(crds, {
      upsert: (object) => installations.changed(object.metadata.name, clock.now()),
      remove: (object) => installations.removed(object.metadata.name),
      synced: () => undefined,
      trouble: (why) => admission.trouble(place(crds), why === undefined ? [] : [why]),
    });
    const observe = async (collection: Collection, until = signal): Promise<void> => {
      const lastSeen = new Map<string, string>();
      let trouble: string | undefined;
      const tell = (why: string | undefined): void => {
        trouble = why;
        admission.trouble(place(collection), why === undefined ? [] : [why]);
      };
      const listening: ReflectorListener = {
        upsert: (object) => {
          if (!until.aborted && isNews(object, lastSeen)) admission.offer(object);
        },
        remove: (object) => {
          lastSeen.delete(keyOf(object));
          if (!until.aborted) admission.remove(refOf(object));
        },
        synced: () => {
          waiting.delete(collection);
          if (waiting.size > 0 || isSynced) return;
          isSynced = true;
          listener({ type: "synced" });
        },
        trouble: tell,
      };
      await reflect(collection, listening, until);
      if (signal.aborted) return;
      // Nobody asks for it any more, so nobody waits for it either.
      listening.synced();
      if (trouble !== undefined) tell(undefined);
    };
    // The mesh configuration is watched anyway.
    const isOther = (namespace: string, name: string): boolean =>
      namespace !== meshConfig.namespace || name !== meshConfig.name;
    const named = new NamedConfigMaps(
      {
        watch: async (namespace, name, until) => {
          if (!isOther(namespace, name)) return;
          const collection = oneConfigMap({ namespace, name });
          if (!isSynced) waiting.add(collection);
          await observe(collection, until);
        },
        forget: (namespace, name) => {
          if (isOther(namespace, name)) admission.remove({ group: "", kind: "ConfigMap", namespace, name });
        },
      },
      signal,
    );
    await Promise.all([definitions, ...all.map((collection) => observe(collection))]);
    await named.closed();
  }
}

const place = ({ group, plural, namespace, fieldSelector }: Collection): string => {
  if (namespace !== undefined) return `${plural} ${namespace} ${fieldSelector ?? ""}`;
  return group === "" ? plural : `${plural}.${group}`;
};

const keyOf = ({ metadata }: SourceObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;

/**
 * Nodes report their health every few seconds, and leases of other programs live in annotations: of nodes and namespaces
 * only labels and annotations matter here.
 */
function isNews(object: SourceObject, lastSeen: Map<string, string>): boolean {
  if (object.kind !== "Node" && object.kind !== "Namespace") return true;
  const { labels, annotations, uid, deletionTimestamp } = object.metadata;
  const digest = JSON.stringify([labels, annotations, uid, deletionTimestamp]);
  if (lastSeen.get(keyOf(object)) === digest) return false;
  lastSeen.set(keyOf(object), digest);
  return true;
}
