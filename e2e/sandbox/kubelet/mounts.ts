import { lstatSync, statSync } from "node:fs";
import { dirname, isAbsolute, normalize, resolve } from "node:path";
import type { Container, Volume } from "../kinds.ts";
import type { ContainerWorld, Mount } from "./container-script.ts";

export interface MountPlan extends Pick<ContainerWorld, "mounts" | "overlays" | "kept"> {
  /** Folders that must exist before the mounts. */
  readonly folders: readonly string[];
}

export interface MountFacts {
  readonly container: Container;
  readonly volumes: readonly Volume[];
  /** Folder of the pod in which volumes are written. */
  readonly volumeFolder: (name: string) => string;
  /** Where a path of the node lies in the sandbox. */
  readonly nodePath: (path: string) => string;
  /** Folder for layers over folders of the machine. */
  readonly layerFolder: string;
  /** Paths that the command needs, to be kept visible. */
  readonly needed: readonly string[];
}

/** Folders in which a container may make mount points as it likes: they are its own. */
const ownFolders = ["/run", "/var/run", "/etc"];

/** @throws Error naming a mount of a volume that the pod does not have */
export function planMounts(facts: MountFacts): MountPlan {
  const mounts = (facts.container.volumeMounts ?? [])
    .map((mount): Mount => {
      const volume = facts.volumes.find(({ name }) => name === mount.name);
      if (volume === undefined) throw new Error(`volumeMount "${mount.name}" names no volume of the pod`);
      const base =
        volume.hostPath === undefined ? facts.volumeFolder(volume.name) : facts.nodePath(volume.hostPath.path);
      const source = mount.subPath === undefined ? base : resolve(base, `./${normalize(`/${mount.subPath}`)}`);
      return {
        source,
        target: normalize(mount.mountPath),
        isFile: isFile(source),
        readOnly: mount.readOnly === true,
        followsHost: mount.mountPropagation !== undefined && mount.mountPropagation !== "None",
      };
    })
    .toSorted((a, b) => depth(a.target) - depth(b.target));
  const layered = new Set(mounts.flatMap(({ target }) => folderToLayer(target, mounts) ?? []));
  const overlays = [...layered].map((folder, at) => ({ folder, layer: `${facts.layerFolder}/${at}` }));
  const covered = facts.needed.filter((path) => mounts.some(({ target }) => path !== target && isInside(path, target)));
  return {
    mounts,
    overlays,
    kept: covered.filter(exists).map((path) => ({ path, isFile: isFile(path) })),
    folders: overlays.flatMap(({ layer }) => [`${layer}/upper`, `${layer}/work`]),
  };
}

/**
 * A mount point that the machine does not have must not be made on its file system. At the top the root is the
 * sandbox's; deeper, the nearest folder that exists gets a layer of its own.
 */
function folderToLayer(target: string, mounts: readonly Mount[]): string | undefined {
  const isOwn = ownFolders.some((folder) => isInside(target, folder));
  const isInVolume = mounts.some((mount) => mount.target !== target && isInside(target, mount.target));
  if (isOwn || isInVolume || exists(target)) return undefined;
  let folder = dirname(target);
  while (!exists(folder)) folder = dirname(folder);
  return folder === "/" ? undefined : folder;
}

/** What a command needs of the file system: the files among its words, and what lies beside them. */
export const pathsIn = (command: readonly string[]): string[] =>
  command.filter((word) => isAbsolute(word) && isFile(word)).flatMap((word) => [dirname(word), word]);

const depth = (path: string) => path.split("/").filter((part) => part !== "").length;
const isInside = (path: string, folder: string) =>
  path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function isFile(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && !stat.isDirectory();
}
