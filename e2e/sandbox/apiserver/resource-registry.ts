import { resourceOfCrd } from "./crd-resources.ts";
import type { KubeObject, ObjectStore, ResourceId } from "./object-store.ts";
import { builtInResources, ids, type ResourceInfo } from "./resources.ts";

const keyOf = ({ group, resource }: ResourceId) => `${resource}.${group}`;
const builtInByKey = new Map(builtInResources.map((info) => [keyOf(info), info]));
const builtInGroups = new Set(builtInResources.map(({ group }) => group));

/** Which resources exist now: the built-in ones, and one per stored CRD. */
export class ResourceRegistry {
  readonly #store: Pick<ObjectStore, "get" | "list">;

  constructor(store: Pick<ObjectStore, "get" | "list">) {
    this.#store = store;
  }

  find(id: ResourceId): ResourceInfo | undefined {
    const known = builtInByKey.get(keyOf(id));
    if (known !== undefined || builtInGroups.has(id.group)) return known;
    const crd = this.#store.get(ids.crds, undefined, `${id.resource}.${id.group}`);
    return crd === undefined ? undefined : resourceOfCrd(crd);
  }

  findKind(group: string, kind: string): ResourceInfo | undefined {
    return this.list().find((info) => info.group === group && info.kind === kind);
  }

  list(): readonly ResourceInfo[] {
    return [...builtInResources, ...this.crds().map(resourceOfCrd)];
  }

  crds(): readonly KubeObject[] {
    return this.#store.list(ids.crds);
  }

  /** Groups in the order of discovery: the core group first, then the built-in ones, then those of CRDs. */
  groups(): readonly string[] {
    return [...new Set(this.list().map(({ group }) => group))];
  }

  /** The served versions of a group, the preferred one first. */
  versionsOf(group: string): readonly string[] {
    const versions = this.list()
      .filter((info) => info.group === group)
      .flatMap((info) => info.versions.map(({ name }) => name));
    return [...new Set(versions)].sort(newestFirst);
  }
}

function newestFirst(a: string, b: string): number {
  const stability = (version: string) => (version.includes("alpha") ? 0 : version.includes("beta") ? 1 : 2);
  return stability(b) - stability(a) || b.localeCompare(a, "en", { numeric: true });
}
