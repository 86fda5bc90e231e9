import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { secretKeys, type AuthorityStore } from "./self-signed.ts";

/** Keeps the root in a folder, with the same names as in the Secret; for a control plane without Kubernetes. */
export function fileStore(directory: string): AuthorityStore {
  const names = [secretKeys.certificate, secretKeys.key, secretKeys.roots, ...secretKeys.unused];
  return {
    name: directory,
    async read() {
      const entries: [string, string][] = [];
      for (const name of names) {
        const text = await readIfThere(join(directory, name));
        if (text !== undefined) entries.push([name, text]);
      }
      const data = Object.fromEntries(entries);
      const has = [secretKeys.certificate, secretKeys.key].map((name) => data[name] !== undefined);
      if (has.every(Boolean)) return data;
      if (!has.some(Boolean)) return undefined;
      const both = `${secretKeys.certificate} and ${secretKeys.key}`;
      throw new MeshError(
        "CONFIG_INVALID",
        `Cannot use the CA in "${directory}": ${both} must both be there, or neither`,
      );
    },
    async write(data) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      for (const [name, text] of Object.entries(data)) await writePrivate(join(directory, name), text);
      return true;
    },
  };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Readers see the old content or the new, never half of it. */
export async function writePrivate(path: string, text: string, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text, { mode });
  await rename(temporary, path);
}
