import { sleep, systemClock, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { SourceObject } from "../source.ts";
import { Backoff } from "./backoff.ts";
import { collectionPath, objectPath, type Collection } from "./collection.ts";
import { isStatus, type KubeClient } from "./kube-client.ts";
import { Reflector } from "./reflector.ts";

export interface ConfigMapWriterOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Name of the ConfigMap. */
  readonly name: string;
  readonly key: string;
  /** What stands under the key now. */
  readonly text: () => string;
}

/** These hold nothing that could mount it, as in Istio. */
const skippedNamespaces = new Set(["kube-public", "kube-node-lease", "local-path-storage"]);

const label = "istio.io/config";

const namespaces: Collection = { group: "", versions: ["v1"], kind: "Namespace", plural: "namespaces" };
const configMaps: Collection = { group: "", versions: ["v1"], kind: "ConfigMap", plural: "configmaps" };

/**
 * Keeps a ConfigMap in every namespace, for pods to mount: the roots by which they trust the control plane, and the list
 * of what the CA has revoked. Made where it is missing, mended where somebody changed it, renewed when its text is.
 */
export class ConfigMapWriter {
  readonly #options: ConfigMapWriterOptions;
  readonly #clock: Clock;
  readonly #namespaces = new Set<string>();
  readonly #present = new Map<string, SourceObject>();
  readonly #queue = new Set<string>();
  #wake: (() => void) | undefined;
  #synced = 0;

  constructor(options: ConfigMapWriterOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** To be called when the text has changed. */
  changed(): void {
    for (const namespace of this.#namespaces) this.#check(namespace);
  }

  /** Until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, log, name } = this.#options;
    const shared = {
      client,
      log,
      clock: this.#clock,
      installed: (until: AbortSignal) => sleep(this.#clock, 30_000, until),
    };
    const synced = (): void => {
      if (++this.#synced === 2) this.changed();
    };
    const ofNamespaces = new Reflector({
      ...shared,
      collection: namespaces,
      listener: {
        upsert: ({ metadata, status }) => {
          // Nothing can be made in a namespace that is going.
          const isGoing = (status as { phase?: unknown } | undefined)?.phase === "Terminating";
          if (isGoing || skippedNamespaces.has(metadata.name)) return void this.#namespaces.delete(metadata.name);
          this.#namespaces.add(metadata.name);
          this.#check(metadata.name);
        },
        remove: ({ metadata }) => void this.#namespaces.delete(metadata.name),
        synced,
        trouble: (why) => logTrouble(log, "namespaces", why),
      },
    });
    const ofConfigMaps = new Reflector({
      ...shared,
      collection: { ...configMaps, fieldSelector: `metadata.name=${name}` },
      listener: {
        upsert: (object) => {
          this.#present.set(object.metadata.namespace ?? "", object);
          this.#check(object.metadata.namespace ?? "");
        },
        remove: ({ metadata }) => {
          this.#present.delete(metadata.namespace ?? "");
          this.#check(metadata.namespace ?? "");
        },
        synced,
        trouble: (why) => logTrouble(log, "configmaps", why),
      },
    });
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    await Promise.all([ofNamespaces.run(signal), ofConfigMaps.run(signal), this.#work(signal)]);
  }

  #check(namespace: string): void {
    // Before both are listed, every ConfigMap would seem to be missing.
    if (this.#synced < 2 || !this.#namespaces.has(namespace) || this.#isRight(namespace)) return;
    this.#queue.add(namespace);
    this.#wake?.();
  }

  #isRight(namespace: string): boolean {
    const present = this.#present.get(namespace);
    const data = present?.["data"] as Readonly<Record<string, unknown>> | undefined;
    const { key, text } = this.#options;
    return data?.[key] === text() && present?.metadata.labels?.[label] === "true";
  }

  async #work(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(200, 30_000);
    while (!signal.aborted) {
      const [namespace] = this.#queue;
      if (namespace === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
        continue;
      }
      this.#queue.delete(namespace);
      try {
        await this.#write(namespace, signal);
        backoff.reset();
      } catch (thrown) {
        if (signal.aborted) return;
        this.#options.log.warn(
          { namespace, name: this.#options.name, error: explain(thrown) },
          "ConfigMap cannot be written: trying again",
        );
        this.#queue.add(namespace);
        await sleep(this.#clock, backoff.nextMs(), signal).catch(() => undefined);
      }
    }
  }

  async #write(namespace: string, signal: AbortSignal): Promise<void> {
    if (!this.#namespaces.has(namespace) || this.#isRight(namespace)) return;
    const { client, name, key, text, log } = this.#options;
    const present = this.#present.get(namespace);
    const metadata = {
      ...present?.metadata,
      name,
      namespace,
      labels: { ...present?.metadata.labels, [label]: "true" },
    };
    const kept = present?.["data"] as Readonly<Record<string, string>> | undefined;
    const body = { apiVersion: "v1", kind: "ConfigMap", metadata, data: { ...kept, [key]: text() } };
    try {
      if (present === undefined) {
        await client.request(collectionPath({ ...configMaps, namespace }, "v1"), { method: "POST", body, signal });
      } else {
        const path = objectPath({ group: "", version: "v1", plural: "configmaps" }, { namespace, name });
        await client.request(path, { method: "PUT", body, signal });
      }
      log.debug({ namespace, name }, "ConfigMap written");
    } catch (thrown) {
      // Somebody else wrote it, or the namespace is gone: what the watch tells next decides.
      if (isStatus(thrown, 409) || isStatus(thrown, 404)) return;
      // A namespace that is going refuses what is new.
      if (isStatus(thrown, 403) && /being terminated/.test(explain(thrown))) return;
      throw thrown;
    }
  }
}

function logTrouble(log: Logger, plural: string, why: string | undefined): void {
  if (why === undefined) log.info({ plural }, "collection can be read again");
  else log.warn({ plural, error: why }, "collection cannot be read");
}
