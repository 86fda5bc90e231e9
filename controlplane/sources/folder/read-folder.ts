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
const maxDepth = 16;

/**
 * All `.yaml`, `.yml` and `.json` files, folder by folder in order of name. Names that begin with a dot are passed over:
 * editors keep their own there, and a mounted ConfigMap its versions.
 *
 * @throws where the folder itself cannot be listed
 */
export async function readFolder(root: string): Promise<FolderContent> {
  const files: ConfigFile[] = [];
  const unreadable: UnreadableFile[] = [];
  for (const path of await listFiles(root, root, 0, unreadable)) {
    if (files.length >= maxFiles) {
      unreadable.push({ path, why: `the folder has more than ${maxFiles} files: the rest is not read` });
      break;
    }
    try {
      const full = join(root, path);
      const { size, birthtimeMs, mtimeMs } = await stat(full);
      if (size > maxFileBytes) {
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

async function listFiles(root: string, folder: string, depth: number, unreadable: UnreadableFile[]): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith(".")) continue;
    const full = join(folder, entry.name);
    const path = relative(root, full);
    try {
      const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await stat(full)).isDirectory());
      if (!isFolder) {
        if (/\.(ya?ml|json)$/i.test(entry.name)) found.push(path);
      } else if (depth < maxDepth) found.push(...(await listFiles(root, full, depth + 1, unreadable)));
      else unreadable.push({ path, why: `folders are read ${maxDepth} deep: is this a circle of links?` });
    } catch (thrown) {
      if (!isMissing(thrown)) unreadable.push({ path, why: explain(thrown) });
    }
  }
  return found;
}

const isMissing = (thrown: unknown): boolean =>
  thrown instanceof Error && "code" in thrown && (thrown.code === "ENOENT" || thrown.code === "ENOTDIR");
