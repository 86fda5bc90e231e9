/** The sandbox's own file system: a tmpfs on /run, and the root that containers start from. */
import { mkdir, readdir } from "node:fs/promises";
import { nodeFolder, nodeRunFolder, outerRoot, rootTemplate, stateFolder } from "./kubelet/folders.ts";
import type { FabricFolders } from "./network/fabric.ts";
import { quote, runScript } from "./run-script.ts";

export const fabricFolders: FabricFolders = {
  nodeNetns: (node) => `${nodeFolder(node)}/netns`,
  podNetns: (node) => `${nodeRunFolder(node)}/netns`,
};

/** Folders of the machine's root that a container gets in another way. */
const ownFolders = new Set(["proc", "run", "lost+found"]);

/** Must come first: everything else is kept below /run. The mounts are this process's own and go with it. */
export async function prepareWorld(nodes: readonly { readonly name: string }[]): Promise<void> {
  await runScript(`mount -t tmpfs -o mode=755 sandbox /run
mount --make-shared /run
[ "$(readlink -f /var/run)" = /run ] || mount --rbind /run /var/run
mkdir -p ${rootTemplate}
mount -t tmpfs -o mode=755 sandbox ${rootTemplate}
mkdir ${rootTemplate}/proc ${rootTemplate}/run ${rootTemplate}${outerRoot}
${(await rootEntries()).join("\n")}`);
  for (const node of nodes) {
    await mkdir(nodeRunFolder(node), { recursive: true });
  }
  await mkdir(`${stateFolder}/pods`, { recursive: true });
}

async function rootEntries(): Promise<string[]> {
  const entries = await readdir("/", { withFileTypes: true });
  return entries
    .filter(({ name }) => !ownFolders.has(name))
    .flatMap((entry) => {
      const path = `/${entry.name}`;
      const place = quote(`${rootTemplate}${path}`);
      if (entry.isSymbolicLink()) return [`cp -P ${quote(path)} ${place}`];
      if (entry.isDirectory()) return [`mkdir ${place}`, `mount --rbind ${quote(path)} ${place}`];
      return [];
    });
}
