/** Which EnvoyFilters concern a waypoint, in the order in which they are applied, and what is said of each. */
import type { EnvoyFilter } from "#controlplane/mesh/objects.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { controllerOfClass, meshController } from "#controlplane/translate/gateway-classes.ts";
import { isOfRevision } from "#controlplane/translate/revision.ts";
import { isOlder } from "#controlplane/translate/status.ts";
import type { EnvoyContext } from "../context.ts";
import { PatchProblem, readPatch, type Patch } from "./read-patch.ts";

export interface ReadFilter {
  readonly patches: readonly Patch[];
  /** One for each patch that has no effect. */
  readonly problems: readonly string[];
}

const read = new WeakMap<EnvoyFilter, ReadFilter>();

export function readFilterPatches(filter: EnvoyFilter): ReadFilter {
  const known = read.get(filter);
  if (known !== undefined) return known;
  const patches: Patch[] = [];
  const problems: string[] = [];
  filter.patches.forEach((patch, index) => {
    try {
      patches.push(readPatch(patch));
    } catch (error) {
      if (!(error instanceof PatchProblem)) throw error;
      problems.push(`configPatches[${index}]: ${error.message}`);
    }
  });
  const result = { patches, problems };
  read.set(filter, result);
  return result;
}

/** Of the root namespace first, then by priority, then older ones. */
export function patchesInForce({ world, options, meshConfig, waypoint }: EnvoyContext): readonly Patch[] {
  const all = world.all("EnvoyFilter");
  if (all.length === 0) return [];
  const rank = ({ meta }: EnvoyFilter): number => (meta.namespace === meshConfig.rootNamespace ? 0 : 1);
  return all
    .filter(
      (filter) => isOfRevision(filter.meta, options) && concerns(world, filter, waypoint, meshConfig.rootNamespace),
    )
    .toSorted((a, b) => rank(a) - rank(b) || a.priority - b.priority || (isOlder(a.meta, b.meta) ? -1 : 1))
    .flatMap((filter) => readFilterPatches(filter).patches);
}

function concerns(
  world: WorldView,
  { meta, targetRefs }: EnvoyFilter,
  waypoint: EnvoyContext["waypoint"],
  rootNamespace: string,
): boolean {
  return targetRefs.some(({ kind, name }) => {
    if (kind === "Gateway") return meta.namespace === waypoint.namespace && name === waypoint.name;
    return (
      kind === "GatewayClass" &&
      meta.namespace === rootNamespace &&
      controllerOfClass(world, name) === meshController &&
      world.get("Gateway", waypoint.namespace, waypoint.name)?.className === name
    );
  });
}
