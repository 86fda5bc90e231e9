/**
 * The world has those ConfigMaps only that objects in force name for the authorities in them. An object that is about to
 * be written may be the first to name one: it is read for the occasion.
 */
import { namedConfigMaps, type ConfigMapName } from "#controlplane/mesh/ca-references.ts";
import { Field } from "#controlplane/mesh/field.ts";
import type { ConfigMap, Kind, Kinds, KubeObject } from "#controlplane/mesh/objects.ts";
import { readConfigMap } from "#controlplane/mesh/read-core.ts";
import type { Scene } from "./scene.ts";

/** undefined where there is none. May reject: then nothing is known of it. */
export type FetchConfigMap = (name: ConfigMapName) => Promise<KubeObject | undefined>;

const keyOf = ({ namespace, name }: ConfigMapName): string => `${namespace}/${name}`;

/** The scene with what `object` names in it; the scene itself where nothing is missing. */
export async function withNamedConfigMaps(object: KubeObject, scene: Scene, fetch: FetchConfigMap): Promise<Scene> {
  const { world } = scene;
  const missing = namedConfigMaps(object).filter(({ namespace, name }) => !world.get("ConfigMap", namespace, name));
  if (missing.length === 0) return scene;
  const found = new Map<string, ConfigMap>();
  await Promise.all(
    missing.map(async (each) => {
      const fetched = await fetch(each);
      if (fetched !== undefined) found.set(keyOf(each), readConfigMap(new Field(fetched)));
    }),
  );
  return {
    options: scene.options,
    mesh: () => scene.mesh(),
    world: {
      revision: world.revision,
      meshConfig: world.meshConfig,
      problems: world.problems,
      fetchedKeys: world.fetchedKeys,
      all: (kind) => world.all(kind),
      get: <K extends Kind>(kind: K, namespace: string, name: string): Kinds[K] | undefined =>
        kind === "ConfigMap" && found.has(keyOf({ namespace, name }))
          ? (found.get(keyOf({ namespace, name })) as Kinds[K])
          : world.get(kind, namespace, name),
    },
  };
}
