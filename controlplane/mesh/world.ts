/**
 * All objects that the mesh reads, in the internal form: sources put plain objects in, translation reads collections
 * out. An object that does not fit its schema is left out and reported; what was known of it before stays in force.
 */
import { Field, ShapeError } from "./field.ts";
import { matchesSelector } from "./label-selector.ts";
import type { FetchedKeys } from "./token-keys.ts";
import { defaultMeshConfig, meshConfigFrom, type MeshConfig, type MeshConfigPlace } from "./mesh-config.ts";
import type { Kind, Kinds, KubeObject, Meta } from "./objects.ts";
import { kindOf, kinds } from "./read-objects.ts";

/** Why an object is not in force. */
export interface ObjectProblem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Path of the field, such as `spec.ports[0].port`. */
  readonly path: string;
  readonly message: string;
}

export type { KubeObject };

/** What a source tells. */
export type ObjectEvent =
  { readonly type: "upsert"; readonly object: KubeObject } | { readonly type: "remove"; readonly object: KubeObject };

/** What translation needs of a world. */
export interface WorldView {
  /** Grows with every change. */
  readonly revision: number;
  readonly meshConfig: MeshConfig;
  readonly problems: readonly ObjectProblem[];
  /** Keys for tokens, by the address of the document that holds or names them. */
  readonly fetchedKeys: ReadonlyMap<string, FetchedKeys>;
  get<K extends Kind>(kind: K, namespace: string, name: string): Kinds[K] | undefined;
  /** In order of namespace and name. */
  all<K extends Kind>(kind: K): readonly Kinds[K][];
}

type Resource = { readonly meta: Meta };

/** The objects of one kind by namespace and name; the sorted list is made on demand. */
class Table {
  private readonly byKey = new Map<string, Resource>();
  private sorted: readonly Resource[] | undefined;

  get(key: string): Resource | undefined {
    return this.byKey.get(key);
  }

  set(key: string, resource: Resource): void {
    this.byKey.set(key, resource);
    this.sorted = undefined;
  }

  delete(key: string): boolean {
    this.sorted = undefined;
    return this.byKey.delete(key);
  }

  all(): readonly Resource[] {
    this.sorted ??= [...this.byKey].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, resource]) => resource);
    return this.sorted;
  }
}

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;

export class World implements WorldView {
  private readonly tables = new Map<Kind, Table>(Object.keys(kinds).map((kind) => [kind as Kind, new Table()]));
  private readonly broken = new Map<string, ObjectProblem>();
  private changes = 0;
  private readonly place: MeshConfigPlace;
  private config = defaultMeshConfig;
  private keys: ReadonlyMap<string, FetchedKeys> = new Map();

  /** @param place where the mesh configuration is */
  constructor(place: MeshConfigPlace = { namespace: defaultMeshConfig.rootNamespace, name: "istio" }) {
    this.place = place;
  }

  get revision(): number {
    return this.changes;
  }

  get meshConfig(): MeshConfig {
    return this.config;
  }

  get fetchedKeys(): ReadonlyMap<string, FetchedKeys> {
    return this.keys;
  }

  setFetchedKeys(keys: ReadonlyMap<string, FetchedKeys>): void {
    this.keys = keys;
    this.changes++;
  }

  get problems(): readonly ObjectProblem[] {
    return [...this.broken.values()];
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): Kinds[K] | undefined {
    if (kinds[kind].isNamespaced && !this.isDiscovered(namespace)) return undefined;
    return this.table(kind).get(keyOf(namespace, name)) as Kinds[K] | undefined;
  }

  all<K extends Kind>(kind: K): readonly Kinds[K][] {
    const all = this.table(kind).all() as readonly Kinds[K][];
    if (!kinds[kind].isNamespaced || this.config.discoverySelectors.length === 0) return all;
    return all.filter(({ meta }) => this.isDiscovered(meta.namespace));
  }

  /** Whether the mesh looks into a namespace at all. One that does not exist has no labels to be found by. */
  private isDiscovered(namespace: string): boolean {
    const { discoverySelectors } = this.config;
    if (discoverySelectors.length === 0) return true;
    const labels = this.get("Namespace", "", namespace)?.meta.labels;
    return labels !== undefined && discoverySelectors.some((selector) => matchesSelector(selector, labels));
  }

  apply(event: ObjectEvent): void {
    switch (event.type) {
      case "upsert":
        this.upsert(event.object);
        return;
      case "remove":
        this.remove(event.object);
        return;
    }
  }

  /** Adds or replaces. Objects of kinds that the mesh does not read are ignored. The problem, if it does not fit. */
  upsert(object: KubeObject): ObjectProblem | undefined {
    const mesh = meshConfigFrom(object, this.place);
    if (mesh !== undefined) return this.report("MeshConfig", object, () => this.setMeshConfig(mesh()));
    const kind = kindOf(object);
    if (kind === undefined) return undefined;
    return this.report(kind, object, () => {
      const resource = kinds[kind].read(new Field(object));
      this.table(kind).set(keyOf(resource.meta.namespace, resource.meta.name), resource);
      this.changes++;
    });
  }

  remove(object: KubeObject): void {
    if (meshConfigFrom(object, this.place) !== undefined) {
      const { namespace, name } = nameOf(object);
      this.broken.delete(`MeshConfig/${keyOf(namespace, name)}`);
      this.setMeshConfig(defaultMeshConfig);
      return;
    }
    const kind = kindOf(object);
    if (kind === undefined) return;
    const { namespace, name } = nameOf(object);
    this.removeKey(kind, keyOf(namespace, name));
  }

  setMeshConfig(config: MeshConfig): void {
    this.config = config;
    this.changes++;
  }

  private removeKey(kind: Kind, key: string): void {
    this.broken.delete(`${kind}/${key}`);
    if (this.table(kind).delete(key)) this.changes++;
  }

  private report(kind: string, object: KubeObject, put: () => void): ObjectProblem | undefined {
    const { namespace, name } = nameOf(object);
    const key = `${kind}/${keyOf(namespace, name)}`;
    try {
      put();
      this.broken.delete(key);
      return undefined;
    } catch (thrown) {
      if (!(thrown instanceof ShapeError)) throw thrown;
      const problem = { kind, namespace, name, path: thrown.path, message: thrown.message };
      this.broken.set(key, problem);
      return problem;
    }
  }

  private table(kind: Kind): Table {
    const table = this.tables.get(kind);
    if (table === undefined) throw new TypeError(`No table for kind "${kind}"`);
    return table;
  }
}

/** Namespace and name of anything, however broken. */
function nameOf(object: KubeObject): { readonly namespace: string; readonly name: string } {
  const meta = typeof object.metadata === "object" && object.metadata !== null ? object.metadata : {};
  const { namespace, name } = meta as { namespace?: unknown; name?: unknown };
  return {
    namespace: typeof namespace === "string" ? namespace : "",
    name: typeof name === "string" ? name : "",
  };
}
