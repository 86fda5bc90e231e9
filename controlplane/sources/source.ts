/**
 * Where configuration comes from. A source turns what its users write (objects in a Kubernetes API server, YAML files in
 * a folder) into one stream of events; nothing behind it can tell which source spoke.
 */
import type { KubeObject } from "#controlplane/mesh/world.ts";
import type { Problem } from "#controlplane/schema/problem.ts";

/** What names an object. Versions of one kind are the same object, so only the group takes part. */
export interface ObjectRef {
  readonly group: string;
  readonly kind: string;
  /** Empty for objects of cluster scope. */
  readonly namespace: string;
  readonly name: string;
}

export type SourceEvent =
  /** A new or changed object, valid and in force from now on. `problems` holds warnings only. */
  | {
      readonly type: "upsert";
      readonly ref: ObjectRef;
      readonly object: KubeObject;
      readonly problems: readonly Problem[];
    }
  /** The object is gone. */
  | { readonly type: "remove"; readonly ref: ObjectRef }
  /**
   * A version arrived that cannot take force. `kept` is the last valid one, which stays (undefined where there never was
   * one: then the object has no effect). `object` is the refused version, as far as it could be read, so that a status can
   * be written to it; undefined where a file could not be read at all.
   */
  | {
      readonly type: "refuse";
      readonly ref: ObjectRef;
      readonly object: KubeObject | undefined;
      readonly kept: KubeObject | undefined;
      readonly problems: readonly Problem[];
      /** The problems as lines for a person, with file, line and column where there is a file. */
      readonly lines: readonly string[];
    }
  /** Everything that existed when the source started has been told. Comes exactly once. */
  | { readonly type: "synced" };

export type SourceListener = (event: SourceEvent) => void;

export interface ConfigSource {
  readonly name: "kubernetes" | "folder";
  /**
   * Tells `listener` everything that exists, then `synced`, then every change, one object at a time and in order, until
   * `signal` aborts. Resolves once everything that was opened is closed; rejects only where the source can never work
   * (no such folder, unreadable kubeconfig). Trouble that may pass is logged and retried.
   */
  run(listener: SourceListener, signal: AbortSignal): Promise<void>;
}

/** One string per object, for keys of maps. */
export const refKey = ({ group, kind, namespace, name }: ObjectRef): string => `${group}/${kind}/${namespace}/${name}`;

export function refOf({ apiVersion, kind, metadata }: KubeObject): ObjectRef {
  const slash = apiVersion.indexOf("/");
  return {
    group: slash < 0 ? "" : apiVersion.slice(0, slash),
    kind,
    namespace: metadata.namespace ?? "",
    name: metadata.name,
  };
}
