import { Field } from "#controlplane/mesh/field.ts";
import type { Kind, Kinds, KubeObject } from "#controlplane/mesh/objects.ts";
import { kindOf, kinds } from "#controlplane/mesh/read-objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";

/** An object that is about to be written, in the mesh's form. */
export type Candidate = { readonly [K in Kind]: { readonly kind: K; readonly resource: Kinds[K] } }[Kind];

/**
 * Reads an object that may not be stored yet: what the API server fills in later may be absent.
 *
 * @throws ShapeError where it does not fit the mesh's form; undefined for kinds that the mesh does not read
 */
export function readCandidate(object: KubeObject): Candidate | undefined {
  const kind = kindOf(object);
  return kind === undefined
    ? undefined
    : ({ kind, resource: kinds[kind].read(new Field(object)) } as unknown as Candidate);
}

/**
 * The world as it will be once the candidate is in it.
 *
 * @param options.alone leaves the others of its kind out of lists, for what is judged one by one: then a thousand of them
 *   cost no more than one
 */
export function worldWith(world: WorldView, candidate: Candidate, options: { readonly alone: boolean }): WorldView {
  const { kind: ownKind } = candidate;
  const { namespace, name } = candidate.resource.meta;
  const resource = withAge(candidate.resource, world.get(ownKind, namespace, name));
  const isSame = ({ meta }: Kinds[Kind]): boolean => meta.namespace === namespace && meta.name === name;
  return {
    revision: world.revision,
    meshConfig: world.meshConfig,
    problems: world.problems,
    fetchedKeys: world.fetchedKeys,
    get: <K extends Kind>(kind: K, inNamespace: string, wanted: string): Kinds[K] | undefined =>
      kind === ownKind && inNamespace === namespace && wanted === name
        ? (resource as Kinds[K])
        : world.get(kind, inNamespace, wanted),
    all: <K extends Kind>(kind: K): readonly Kinds[K][] => {
      if (kind !== ownKind) return world.all(kind);
      const own = resource as Kinds[K];
      return options.alone ? [own] : [...world.all(kind).filter((each) => !isSame(each)), own];
    },
  };
}

/** What is not stored yet has no age, or that of the version before: it is younger than everything that is. */
function withAge(resource: Kinds[Kind], before: Kinds[Kind] | undefined): Kinds[Kind] {
  if (resource.meta.createdMs > 0) return resource;
  return {
    ...resource,
    meta: { ...resource.meta, createdMs: before?.meta.createdMs ?? Number.MAX_SAFE_INTEGER },
  };
}
