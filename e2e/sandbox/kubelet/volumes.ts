/** What a pod's volumes contain. */
import { mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { DownwardFile, FileItem, ProjectedSource, Volume } from "../kinds.ts";
import { fieldValue, MissingReferenceError, resourceValue, type EnvironmentFacts } from "./environment.ts";

export interface VolumeFile {
  readonly content: Buffer;
  readonly mode: number;
}
export type VolumeFiles = ReadonlyMap<string, VolumeFile>;

export interface ServiceAccountToken {
  readonly token: string;
  readonly expiresMs: number;
}

export interface VolumeFacts extends Omit<EnvironmentFacts, "configMap" | "secret"> {
  /** Contents as octets: `data` and `binaryData` together. */
  readonly configMap: (name: string) => ReadonlyMap<string, Buffer> | undefined;
  readonly secret: (name: string) => ReadonlyMap<string, Buffer> | undefined;
  readonly token: (request: {
    audience: string | undefined;
    expirationSeconds: number;
  }) => Promise<ServiceAccountToken>;
}

const defaultFileMode = 0o644;

/** Whether the volume is made of files that the kubelet writes. */
export const hasContent = (volume: Volume): boolean =>
  (volume.configMap ?? volume.secret ?? volume.projected ?? volume.downwardAPI) !== undefined;

/** Life of a token that did not ask for one; the kubelet's default for projected tokens. */
const tokenSecondsDefault = 3600;

/**
 * The files of one volume, and when the first of its tokens should be replaced.
 *
 * @throws MissingReferenceError where something that is not optional does not exist
 */
export async function volumeFiles(
  volume: Volume,
  facts: VolumeFacts,
): Promise<{ readonly files: VolumeFiles; readonly refreshAtMs?: number }> {
  const files = new Map<string, VolumeFile>();
  let refreshAtMs: number | undefined;
  const { mode, sources } = sourcesOf(volume);
  for (const source of sources) {
    if (source.serviceAccountToken === undefined) {
      addFiles(files, source, mode, facts);
      continue;
    }
    const { path, audience, expirationSeconds = tokenSecondsDefault } = source.serviceAccountToken;
    const issuedMs = Date.now();
    const { token, expiresMs } = await facts.token({ audience, expirationSeconds });
    files.set(path, { content: Buffer.from(token), mode: 0o600 });
    // At four fifths of its life, as the kubelet does.
    const refresh = issuedMs + (expiresMs - issuedMs) * 0.8;
    refreshAtMs = Math.min(refreshAtMs ?? refresh, refresh);
  }
  return refreshAtMs === undefined ? { files } : { files, refreshAtMs };
}

function sourcesOf(volume: Volume): { mode: number; sources: readonly ProjectedSource[] } {
  const { configMap, secret, projected, downwardAPI } = volume;
  const mode = (configMap ?? secret ?? projected ?? downwardAPI)?.defaultMode ?? defaultFileMode;
  if (configMap !== undefined) return { mode, sources: [{ configMap }] };
  if (secret !== undefined) return { mode, sources: [{ secret: { ...secret, name: secret.secretName } }] };
  if (downwardAPI !== undefined) return { mode, sources: [{ downwardAPI }] };
  return { mode, sources: projected?.sources ?? [] };
}

function addFiles(files: Map<string, VolumeFile>, source: ProjectedSource, mode: number, facts: VolumeFacts): void {
  if (source.downwardAPI !== undefined) {
    for (const item of source.downwardAPI.items ?? []) {
      files.set(item.path, { content: Buffer.from(downwardContent(item, facts)), mode: item.mode ?? mode });
    }
    return;
  }
  const kind = source.configMap === undefined ? "secret" : "configmap";
  const reference = source.configMap ?? source.secret;
  if (reference === undefined) return;
  const data = kind === "secret" ? facts.secret(reference.name) : facts.configMap(reference.name);
  if (data === undefined) {
    if (reference.optional === true) return;
    throw new MissingReferenceError(`${kind} "${reference.name}" not found`);
  }
  const items = reference.items ?? [...data.keys()].map((key): FileItem => ({ key, path: key }));
  for (const item of items) {
    const content = data.get(item.key);
    if (content !== undefined) files.set(item.path, { content, mode: item.mode ?? mode });
    else if (reference.optional !== true) {
      throw new MissingReferenceError(`${kind} "${reference.name}" references non-existent key: ${item.key}`);
    }
  }
}

function downwardContent(item: DownwardFile, facts: VolumeFacts): string {
  const plain: EnvironmentFacts = { ...facts, configMap: () => undefined, secret: () => undefined };
  if (item.fieldRef !== undefined) return fieldValue(item.fieldRef, plain);
  return item.resourceFieldRef === undefined ? "" : resourceValue(item.resourceFieldRef, undefined, plain);
}

/**
 * Writes files as the kubelet does: into a new folder, to which `..data` is then switched in one step, so that a
 * reader sees all of the old or all of the new. Does nothing where nothing changed.
 */
export async function writeVolume(folder: string, files: VolumeFiles): Promise<void> {
  await mkdir(folder, { recursive: true });
  const link = join(folder, "..data");
  const current = await readlink(link).catch(() => undefined);
  if (current !== undefined && (await holdsSame(join(folder, current), files))) return;
  for (const path of files.keys()) assertInside(path);
  const next = `..${new Date().toISOString().replaceAll(/[-:.TZ]/gu, "_")}${Math.random().toString(36).slice(2, 8)}`;
  await mkdir(join(folder, next));
  for (const [path, { content, mode }] of files) {
    const file = join(folder, next, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content, { mode });
  }
  await symlink(next, `${link}_tmp`);
  await rename(`${link}_tmp`, link);
  const wanted = new Set([...files.keys()].map((path) => path.split("/")[0] ?? path));
  const present = (await readdir(folder)).filter((name) => !name.startsWith(".."));
  for (const name of present) if (!wanted.has(name)) await rm(join(folder, name), { force: true });
  for (const name of wanted) if (!present.includes(name)) await symlink(join("..data", name), join(folder, name));
  if (current !== undefined) await rm(join(folder, current), { recursive: true, force: true });
}

/** A pod says where in its volume a file goes, and must not get at files of the machine with that. */
function assertInside(path: string): void {
  const parts = path.split("/");
  if (path.startsWith("/") || path.includes("\0") || parts.some((part) => part === ".." || part === "")) {
    throw new Error(`Cannot write ${JSON.stringify(path)} into a volume: the path must be relative and without ".."`);
  }
  if (path.startsWith("..")) {
    throw new Error(`Cannot write ${JSON.stringify(path)} into a volume: the path must not start with ".."`);
  }
}

async function holdsSame(folder: string, files: VolumeFiles): Promise<boolean> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  if (entries.filter((entry) => entry.isFile()).length !== files.size) return false;
  for (const [path, { content }] of files) {
    const present = await readFile(join(folder, path)).catch(() => undefined);
    if (present === undefined || !present.equals(content)) return false;
  }
  return true;
}
