/** Finds the configuration files under a folder. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { explain } from "#shared/errors/mesh-error.ts";

export interface ConfigFile {
  /** Relative to the folder. */
  readonly path: string;
  readonly text: string;
  /** When the file came to be, in milliseconds: the age of objects that state none. */
  readonly bornMs: number;
}

export interface UnreadableFile {
  readonly path: string;
  readonly why: string;
}

export interface FolderContent {
  readonly files: readonly ConfigFile[];
  readonly unreadable: readonly UnreadableFile[];
}

/** A file larger than this is no configuration. The API server's own bound for one object is 1.5 MiB. */
const maxFileBytes = 8 * 1024 * 1024;
const maxFiles = 10_000;
const maxBytes = 256 * 1024 * 1024;
const maxDepth = 16;
/** Links may lead to the same folder on many ways, whose number doubles with each. */
const maxFolders = 10_000;

/**
 * All `.yaml`, `.yml` and `.json` files, folder by folder in order of name. Names that begin with a dot are passed over:
 * editors keep their own there, and a mounted ConfigMap its versions.
 *
 * @throws where the folder itself cannot be listed
 */
export async function readFolder(root: string): Promise<FolderContent> {
  const files: ConfigFile[] = [];
  const unreadable: UnreadableFile[] = [];
  let bytes = 0;
  for (const path of await listFiles({ root, unreadable, folders: 0 }, root, [])) {
    if (files.length >= maxFiles) {
      unreadable.push({ path, why: `the folder has more than ${maxFiles} files: the rest is not read` });
      break;
    }
    try {
      const full = join(root, path);
      const found = await stat(full);
      const { size, birthtimeMs, mtimeMs } = found;
      if (!found.isFile()) {
        // To read a pipe or a device may take for ever.
        unreadable.push({ path, why: "this is neither a file nor a folder" });
        continue;
      }
      bytes += size;
      if (bytes > maxBytes) {
        unreadable.push({ path, why: `the files have more than ${maxBytes} bytes in all: the rest is not read` });
        break;
      }
      if (size > maxFileBytes) {
        bytes -= size;
        unreadable.push({ path, why: `the file has ${size} bytes, at most ${maxFileBytes} are read: split it` });
        continue;
      }
      const bornMs = birthtimeMs > 0 ? Math.min(birthtimeMs, mtimeMs) : mtimeMs;
      files.push({ path, text: await readFile(full, "utf8"), bornMs });
    } catch (thrown) {
      // Deleted between listing and reading: that is not trouble, the next look will not find it.
      if (!isMissing(thrown)) unreadable.push({ path, why: explain(thrown) });
    }
  }
  return { files, unreadable };
}

interface Walk {
  readonly root: string;
  readonly unreadable: UnreadableFile[];
  folders: number;
}

/** @param above the folders that this one is in, as the file system knows them */
async function listFiles(walk: Walk, folder: string, above: readonly string[]): Promise<string[]> {
  const { root, unreadable } = walk;
  const { dev, ino } = await stat(folder, { bigint: true });
  const itself = `${dev}:${ino}`;
  const refuse = (why: string): string[] => {
    unreadable.push({ path: relative(root, folder), why });
    return [];
  };
  if (above.includes(itself)) return refuse("this link leads back to a folder that it is in");
  if (above.length > maxDepth) return refuse(`folders are read ${maxDepth} deep`);
  walk.folders++;
  if (walk.folders === maxFolders + 1) return refuse(`there are more than ${maxFolders} folders: the rest is not read`);
  if (walk.folders > maxFolders) return [];
  const entries = await readdir(folder, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith(".")) continue;
    const full = join(folder, entry.name);
    const path = relative(root, full);
    try {
      const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await stat(full)).isDirectory());
      if (isFolder) for (const each of await listFiles(walk, full, [...above, itself])) found.push(each);
      else if (/\.(ya?ml|json)$/i.test(entry.name)) found.push(path);
    } catch (thrown) {
      if (!isMissing(thrown)) unreadable.push({ path, why: explain(thrown) });
    }
  }
  return found;
}

const isMissing = (thrown: unknown): boolean =>
  thrown instanceof Error && "code" in thrown && (thrown.code === "ENOENT" || thrown.code === "ENOTDIR");
