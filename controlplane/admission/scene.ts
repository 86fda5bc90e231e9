import type { WorldView } from "#controlplane/mesh/world.ts";
import { collectMesh, type CollectedMesh } from "#controlplane/translate/collect-mesh.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";

/** What an object is judged against. */
export interface Scene {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  /** Services and waypoints of that world, found when somebody asks. */
  mesh(): CollectedMesh;
}

/**
 * The world as it is now, again and again: services and waypoints are found anew only where one of them has changed, so
 * that applying a thousand routes does not translate a thousand times.
 */
export function sceneOf(world: WorldView, options: TranslateOptions): Scene {
  let known: { readonly of: readonly unknown[]; readonly mesh: CollectedMesh } | undefined;
  return {
    world,
    options,
    mesh: () => {
      // A world answers with the same list for as long as nothing of the kind has changed.
      const of = [
        world.meshConfig,
        ...(["Namespace", "Gateway", "GatewayClass", "Service", "ServiceEntry"] as const).map((kind) =>
          world.all(kind),
        ),
      ];
      if (known === undefined || known.of.some((each, index) => each !== of[index])) {
        known = { of, mesh: collectMesh(world, options) };
      }
      return known.mesh;
    },
  };
}
