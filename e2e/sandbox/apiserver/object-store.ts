import { randomBytes, randomUUID } from "node:crypto";
import { sameJson } from "./json-value.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { alreadyExists, ApiError, conflict, forbidden, notFound } from "./api-error.ts";

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: OwnerReference[];
  finalizers?: string[];
  generateName?: string;
  managedFields?: unknown[];
}

/** What every object has; the rest depends on its kind. Objects from the store are frozen: change a `structuredClone`. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

/** An object on its way in: the store fills in what it owns. */
export interface NewObject {
  apiVersion: string;
  kind: string;
  metadata: Partial<ObjectMeta>;
  [field: string]: unknown;
}

export interface ResourceId {
  group: string;
  resource: string;
}

export type WatchEvent = { type: "ADDED" | "MODIFIED" | "DELETED"; object: KubeObject };

/** What happened, with the state before it: a watch with a selector needs both to see objects come and go. */
export interface StoreEvent {
  readonly id: ResourceId;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
  readonly resourceVersion: number;
}

export type Propagation = "Background" | "Foreground" | "Orphan";

export interface WriteOptions {
  /** Answers what would happen, and changes nothing. */
  readonly dryRun?: boolean;
  /** Of a new object, where it was promised to somebody already. */
  readonly uid?: string;
}

export interface UpdateOptions extends WriteOptions {
  readonly subresource?: string;
}

export interface DeleteOptions extends WriteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagation?: Propagation;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
}

export interface ListOptions {
  readonly namespace?: string;
  /** Exact labels that must all be present. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface ObjectStore {
  get(id: ResourceId, namespace: string | undefined, name: string): KubeObject | undefined;
  list(id: ResourceId, options?: ListOptions): readonly KubeObject[];
  /** Fills in defaults, uid and resource version. Throws {@link ApiError}: 409 if it exists, 422 if it is invalid. */
  create(id: ResourceId, object: NewObject, options?: WriteOptions): KubeObject;
  /** Replaces the object (or its status). A resource version in `object` must still be the current one. */
  update(id: ResourceId, object: KubeObject, options?: UpdateOptions): KubeObject;
  /** Read, change, write of the status; `change` gets a copy that it may modify. */
  patchStatus(
    id: ResourceId,
    namespace: string | undefined,
    name: string,
    change: (object: KubeObject) => KubeObject,
  ): KubeObject;
  /** Starts (or completes) the deletion. Answers the object as it stands afterwards, or as it last stood. */
  delete(id: ResourceId, namespace: string | undefined, name: string, options?: DeleteOptions): KubeObject;
  /** Calls `listener` asynchronously and in order. With `replay`, existing objects come first as ADDED. */
  watch(id: ResourceId, listener: (event: WatchEvent) => void, options?: { replay?: boolean }): () => void;
}

/** How one resource differs from the others. All of it pure, apart from allocations that are undone by `removed`. */
export interface ResourceStrategy {
  /** Whether `/status` is written apart from the rest. */
  readonly hasStatus: boolean;
  /** Whether who writes the status may write labels and annotations with it. */
  readonly statusCarriesLabels?: boolean;
  /** Whether `metadata.generation` counts changes outside metadata and status. */
  readonly hasGeneration: boolean;
  /** Whether objects start with a grace period when they are deleted; answers its length. */
  gracePeriodSeconds?(object: KubeObject, asked: number | undefined): number;
  prepareCreate?(object: KubeObject, options: WriteOptions): KubeObject;
  prepareUpdate?(object: KubeObject, previous: KubeObject, options: UpdateOptions): KubeObject;
  prepareDelete?(object: KubeObject): void;
  /** Runs right after an object is stored, before anyone hears of it: for what must exist together with it. */
  created?(object: KubeObject): void;
  removed?(object: KubeObject): void;
}

const plain: ResourceStrategy = { hasStatus: false, hasGeneration: false };

const namespaces: ResourceId = { group: "", resource: "namespaces" };
const foreground = "foregroundDeletion";
const orphan = "orphan";

/**
 * Events kept per resource for watches that resume. Beyond it a client is told 410 Gone and lists again.
 * 1024 covers minutes of a small cluster; the objects themselves are shared, so the cost is one reference each.
 */
export const historyLimitDefault = 1024;

interface Table {
  readonly id: ResourceId;
  readonly objects: Map<string, KubeObject>;
  history: StoreEvent[];
  /** Events at or below this resource version have been dropped. */
  droppedTo: number;
}

interface Subscriber {
  readonly listener: (event: StoreEvent) => void;
  closed: boolean;
}

export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly historyLimit?: number;
  /** Told when a listener throws: one broken watcher must not stop the others. */
  readonly onListenerError?: (error: unknown) => void;
}

const tableKey = ({ group, resource }: ResourceId) => `${resource}.${group}`;
const objectKey = (namespace: string | undefined, name: string) => `${namespace ?? ""}/${name}`;

/** Every object of the cluster, in memory, with Kubernetes' rules for versions, deletion and ownership. */
export class MemoryObjectStore implements ObjectStore {
  readonly #clock: Clock;
  readonly #historyLimit: number;
  readonly #onListenerError: (error: unknown) => void;
  readonly #tables = new Map<string, Table>();
  readonly #byUid = new Map<string, { table: Table; key: string }>();
  /** Owner uid → keys of what it owns. */
  readonly #owned = new Map<string, Set<string>>();
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  #strategyOf: (id: ResourceId) => ResourceStrategy | undefined = () => undefined;
  #queue: (() => void)[] = [];
  #draining = false;
  #version = 1;

  constructor({ clock, historyLimit = historyLimitDefault, onListenerError }: MemoryStoreOptions) {
    this.#clock = clock;
    this.#historyLimit = historyLimit;
    this.#onListenerError =
      onListenerError ??
      ((error) =>
        queueMicrotask(() => {
          throw error;
        }));
  }

  /** Gives the store its knowledge of kinds. The API server does it once, before the first object. */
  installStrategies(strategyOf: (id: ResourceId) => ResourceStrategy | undefined): void {
    this.#strategyOf = strategyOf;
  }

  /** The version of the newest change: what a list answers, and where a watch may start. */
  get resourceVersion(): number {
    return this.#version;
  }

  get(id: ResourceId, namespace: string | undefined, name: string): KubeObject | undefined {
    return this.#tables.get(tableKey(id))?.objects.get(objectKey(namespace, name));
  }

  findByUid(uid: string): KubeObject | undefined {
    const found = this.#byUid.get(uid);
    return found?.table.objects.get(found.key);
  }

  /** In the order of namespace and name, as etcd answers. */
  list(id: ResourceId, { namespace, labels }: ListOptions = {}): readonly KubeObject[] {
    const objects = [...(this.#tables.get(tableKey(id))?.objects.values() ?? [])];
    const wanted = Object.entries(labels ?? {});
    return objects
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace)
      .filter(({ metadata }) => wanted.every(([key, value]) => metadata.labels?.[key] === value))
      .sort((a, b) => compareText(keyOf(a), keyOf(b)));
  }

  create(id: ResourceId, object: NewObject, options: WriteOptions = {}): KubeObject {
    const strategy = this.#strategyOf(id) ?? plain;
    const named = this.#fillMetadata(id, object, strategy, options.uid);
    this.#checkNamespace(id, named);
    const table = this.#table(id);
    if (table.objects.has(keyOf(named))) throw alreadyExists(id, named.metadata.name);
    const prepared = strategy.prepareCreate?.(named, options) ?? named;
    if (options.dryRun === true) return freeze(prepared);
    const created = this.#commit(table, "ADDED", prepared, undefined);
    strategy.created?.(created);
    return created;
  }

  #fillMetadata(id: ResourceId, object: NewObject, strategy: ResourceStrategy, uid?: string): KubeObject {
    const metadata = withoutEmpty(structuredClone(object.metadata));
    const prefix = metadata.generateName;
    const name = metadata.name ?? (prefix === undefined ? undefined : `${prefix.slice(0, 58)}${randomSuffix()}`);
    if (name === undefined || name === "") {
      throw new ApiError(
        "Invalid",
        `${object.kind} "" is invalid: metadata.name: Required value: name or generateName is required`,
        {
          ...(id.group === "" ? {} : { group: id.group }),
          kind: object.kind,
          causes: [
            {
              reason: "FieldValueRequired",
              message: "Required value: name or generateName is required",
              field: "metadata.name",
            },
          ],
        },
      );
    }
    delete metadata.deletionTimestamp;
    delete metadata.deletionGracePeriodSeconds;
    return {
      ...structuredClone(object),
      metadata: {
        ...metadata,
        name,
        uid: uid ?? randomUUID(),
        resourceVersion: "",
        creationTimestamp: this.#timestamp(),
        ...(strategy.hasGeneration ? { generation: 1 } : {}),
      },
    };
  }

  #checkNamespace(id: ResourceId, { metadata }: KubeObject): void {
    if (metadata.namespace === undefined || this.#strategyOf(namespaces) === undefined) return;
    const home = this.get(namespaces, undefined, metadata.namespace);
    if (home === undefined) throw notFound(namespaces, metadata.namespace);
    if (home.metadata.deletionTimestamp === undefined) return;
    const why = `unable to create new content in namespace ${metadata.namespace} because it is being terminated`;
    throw forbidden(id, metadata.name, why, [
      {
        reason: "NamespaceTerminating",
        message: `namespace ${metadata.namespace} is being terminated`,
        field: "metadata.namespace",
      },
    ]);
  }

  update(id: ResourceId, object: KubeObject, options: UpdateOptions = {}): KubeObject {
    const { table, previous } = this.#current(id, object.metadata.namespace, object.metadata.name);
    const strategy = this.#strategyOf(id) ?? plain;
    this.#checkPreconditions(id, previous, object.metadata.uid, object.metadata.resourceVersion);
    const merged = mergeUpdate(structuredClone(object), previous, strategy, options.subresource);
    const prepared = strategy.prepareUpdate?.(merged, previous, options) ?? merged;
    const next = countGeneration(prepared, previous, strategy);
    if (sameJson(withoutTimes(next), withoutTimes(previous))) return previous;
    if (options.dryRun === true) return freeze(next);
    const written = this.#commit(table, "MODIFIED", next, previous);
    if (isFinished(written)) this.#remove(table, written);
    return written;
  }

  #checkPreconditions(id: ResourceId, current: KubeObject, uid?: string, resourceVersion?: string): void {
    const { metadata } = current;
    if (uid !== undefined && uid !== "" && uid !== metadata.uid) {
      throw conflict(
        id,
        metadata.name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${metadata.uid}`,
      );
    }
    if (resourceVersion !== undefined && resourceVersion !== "" && resourceVersion !== metadata.resourceVersion) {
      throw conflict(
        id,
        metadata.name,
        "the object has been modified; please apply your changes to the latest version and try again",
      );
    }
  }

  patchStatus(
    id: ResourceId,
    namespace: string | undefined,
    name: string,
    change: (object: KubeObject) => KubeObject,
  ): KubeObject {
    // Everything between this read and the write is synchronous, so there is nothing to retry.
    const { previous } = this.#current(id, namespace, name);
    const changed = change(structuredClone(previous));
    return this.update(id, changed, { subresource: "status" });
  }

  delete(id: ResourceId, namespace: string | undefined, name: string, options: DeleteOptions = {}): KubeObject {
    const { table, previous } = this.#current(id, namespace, name);
    const strategy = this.#strategyOf(id) ?? plain;
    this.#checkPreconditions(id, previous, options.preconditions?.uid, options.preconditions?.resourceVersion);
    strategy.prepareDelete?.(previous);
    const graceSeconds = strategy.gracePeriodSeconds?.(previous, options.gracePeriodSeconds) ?? 0;
    const marked = this.#markDeleted(previous, graceSeconds, this.#deletionFinalizers(previous, options.propagation));
    if (options.dryRun === true) return freeze(marked);
    if (isFinished(marked)) {
      this.#remove(table, previous);
      return previous;
    }
    if (sameJson(marked, previous)) return previous;
    const written = this.#commit(table, "MODIFIED", marked, previous);
    if (sameId(id, namespaces)) this.#later(() => this.#emptyNamespace(name));
    else this.#later(() => this.#collect(written.metadata.uid));
    return written;
  }

  #deletionFinalizers(object: KubeObject, propagation: Propagation | undefined): string[] {
    const others = (object.metadata.finalizers ?? []).filter(
      (finalizer) => finalizer !== foreground && finalizer !== orphan,
    );
    if (propagation === undefined) return object.metadata.finalizers ?? [];
    const hasDependents = (this.#owned.get(object.metadata.uid)?.size ?? 0) > 0;
    if (propagation === "Foreground" && hasDependents) return [...others, foreground];
    if (propagation === "Orphan" && hasDependents) return [...others, orphan];
    return others;
  }

  #markDeleted(object: KubeObject, graceSeconds: number, finalizers: string[]): KubeObject {
    const marked = structuredClone(object);
    const { metadata } = marked;
    const earlier = metadata.deletionGracePeriodSeconds;
    if (finalizers.length > 0) metadata.finalizers = finalizers;
    else if (!hasSpecFinalizers(object)) delete metadata.finalizers;
    // A second delete may only shorten the time that is left.
    if (metadata.deletionTimestamp !== undefined && earlier !== undefined && graceSeconds >= earlier) return marked;
    metadata.deletionTimestamp = this.#timestamp(graceSeconds * 1000);
    metadata.deletionGracePeriodSeconds = graceSeconds;
    if (hasSpecFinalizers(object))
      marked["status"] = { ...(object["status"] as object | undefined), phase: "Terminating" };
    return marked;
  }

  #current(id: ResourceId, namespace: string | undefined, name: string): { table: Table; previous: KubeObject } {
    const table = this.#table(id);
    const previous = table.objects.get(objectKey(namespace, name));
    if (previous === undefined) throw notFound(id, name);
    return { table, previous };
  }

  #table(id: ResourceId): Table {
    const key = tableKey(id);
    let table = this.#tables.get(key);
    if (table === undefined) {
      table = { id: { group: id.group, resource: id.resource }, objects: new Map(), history: [], droppedTo: 0 };
      this.#tables.set(key, table);
    }
    return table;
  }

  #commit(table: Table, type: "ADDED" | "MODIFIED", object: KubeObject, previous: KubeObject | undefined): KubeObject {
    const written = freeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } });
    const key = keyOf(written);
    table.objects.set(key, written);
    this.#byUid.set(written.metadata.uid, { table, key });
    this.#trackOwners(written, previous);
    this.#publish({ id: table.id, type, object: written, previous, resourceVersion: this.#version });
    return written;
  }

  #remove(table: Table, object: KubeObject): void {
    const gone = freeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } });
    table.objects.delete(keyOf(object));
    const { uid, ownerReferences, namespace } = object.metadata;
    this.#byUid.delete(uid);
    for (const owner of ownerReferences ?? []) this.#disown(owner.uid, uid);
    this.#strategyOf(table.id)?.removed?.(object);
    this.#publish({ id: table.id, type: "DELETED", object: gone, previous: object, resourceVersion: this.#version });
    this.#later(() => {
      for (const dependent of Array.from(this.#owned.get(uid) ?? [])) this.#collectIfAbandoned(dependent);
      for (const owner of ownerReferences ?? []) this.#collect(owner.uid);
      if (namespace !== undefined) this.#emptyNamespace(namespace);
    });
  }

  #trackOwners({ metadata }: KubeObject, previous: KubeObject | undefined): void {
    const before = previous?.metadata.ownerReferences ?? [];
    const after = metadata.ownerReferences ?? [];
    if (sameJson(before, after)) return;
    for (const owner of before) this.#disown(owner.uid, metadata.uid);
    for (const owner of after) {
      const dependents = this.#owned.get(owner.uid) ?? new Set();
      this.#owned.set(owner.uid, dependents.add(metadata.uid));
    }
    if (after.length > 0) this.#later(() => this.#collectIfAbandoned(metadata.uid));
  }

  #disown(owner: string, dependent: string): void {
    const dependents = this.#owned.get(owner);
    dependents?.delete(dependent);
    if (dependents?.size === 0) this.#owned.delete(owner);
  }

  /** Moves a deletion with foreground or orphan propagation one step on. */
  #collect(uid: string): void {
    const owner = this.findByUid(uid);
    const finalizers = owner?.metadata.finalizers ?? [];
    if (owner?.metadata.deletionTimestamp === undefined) return;
    if (finalizers.includes(orphan)) {
      for (const dependent of Array.from(this.#owned.get(uid) ?? [])) this.#releaseFrom(dependent, uid);
      this.#dropFinalizer(owner, orphan);
      return;
    }
    if (!finalizers.includes(foreground)) return;
    const dependents = Array.from(this.#owned.get(uid) ?? []).flatMap((dependent) => this.findByUid(dependent) ?? []);
    const blocking = dependents.filter(({ metadata }) =>
      metadata.ownerReferences?.some((reference) => reference.uid === uid && reference.blockOwnerDeletion === true),
    );
    if (blocking.length === 0) this.#dropFinalizer(owner, foreground);
    for (const dependent of dependents) {
      if (dependent.metadata.deletionTimestamp === undefined && !this.#hasOtherOwner(dependent, uid)) {
        this.#deleteObject(dependent, "Foreground");
      }
    }
  }

  #hasOtherOwner({ metadata }: KubeObject, uid: string): boolean {
    return (metadata.ownerReferences ?? []).some((owner) => owner.uid !== uid && this.#byUid.has(owner.uid));
  }

  /** Background collection: what no living object owns any more goes. */
  #collectIfAbandoned(uid: string): void {
    const object = this.findByUid(uid);
    const owners = object?.metadata.ownerReferences ?? [];
    if (object === undefined || owners.length === 0 || object.metadata.deletionTimestamp !== undefined) return;
    if (owners.some((owner) => this.#byUid.has(owner.uid))) return;
    this.#deleteObject(object, "Background");
  }

  #deleteObject({ metadata }: KubeObject, propagation: Propagation | undefined): void {
    const place = this.#byUid.get(metadata.uid);
    if (place === undefined) return;
    this.delete(place.table.id, metadata.namespace, metadata.name, propagation === undefined ? {} : { propagation });
  }

  #releaseFrom(dependent: string, owner: string): void {
    const object = this.findByUid(dependent);
    const place = this.#byUid.get(dependent);
    if (object === undefined || place === undefined) return;
    const released = structuredClone(object);
    released.metadata.ownerReferences = (object.metadata.ownerReferences ?? []).filter(({ uid }) => uid !== owner);
    if (released.metadata.ownerReferences.length === 0) delete released.metadata.ownerReferences;
    this.#commit(place.table, "MODIFIED", released, object);
  }

  #dropFinalizer(object: KubeObject, finalizer: string): void {
    const place = this.#byUid.get(object.metadata.uid);
    if (place === undefined) return;
    const next = structuredClone(object);
    next.metadata.finalizers = (object.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    if (next.metadata.finalizers.length === 0) delete next.metadata.finalizers;
    const written = this.#commit(place.table, "MODIFIED", next, object);
    if (isFinished(written)) this.#remove(place.table, written);
  }

  /** Deletes what is left in a terminating namespace, and the namespace itself once it is empty. */
  #emptyNamespace(name: string): void {
    const home = this.get(namespaces, undefined, name);
    if (home?.metadata.deletionTimestamp === undefined) return;
    const contents = [...this.#tables.values()].flatMap(({ objects }) =>
      [...objects.values()].filter(({ metadata }) => metadata.namespace === name),
    );
    for (const object of contents) {
      if (object.metadata.deletionTimestamp === undefined) this.#deleteObject(object, "Background");
    }
    const place = this.#byUid.get(home.metadata.uid);
    const rest = [...this.#tables.values()].some(({ objects }) =>
      objects.values().some(({ metadata }) => metadata.namespace === name),
    );
    if (rest || place === undefined) return;
    const next = { ...structuredClone(home), spec: { finalizers: [] } };
    if (isFinished(next)) this.#remove(place.table, home);
  }

  #publish(event: StoreEvent): void {
    const table = this.#table(event.id);
    table.history.push(event);
    if (table.history.length > this.#historyLimit) {
      const dropped = table.history.splice(0, table.history.length - Math.ceil(this.#historyLimit / 2));
      table.droppedTo = dropped.at(-1)?.resourceVersion ?? table.droppedTo;
    }
    for (const subscriber of this.#subscribers.get(tableKey(event.id)) ?? []) this.#deliver(subscriber, event);
  }

  #deliver(subscriber: Subscriber, event: StoreEvent): void {
    this.#later(() => {
      if (!subscriber.closed) subscriber.listener(event);
    });
  }

  /** One queue for everything: consequences and notifications happen after the change, in the order of the changes. */
  #later(action: () => void): void {
    this.#queue.push(action);
    if (this.#draining) return;
    this.#draining = true;
    setImmediate(() => this.#drain());
  }

  #drain(): void {
    const batch = this.#queue;
    this.#queue = [];
    for (const action of batch) {
      try {
        action();
      } catch (error) {
        this.#onListenerError(error);
      }
    }
    if (this.#queue.length > 0) setImmediate(() => this.#drain());
    else this.#draining = false;
  }

  watch(id: ResourceId, listener: (event: WatchEvent) => void, { replay = false } = {}): () => void {
    const simple = ({ type, object }: StoreEvent) => listener({ type, object });
    return this.subscribe(id, simple, replay ? { replay } : { since: this.#version });
  }

  /**
   * The full form of {@link watch}: after `since`, everything newer is delivered. Throws 410 when that is no longer
   * known. The answer ends the subscription.
   */
  subscribe(
    id: ResourceId,
    listener: (event: StoreEvent) => void,
    { replay = false, since = this.#version }: { replay?: boolean; since?: number } = {},
  ): () => void {
    const table = this.#table(id);
    if (!replay && since < table.droppedTo) {
      throw new ApiError("Expired", `too old resource version: ${since} (${table.droppedTo + 1})`);
    }
    const subscriber: Subscriber = { listener, closed: false };
    const key = tableKey(id);
    const subscribers = this.#subscribers.get(key) ?? new Set();
    this.#subscribers.set(key, subscribers.add(subscriber));
    if (replay) {
      for (const object of this.list(id)) {
        const resourceVersion = Number(object.metadata.resourceVersion);
        this.#deliver(subscriber, { id, type: "ADDED", object, previous: undefined, resourceVersion });
      }
    } else {
      for (const event of table.history) if (event.resourceVersion > since) this.#deliver(subscriber, event);
    }
    return () => {
      subscriber.closed = true;
      subscribers.delete(subscriber);
    };
  }

  #timestamp(afterMs = 0): string {
    return `${new Date(this.#clock.now() + afterMs).toISOString().slice(0, 19)}Z`;
  }
}

const keyOf = ({ metadata }: KubeObject) => objectKey(metadata.namespace, metadata.name);
const compareText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const sameId = (a: ResourceId, b: ResourceId) => a.group === b.group && a.resource === b.resource;

/** Namespaces keep their finalizers in the spec. */
function hasSpecFinalizers(object: KubeObject): boolean {
  return ((object["spec"] as { finalizers?: unknown[] } | undefined)?.finalizers?.length ?? 0) > 0;
}

/** Whether nothing holds a deleted object any more. */
function isFinished(object: KubeObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0, finalizers = [] } = object.metadata;
  if (deletionTimestamp === undefined || deletionGracePeriodSeconds > 0) return false;
  return finalizers.length === 0 && !(object.kind === "Namespace" && hasSpecFinalizers(object));
}

/** Maps and lists of metadata in which nothing stands are not there, as in Kubernetes. */
export function withoutEmpty<T extends Partial<ObjectMeta>>(metadata: T): T {
  const kept = { ...metadata };
  for (const field of ["labels", "annotations"] as const)
    if (Object.keys(kept[field] ?? {}).length === 0) delete kept[field];
  for (const field of ["finalizers", "ownerReferences", "managedFields"] as const)
    if (kept[field]?.length === 0) delete kept[field];
  return kept;
}

/** What the store owns stays; a write to `/status` changes only the status, any other write everything but the status. */
function mergeUpdate(
  next: KubeObject,
  previous: KubeObject,
  strategy: ResourceStrategy,
  subresource: string | undefined,
): KubeObject {
  const kept: Partial<ObjectMeta> = {};
  const before = previous.metadata;
  if (before.generation !== undefined) kept.generation = before.generation;
  if (before.deletionTimestamp !== undefined) kept.deletionTimestamp = before.deletionTimestamp;
  if (before.deletionGracePeriodSeconds !== undefined)
    kept.deletionGracePeriodSeconds = before.deletionGracePeriodSeconds;
  if (before.generateName !== undefined) kept.generateName = before.generateName;
  const {
    generation: _1,
    deletionTimestamp: _2,
    deletionGracePeriodSeconds: _3,
    generateName: _4,
    ...own
  } = next.metadata;
  const metadata: ObjectMeta = {
    ...withoutEmpty(own),
    ...kept,
    uid: before.uid,
    creationTimestamp: before.creationTimestamp,
    resourceVersion: before.resourceVersion,
  };
  if (subresource === "status" && strategy.hasStatus) {
    const { managedFields } = metadata;
    const merged: KubeObject = {
      ...previous,
      metadata: { ...before, ...(managedFields === undefined ? {} : { managedFields }) },
    };
    if (next["status"] === undefined) delete merged["status"];
    else merged["status"] = next["status"];
    // The kubelet and the node agent annotate through /status, and Kubernetes lets them; custom resources do not.
    if (strategy.statusCarriesLabels === true) {
      for (const field of ["annotations", "labels"] as const) {
        if (metadata[field] === undefined) delete merged.metadata[field];
        else merged.metadata[field] = metadata[field];
      }
    }
    return structuredClone(merged);
  }
  const merged: KubeObject = { ...next, metadata };
  if (strategy.hasStatus) {
    if (previous["status"] === undefined) delete merged["status"];
    else merged["status"] = structuredClone(previous["status"]);
  }
  return merged;
}

function countGeneration(next: KubeObject, previous: KubeObject, strategy: ResourceStrategy): KubeObject {
  if (!strategy.hasGeneration || sameJson(contentOf(next), contentOf(previous))) return next;
  return { ...next, metadata: { ...next.metadata, generation: (previous.metadata.generation ?? 0) + 1 } };
}

function contentOf({ metadata: _metadata, status: _status, apiVersion: _version, ...content }: KubeObject): object {
  return content;
}

/** For "did anything change": a new time in `managedFields` alone is no change. */
function withoutTimes(object: KubeObject): KubeObject {
  const { managedFields, resourceVersion: _version, ...metadata } = object.metadata;
  const owners = managedFields?.map((entry) => ({ ...(entry as object), time: undefined }));
  return {
    ...object,
    metadata: { ...metadata, resourceVersion: "", ...(owners === undefined ? {} : { managedFields: owners }) },
  };
}

/** Frozen all the way down: the same object is handed to everyone. */
function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const inner of Object.values(value)) freeze(inner);
  return Object.freeze(value);
}

/** Five characters without vowels, so that no words arise (as Kubernetes' name generator). */
export function randomSuffix(length = 5): string {
  const alphabet = "bcdfghjklmnpqrstvwxz2456789";
  return [...randomBytes(length)].map((byte) => alphabet[byte % alphabet.length]).join("");
}
