/**
 * All of a daemon's logs: one buffered writer on standard output, JSON or Istio's plain lines, and levels that an
 * operator changes while it runs.
 */
import { openSync } from "node:fs";
import { pino, type Logger } from "pino";

export type LogFormat = "plain" | "json";
export type Level = "error" | "warn" | "info" | "debug" | "trace" | "off";

/** Where finished lines go. */
export interface LineSink {
  write(line: string): void;
  /** Writes what is buffered before it returns. */
  flushSync(): void;
}

/** What waits for a reader that has stopped reading is bounded; past it lines are lost rather than memory. */
const maxBufferedBytes = 8 * 1024 * 1024;

/** Lines wait for company this long, or until there are so many: a write for each costs a tenth of a short connection. */
const gathering = { ms: 5, characters: 32_768 } as const;

/** Standard output, written in the background in batches. */
export const openStdoutSink = (): LineSink =>
  gathered(pino.destination({ dest: 1, sync: false, minLength: 0, maxLength: maxBufferedBytes }));

/** A file that lines are added to, in the same way; undefined where it cannot be opened. */
export function openFileSink(path: string): LineSink | undefined {
  try {
    const fd = openSync(path, "a");
    return gathered(pino.destination({ dest: fd, sync: false, minLength: 0, maxLength: maxBufferedBytes }));
  } catch {
    return undefined;
  }
}

function gathered(destination: ReturnType<typeof pino.destination>): LineSink {
  let lines = "";
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    const text = lines;
    lines = "";
    if (text !== "") destination.write(text);
  };
  return {
    write: (line) => {
      lines += line;
      if (lines.length >= gathering.characters) flush();
      else timer ??= setTimeout(flush, gathering.ms);
    },
    flushSync: () => {
      try {
        flush();
        destination.flushSync();
      } catch {
        // Standard output is closed or was never opened: nobody reads what is left.
      }
    },
  };
}

/** `info,access=debug`: a level for everything, and levels for single scopes. */
export interface LogFilter {
  readonly fallback: Level;
  readonly scopes: ReadonlyMap<string, Level>;
}

const levels: readonly Level[] = ["trace", "debug", "info", "warn", "error", "off"];
const isLevel = (text: string): text is Level => levels.some((level) => level === text);

/** Reads a filter on top of another; undefined where an item is neither a level nor `scope=level`. */
export function parseFilter(
  text: string,
  base: LogFilter = { fallback: "info", scopes: new Map() },
): LogFilter | undefined {
  let { fallback } = base;
  const scopes = new Map(base.scopes);
  for (const item of text.split(",").map((part) => part.trim())) {
    const [scope = "", level, ...more] = item.split("=");
    const wanted = (level ?? scope).toLowerCase();
    if (more.length > 0 || !isLevel(wanted)) return undefined;
    if (level === undefined) fallback = wanted;
    else scopes.set(scope.replace(/^ztunnel::/, ""), wanted);
  }
  return { fallback, scopes };
}

export const formatFilter = ({ fallback, scopes }: LogFilter): string =>
  [...[...scopes].map(([scope, level]) => `${scope}=${level}`), fallback].join(",");

/** Opens loggers by scope and keeps their levels at what the filter says. */
export class Logging {
  readonly format: LogFormat;
  readonly #sink: LineSink;
  readonly #initial: LogFilter;
  #filter: LogFilter;
  readonly #loggers = new Map<string, Logger>();

  constructor(format: LogFormat, filter: LogFilter, sink: LineSink) {
    this.format = format;
    this.#initial = filter;
    this.#filter = filter;
    this.#sink = sink;
  }

  /** The logger of a scope, for as long as the process runs. */
  scope(name: string): Logger {
    let logger = this.#loggers.get(name);
    if (logger === undefined) {
      logger = pino(
        {
          level: pinoLevel(this.levelOf(name)),
          base: { scope: name },
          messageKey: "message",
          timestamp: () => `,"time":"${timestamp(Date.now())}"`,
          formatters: { level: (label) => ({ level: label }) },
          redact: { paths: ["token", "key", "privateKey", "*.token", "*.privateKey"], censor: "[redacted]" },
        },
        this.format === "json"
          ? { write: (line: string) => this.#sink.write(line) }
          : { write: (line: string) => this.#sink.write(plainLine(line)) },
      );
      this.#loggers.set(name, logger);
    }
    return logger;
  }

  /** For lines that are formatted elsewhere because there are many of them. */
  get sink(): LineSink {
    return this.#sink;
  }

  levelOf(scope: string): Level {
    return this.#filter.scopes.get(scope) ?? this.#filter.fallback;
  }

  isEnabled(scope: string, level: Level): boolean {
    return levels.indexOf(level) >= levels.indexOf(this.levelOf(scope));
  }

  get filter(): LogFilter {
    return this.#filter;
  }

  /** What the process started with. */
  get initialFilter(): LogFilter {
    return this.#initial;
  }

  setFilter(filter: LogFilter): void {
    this.#filter = filter;
    for (const [name, logger] of this.#loggers) logger.level = pinoLevel(this.levelOf(name));
  }
}

const pinoLevel = (level: Level): string => (level === "off" ? "silent" : level);

let lastSecond = -1;
let lastPrefix = "";

/** RFC 3339 in UTC with microseconds, as Istio's ztunnel writes it; the clock gives us milliseconds. */
export function timestamp(nowMs: number): string {
  const second = Math.floor(nowMs / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastPrefix = new Date(second * 1000).toISOString().slice(0, 20);
  }
  return `${lastPrefix}${String(nowMs - second * 1000).padStart(3, "0")}000Z`;
}

/** `time<TAB>level<TAB>scope<TAB>message<TAB>key=value …` from one JSON line. */
export function plainLine(json: string): string {
  const { level, time, scope, message, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const rest = Object.entries(fields).map(([key, value]) => `${oneLine(key)}=${visible(JSON.stringify(value))}`);
  const head = [time, level, scope, message ?? ""].map((part) => oneLine(String(part))).join("\t");
  return rest.length === 0 ? `${head}\n` : `${head}\t${rest.join(" ")}\n`;
}

/** Nothing in a field that others wrote ends the line, or speaks to the terminal that shows it. */
const oneLine = (text: string): string => visible(text.replaceAll(/[\n\t\r]/g, " "));

/** Of the control characters JSON escapes the older half alone; the rest, and what reorders or breaks lines, here. */
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const invisible = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

export const visible = (text: string): string =>
  text.replace(invisible, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
