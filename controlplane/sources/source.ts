/**
 * Where configuration comes from. A source turns what its users write (objects in a Kubernetes API server, YAML files in
 * a folder) into one stream of events; nothing behind it can tell which source spoke.
 */
import type { Problem } from "#controlplane/schema/problem.ts";

/** Metadata that every object has when it leaves a source, whoever wrote it. */
export interface SourceMeta {
  readonly name: string;
  /** Absent for objects of cluster scope. */
  readonly namespace?: string;
  readonly uid: string;
  readonly creationTimestamp: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

/** An object of a Kubernetes API as plain data, its form checked against the schema of its kind. */
export interface SourceObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: SourceMeta;
  readonly [field: string]: unknown;
}

/** What names an object. Versions of one kind are the same object, so only the group takes part. */
export interface ObjectRef {
  readonly group: string;
  readonly kind: string;
  /** Empty for objects of cluster scope. */
  readonly namespace: string;
  readonly name: string;
}

/** A new or changed object, valid and in force from now on. `problems` holds warnings only. */
export interface Upsert {
  readonly type: "upsert";
  readonly ref: ObjectRef;
  readonly object: SourceObject;
  readonly problems: readonly Problem[];
}

/** The object is gone. `object` is what was last known of it: at least what names it. */
export interface Remove {
  readonly type: "remove";
  readonly ref: ObjectRef;
  readonly object: SourceObject;
}

/**
 * A version arrived that cannot take force. `kept` is the last valid one, which stays; undefined where there never was
 * one, and then the object has no effect. Istio's control plane without its admission webhook would drop the parts that
 * it cannot read and apply the rest; a policy is then weaker than written, and nobody is told.
 */
export interface Refuse {
  readonly type: "refuse";
  readonly ref: ObjectRef;
  /** The refused version, for a status to be written to it. */
  readonly object: SourceObject;
  readonly kept: SourceObject | undefined;
  readonly problems: readonly Problem[];
  /** The problems for a person, one line each, with file, line and column where there is a file. */
  readonly lines: readonly string[];
}

/**
 * Something that could not be read so far that an object could be named: a file that is no YAML, a collection that may
 * not be listed. What was known from there stays in force. Replaces what was told of `place` before; without lines the
 * trouble is over.
 */
export interface Trouble {
  readonly type: "trouble";
  readonly place: string;
  readonly lines: readonly string[];
}

/** Everything that existed when the source started has been told. Comes exactly once. */
export interface Synced {
  readonly type: "synced";
}

export type SourceEvent = Upsert | Remove | Refuse | Trouble | Synced;

export type SourceListener = (event: SourceEvent) => void;

export interface ConfigSource {
  readonly name: "kubernetes" | "folder";
  /**
   * Tells `listener` everything that exists, then `synced`, then every change, one object at a time and in order, until
   * `signal` aborts. Resolves once everything that was opened is closed; rejects only where the source can never work
   * (no such folder). Trouble that may pass is logged and tried again.
   */
  run(listener: SourceListener, signal: AbortSignal): Promise<void>;
}

/** One string per object, for keys of maps. */
export const refKey = ({ group, kind, namespace, name }: ObjectRef): string => `${group}/${kind}/${namespace}/${name}`;

/** `security.istio.io/v1` → `security.istio.io`; `v1` → the core group, written as nothing. */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? "" : apiVersion.slice(0, slash);
}

export const refOf = ({ apiVersion, kind, metadata }: SourceObject): ObjectRef => ({
  group: groupOf(apiVersion),
  kind,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
});
