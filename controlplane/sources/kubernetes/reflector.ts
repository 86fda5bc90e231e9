import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { SourceMeta, SourceObject } from "../source.ts";
import { Backoff } from "./backoff.ts";
import { collectionPath, type Collection } from "./collection.ts";
import { isStatus, KubeError, type KubeClient } from "./kube-client.ts";

export interface ReflectorListener {
  upsert(object: SourceObject): void;
  remove(object: SourceObject): void;
  /** The whole collection has been told once, or it is certain that there is none. */
  synced(): void;
  /** Why the collection cannot be read at the moment; undefined once it can again. */
  trouble(why: string | undefined): void;
}

export interface ReflectorOptions {
  readonly client: KubeClient;
  readonly collection: Collection;
  readonly listener: ReflectorListener;
  readonly clock: Clock;
  readonly log: Logger;
  /** Resolves when a collection that does not exist may have appeared. */
  readonly installed: (signal: AbortSignal) => Promise<void>;
}

const pageSize = 500;
/** How long the server keeps a watch open: 5 to 10 minutes, so that watches do not all end together. */
const watchSeconds = 300;
/** After its time is over and this has passed, the server is taken for dead. */
const watchGraceMs = 15_000;

interface ListAnswer {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly Partial<SourceObject>[];
}

interface WatchLine {
  readonly type?: string;
  readonly object?: SourceObject & { readonly code?: number; readonly message?: string; readonly reason?: string };
}

/** Resource versions before this one are forgotten: list again. */
class Expired extends Error {}

const isExpired = (thrown: unknown): boolean =>
  thrown instanceof Expired || isStatus(thrown, 410) || (thrown instanceof KubeError && thrown.reason === "Expired");

/**
 * Keeps a copy of one collection: lists it, then watches from where the list ended, and after a break goes on from the
 * last event seen. Only where the server has forgotten that far back it lists again, and tells the difference.
 */
export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #known = new Map<string, SourceObject>();
  readonly #backoff: Backoff;
  #hasSynced = false;
  /** What the listener was told last. */
  #told: string | undefined;
  #failures = 0;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#backoff = new Backoff(250, 30_000);
  }

  /** Until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { collection, log } = this.#options;
    while (!signal.aborted) {
      try {
        const version = await this.#servedVersion(signal);
        const resourceVersion = await this.#list(version, signal);
        this.#works();
        await this.#watchFrom(version, resourceVersion, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        if (isExpired(thrown)) {
          log.debug({ kind: collection.kind }, "watch expired: listing again");
          continue;
        }
        if (isStatus(thrown, 404)) await this.#waitForInstall(signal);
        else await this.#pause(thrown, signal);
      }
    }
  }

  /** The first of our versions that the server has; lists decide, so that no discovery is needed. */
  async #servedVersion(signal: AbortSignal): Promise<string> {
    const { client, collection } = this.#options;
    const [only, ...others] = collection.versions;
    if (only === undefined) throw new TypeError(`Collection ${collection.plural} has no version`);
    if (others.length === 0) return only;
    for (const version of [only, ...others]) {
      try {
        await client.request(collectionPath(collection, version), { query: { limit: 1 }, signal });
        return version;
      } catch (thrown) {
        if (!isStatus(thrown, 404)) throw thrown;
      }
    }
    throw new KubeError(404, "NotFound", `The API server has no ${collection.plural}.${collection.group}`);
  }

  async #list(version: string, signal: AbortSignal): Promise<string> {
    const { client, collection } = this.#options;
    const found = new Map<string, SourceObject>();
    let page: ListAnswer | undefined;
    do {
      page = await client.request<ListAnswer>(collectionPath(collection, version), {
        query: {
          limit: pageSize,
          fieldSelector: collection.fieldSelector,
          labelSelector: collection.labelSelector,
          continue: page?.metadata?.continue,
        },
        signal,
      });
      for (const item of page.items ?? []) {
        const object = this.#complete(item, version);
        if (object !== undefined) found.set(keyOf(object), object);
      }
    } while ((page.metadata?.continue ?? "") !== "");
    for (const [key, object] of this.#known) if (!found.has(key)) this.#drop(object);
    for (const object of found.values()) this.#put(object);
    this.#sync();
    return page.metadata?.resourceVersion ?? "";
  }

  async #watchFrom(version: string, from: string, signal: AbortSignal): Promise<void> {
    const { collection, log } = this.#options;
    let resourceVersion = from;
    for (;;) {
      try {
        for await (const line of this.#watchOnce(version, resourceVersion, signal)) {
          resourceVersion = this.#take(line, version) ?? resourceVersion;
          this.#works();
        }
        this.#works();
        // A server that ends watches at once would otherwise be asked in a tight loop.
        await sleep(this.#options.clock, 50, signal);
      } catch (thrown) {
        if (signal.aborted || isExpired(thrown) || isStatus(thrown, 404)) throw thrown;
        log.debug({ kind: collection.kind, error: explain(thrown) }, "watch broke");
        await this.#pause(thrown, signal);
      }
    }
  }

  async *#watchOnce(version: string, resourceVersion: string, signal: AbortSignal): AsyncGenerator<WatchLine, void> {
    const { client, collection, clock } = this.#options;
    const timeoutSeconds = Math.round(watchSeconds * (1 + Math.random()));
    const tooLate = new AbortController();
    const cancel = clock.schedule(timeoutSeconds * 1_000 + watchGraceMs, () => tooLate.abort());
    try {
      const query = {
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion,
        timeoutSeconds,
        fieldSelector: collection.fieldSelector,
        labelSelector: collection.labelSelector,
      };
      const lines = client.lines(collectionPath(collection, version), query, AbortSignal.any([signal, tooLate.signal]));
      for await (const line of lines) yield line as WatchLine;
    } finally {
      cancel();
    }
  }

  /** Applies one event; the resource version to go on from. */
  #take({ type, object }: WatchLine, version: string): string | undefined {
    const { log, collection } = this.#options;
    if (type === "ERROR") {
      const message = object?.message ?? "the server ended the watch";
      if (object?.code === 410 || object?.reason === "Expired" || object?.reason === "Gone") throw new Expired(message);
      throw new KubeError(object?.code ?? 0, object?.reason ?? "", `Cannot watch ${collection.plural}: ${message}`);
    }
    if (type === "BOOKMARK") return object?.metadata?.resourceVersion;
    const complete = this.#complete(object, version);
    if (complete === undefined) {
      log.warn({ kind: collection.kind, type }, "watch event without a named object: ignored");
      return undefined;
    }
    if (type === "ADDED" || type === "MODIFIED") this.#put(complete);
    else if (type === "DELETED") this.#drop(complete);
    return complete.metadata.resourceVersion;
  }

  #put(object: SourceObject): void {
    const key = keyOf(object);
    const before = this.#known.get(key);
    const { resourceVersion, uid } = object.metadata;
    if (
      before?.metadata.resourceVersion === resourceVersion &&
      before?.metadata.uid === uid &&
      resourceVersion !== undefined
    ) {
      return;
    }
    // Deleted and made anew between two looks: the old one is gone with all that hangs on it.
    if (before !== undefined && before.metadata.uid !== uid) this.#options.listener.remove(before);
    this.#known.set(key, object);
    this.#options.listener.upsert(object);
  }

  #drop(object: SourceObject): void {
    const before = this.#known.get(keyOf(object));
    if (before === undefined) return;
    this.#known.delete(keyOf(object));
    this.#options.listener.remove(before);
  }

  /** Items of a list do not say their kind; and nobody behind us reads who wrote which field. */
  #complete(item: Partial<SourceObject> | undefined, version: string): SourceObject | undefined {
    const { group, kind } = this.#options.collection;
    const metadata = item?.metadata as Partial<SourceMeta> | undefined;
    if (item === undefined || typeof metadata?.name !== "string" || metadata.name === "") return undefined;
    const { managedFields: _managedFields, ...kept } = metadata;
    return {
      ...item,
      apiVersion: group === "" ? version : `${group}/${version}`,
      kind,
      metadata: { uid: "", creationTimestamp: "", ...kept, name: metadata.name },
    };
  }

  /** There is no such kind: nothing exists of it, until its definition is installed. */
  async #waitForInstall(signal: AbortSignal): Promise<void> {
    const { collection, log, installed } = this.#options;
    for (const object of this.#known.values()) this.#drop(object);
    this.#works();
    this.#sync();
    log.debug({ kind: collection.kind, group: collection.group }, "kind is not installed");
    await installed(signal).catch(() => undefined);
  }

  #sync(): void {
    if (this.#hasSynced) return;
    this.#hasSynced = true;
    this.#options.listener.synced();
  }

  #works(): void {
    this.#backoff.reset();
    this.#failures = 0;
    this.#tell(undefined);
  }

  #tell(why: string | undefined): void {
    if (why === this.#told) return;
    this.#told = why;
    this.#options.listener.trouble(why);
  }

  async #pause(thrown: unknown, signal: AbortSignal): Promise<void> {
    const { collection, clock } = this.#options;
    const remedy = isStatus(thrown, 403) ? `: let the control plane get, list and watch ${collection.plural}` : "";
    // One broken connection is no trouble: the next try, a moment later, mostly works.
    if (++this.#failures > 1 || !this.#hasSynced) this.#tell(`${explain(thrown)}${remedy}`);
    await sleep(clock, this.#backoff.nextMs(), signal).catch(() => undefined);
  }
}

const keyOf = ({ metadata }: SourceObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;
