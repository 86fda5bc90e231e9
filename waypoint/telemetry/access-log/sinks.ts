/** Where access logs are written: the streams of the process, or files that are opened once and kept. */
import process from "node:process";
import { openFileSink, type LineSink } from "#shared/observe/logging.ts";
import type { LogSinks } from "./compile-loggers.ts";

/** More than any mesh names. */
const maxFiles = 16;

export class ProcessSinks implements LogSinks {
  readonly #stdout: LineSink;
  readonly #files = new Map<string, LineSink>();

  constructor(stdout: LineSink) {
    this.#stdout = stdout;
  }

  open(path: string): LineSink | undefined {
    if (path === "/dev/stdout") return this.#stdout;
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    if (this.#files.size >= maxFiles) return undefined;
    const sink = path === "/dev/stderr" ? stderr : openFileSink(path);
    if (sink !== undefined) this.#files.set(path, sink);
    return sink;
  }

  flushSync(): void {
    for (const sink of this.#files.values()) sink.flushSync();
  }
}

const stderr: LineSink = {
  write: (line) => void process.stderr.write(line),
  flushSync: () => {},
};
