import { keySource, type KeySource } from "#controlplane/mesh/token-keys.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";

/** The documents with keys that policies at waypoints need; the others enforce nothing. */
export const wantedKeys = (world: WorldView): readonly KeySource[] =>
  world
    .all("RequestAuthentication")
    .filter(({ targetRefs }) => targetRefs.length > 0)
    .flatMap(({ rules }) => rules.map(keySource))
    .filter((source) => source !== undefined);
