import { watch } from "node:fs";
import { stat } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import { coreKind } from "#controlplane/schema/core-kinds.ts";
import { configKind } from "#controlplane/schema/kinds.ts";
import { ClusterIps, withFieldDefaults } from "#controlplane/mesh/api-defaults.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { hasErrors } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import { sleep, systemClock, type Clock } from "#shared/clock/clock.ts";
import { quietMs, readSettled } from "#shared/config/read-settled.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { Admission, type Locate } from "../admission.ts";
import { refKey, type ConfigSource, type ObjectRef, type SourceListener, type SourceObject } from "../source.ts";
import { completeObject, identify } from "./complete-object.ts";
import { locate, parseFile, type ParsedFile } from "./parse-file.ts";
import { readFolder, type ConfigFile, type FolderContent } from "./read-folder.ts";

export interface FolderSourceOptions {
  readonly folder: string;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** A look without being told: not every file system tells. */
const rescanMs = 5_000;

/** One object as some file has it now. */
interface Found {
  readonly ref: ObjectRef;
  readonly file: string;
  readonly bornMs: number;
  readonly raw: Readonly<Record<string, unknown>>;
  readonly place: string;
  readonly locate: Locate;
}

/** What is known of an object that has been told. */
interface Told {
  readonly ref: ObjectRef;
  readonly file: string;
  readonly raw: Readonly<Record<string, unknown>>;
  readonly object: SourceObject;
}

/**
 * Objects of the YAML files in a folder, looked at anew whenever something in it changes. What a file says is what is:
 * an object gone from every file is removed. But a file that cannot be read says nothing, so its objects stay.
 */
export class FolderSource implements ConfigSource {
  readonly name = "folder";
  readonly #folder: string;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #told = new Map<string, Told>();
  readonly #parsed = new Map<string, { readonly text: string; readonly file: ParsedFile }>();
  readonly #troubles = new Map<string, string>();

  constructor({ folder, log, clock = systemClock }: FolderSourceOptions) {
    this.#folder = folder;
    this.#log = log;
    this.#clock = clock;
  }

  /** @throws MeshError CONFIG_INVALID where the folder does not exist when it starts */
  async run(listener: SourceListener, signal: AbortSignal): Promise<void> {
    const isFolder = await stat(this.#folder).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder)
      throw new MeshError("CONFIG_INVALID", `Cannot read the configuration folder "${this.#folder}": no such folder`);
    const admission = new Admission(listener, this.#log);
    const changes = new Changes(this.#folder, this.#log, signal);
    await this.#look(admission);
    listener({ type: "synced" });
    while (!signal.aborted) {
      await changes.next(this.#clock, rescanMs);
      if (signal.aborted) break;
      await this.#look(admission);
    }
    changes.close();
  }

  async #look(admission: Admission): Promise<void> {
    let content: FolderContent;
    try {
      content = await readSettled({
        read: () => readFolder(this.#folder),
        isAsBefore: (found) => this.#isAsBefore(found),
        clock: this.#clock,
      });
    } catch (thrown) {
      this.#trouble(admission, this.#folder, [`${this.#folder}: ${explain(thrown)}`]);
      return;
    }
    this.#trouble(admission, this.#folder, []);
    const { found, silent, troubles } = this.#collect(content);
    for (const place of this.#troubles.keys()) {
      if (place !== this.#folder && !troubles.has(place)) this.#trouble(admission, place, []);
    }
    for (const [place, lines] of troubles) this.#trouble(admission, place, lines);
    // Removals first: an object may have moved to another kind or name.
    for (const [key, told] of this.#told) {
      if (found.has(key) || silent.has(told.file)) continue;
      this.#told.delete(key);
      admission.remove(told.ref);
    }
    const clusterIps = new ClusterIps(
      [...found.values()]
        .map(({ raw }): KubeObject => raw)
        .concat([...this.#told.values()].map(({ object }) => object)),
    );
    for (const [key, each] of found) this.#tell(admission, key, each, clusterIps);
  }

  /** A first look has nothing to lose. */
  #isAsBefore({ files }: FolderContent): boolean {
    if (this.#parsed.size === 0) return true;
    return files.length === this.#parsed.size && files.every(({ path, text }) => this.#parsed.get(path)?.text === text);
  }

  #tell(admission: Admission, key: string, each: Found, clusterIps: ClusterIps): void {
    const before = this.#told.get(key);
    if (before !== undefined && isDeepStrictEqual(before.raw, each.raw)) {
      this.#told.set(key, { ...before, file: each.file });
      return;
    }
    const complete = completeObject(each.raw, { ref: each.ref, bornMs: each.bornMs, before });
    // A default must not cover a mistake.
    const isFit = !hasErrors(checkObject(complete).problems);
    const object = isFit ? withFieldDefaults(complete, clusterIps, before?.object) : complete;
    this.#told.set(key, { ref: each.ref, file: each.file, raw: each.raw, object });
    admission.offer(object, each.locate);
  }

  /** All objects of all files; `silent` are the files in which not everything could be read. */
  #collect({ files, unreadable }: FolderContent): {
    readonly found: ReadonlyMap<string, Found>;
    readonly silent: ReadonlySet<string>;
    readonly troubles: ReadonlyMap<string, readonly string[]>;
  } {
    const found = new Map<string, Found>();
    const silent = new Set<string>();
    const troubles = new Map<string, string[]>();
    for (const { path, why } of unreadable) {
      silent.add(path);
      troubles.set(path, [`${path}: ${why}`]);
    }
    for (const file of files) {
      const { unread, repeated } = this.#collectFile(file, found);
      if (unread.length > 0) silent.add(file.path);
      if (unread.length + repeated.length > 0) troubles.set(file.path, [...unread, ...repeated]);
    }
    const present = new Set(files.map(({ path }) => path));
    for (const path of this.#parsed.keys()) if (!present.has(path)) this.#parsed.delete(path);
    return { found, silent, troubles };
  }

  /** Adds what the file has to `found`; the lines tell what could not be read, and what some file before has already. */
  #collectFile(
    file: ConfigFile,
    found: Map<string, Found>,
  ): { readonly unread: readonly string[]; readonly repeated: readonly string[] } {
    const parsed = this.#parse(file);
    const unread = [...parsed.errors];
    const repeated: string[] = [];
    for (const entry of parsed.objects) {
      const identity = identify(entry.value);
      if (identity === undefined) {
        // It has no name to report it under, so every mistake of it is told here.
        const { problems, kind } = checkObject(entry.value);
        if (kind === "read") unread.push(...problems.map(locate(entry)));
        continue;
      }
      const { ref, object } = identity;
      if (!isRead(ref, object)) {
        const { problems } = checkObject(object);
        if (problems.some(({ severity }) => severity === "error")) unread.push(...problems.map(locate(entry)));
        continue;
      }
      const key = refKey(ref);
      const first = found.get(key);
      if (first !== undefined) {
        repeated.push(
          `${entry.place(["metadata", "name"])}: ${describe(ref)} is written twice: see ${first.place}, which counts`,
        );
        continue;
      }
      found.set(key, {
        ref,
        file: file.path,
        bornMs: file.bornMs,
        raw: object,
        place: entry.place(),
        locate: locate(entry),
      });
    }
    return { unread, repeated };
  }

  #parse({ path, text }: ConfigFile): ParsedFile {
    const before = this.#parsed.get(path);
    if (before?.text === text) return before.file;
    const file = parseFile(path, text);
    this.#parsed.set(path, { text, file });
    return file;
  }

  #trouble(admission: Admission, place: string, lines: readonly string[]): void {
    const text = lines.join("\n");
    if ((this.#troubles.get(place) ?? "") === text) return;
    if (text === "") this.#troubles.delete(place);
    else this.#troubles.set(place, text);
    admission.trouble(place, lines);
  }
}

const describe = ({ kind, namespace, name }: ObjectRef): string =>
  `${kind} "${namespace === "" ? name : `${namespace}/${name}`}"`;

/** Whether the mesh reads this kind; the others (Deployments, say) may lie in the folder and mean nothing. */
function isRead({ group, kind }: ObjectRef, object: Readonly<Record<string, unknown>>): boolean {
  if (kind === "MeshConfig" && (object["apiVersion"] ?? "") === "") return true;
  return configKind(group, kind) !== undefined || coreKind(group, kind) !== undefined;
}

/** Tells that something in the folder changed: by the system where it can, and every few seconds anyway. */
class Changes {
  #wake: (() => void) | undefined;
  #isDue = false;
  readonly #watcher: { close(): void } | undefined;
  readonly #signal: AbortSignal;

  constructor(folder: string, log: Logger, signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    try {
      const watcher = watch(folder, { recursive: true, persistent: false });
      watcher.on("change", () => this.#changed());
      // The folder may go away under it; the regular look says so then.
      watcher.on("error", (error) => log.debug({ folder, error: explain(error) }, "folder watch failed"));
      this.#watcher = watcher;
    } catch (thrown) {
      log.info(
        { folder, error: explain(thrown) },
        "changes of the folder are not told by the system: looking every few seconds",
      );
      this.#watcher = undefined;
    }
  }

  /** Resolves after a change and a quiet moment, or after `longestMs`, or when the signal aborts. */
  async next(clock: Clock, longestMs: number): Promise<void> {
    if (!this.#isDue) {
      const timer = new AbortController();
      await Promise.race([
        sleep(clock, longestMs, timer.signal).catch(() => undefined),
        new Promise<void>((resolve) => (this.#wake = resolve)),
      ]);
      timer.abort();
      this.#wake = undefined;
    }
    while (this.#isDue && !this.#signal.aborted) {
      this.#isDue = false;
      await sleep(clock, quietMs, this.#signal).catch(() => undefined);
    }
  }

  close(): void {
    this.#watcher?.close();
  }

  #changed(): void {
    this.#isDue = true;
    this.#wake?.();
  }
}
