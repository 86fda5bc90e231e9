/** Limits in the files of a folder, such as a mounted ConfigMap: read at the start, and again when the files change. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { readSettled } from "#shared/config/read-settled.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { Limits } from "./limits.ts";

/** Notices of changes do not come from every kind of volume; files of limits are few and small. */
const lookEveryMs = 5_000;

interface Files {
  /** Name and text of each, in order of their names. */
  readonly files: readonly (readonly [name: string, text: string])[];
  readonly limits: Limits;
}

export class LimitFolder implements Disposable {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  #current: Files;
  #problem = "";
  readonly #closing = new AbortController();

  private constructor(folder: string, clock: Clock, log: Logger, first: Files) {
    this.#folder = folder;
    this.#clock = clock;
    this.#log = log;
    this.#current = first;
    void this.#follow();
  }

  /** @throws MeshError CONFIG_INVALID with everything that is wrong */
  static async open(folder: string, clock: Clock, log: Logger): Promise<LimitFolder> {
    const files = await readFiles(folder);
    return new LimitFolder(folder, clock, log, { files, limits: limitsIn(files) });
  }

  /** Those of the files as they were last good. */
  get limits(): Limits {
    return this.#current.limits;
  }

  /** Ends when it is closed. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await sleep(this.#clock, lookEveryMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.#look(signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const isAsBefore = (files: Files["files"]): boolean => isDeepStrictEqual(files, this.#current.files);
    try {
      const files = await readSettled({ read: () => readFiles(this.#folder), isAsBefore, clock: this.#clock, signal });
      if (!isAsBefore(files)) {
        this.#current = { files, limits: limitsIn(files) };
        this.#log.info({ files: files.map(([name]) => name) }, "limits have changed");
      }
      this.#problem = "";
    } catch (thrown) {
      if (signal.aborted) return;
      const problem = explain(thrown);
      if (problem !== this.#problem) this.#log.warn({ error: problem }, "limits stay as they were");
      this.#problem = problem;
    }
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
  }
}

async function readFiles(folder: string): Promise<Files["files"]> {
  try {
    const names = (await readdir(folder)).filter((each) => /\.ya?ml$/.test(each)).sort();
    return await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name), "utf8")] as const));
  } catch (error) {
    throw new MeshError("CONFIG_INVALID", `Cannot read RATE_LIMIT_CONFIG="${folder}": ${explain(error)}`);
  }
}

function limitsIn(files: Files["files"]): Limits {
  const limits = new Limits();
  for (const [name, text] of files) limits.add(name, text);
  return limits;
}
