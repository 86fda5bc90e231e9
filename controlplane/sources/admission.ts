import { formatProblem, hasErrors, type Problem } from "#controlplane/schema/problem.ts";
import { checkObject } from "#controlplane/schema/validate.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { refKey, refOf, type ObjectRef, type SourceListener, type SourceObject } from "./source.ts";

interface Entry {
  /** The last version that took force. */
  kept: SourceObject | undefined;
  /** The version that came last, in force or refused. */
  latest: SourceObject;
  /** What was logged of it: a changed status brings the same object again. */
  said: string;
}

/** Says where a problem stands, for a person. */
export type Locate = (problem: Problem) => string;

/**
 * What both sources pass their objects through: an object takes force only when it is valid, and of an object that
 * turned invalid the last valid version stays. Policies are the reason: half of one is not a weaker policy but another.
 */
export class Admission {
  readonly #entries = new Map<string, Entry>();
  readonly #listener: SourceListener;
  readonly #log: Logger;

  constructor(listener: SourceListener, log: Logger) {
    this.#listener = listener;
    this.#log = log;
  }

  /** The version that came last. */
  latest(ref: ObjectRef): SourceObject | undefined {
    return this.#entries.get(refKey(ref))?.latest;
  }

  offer(object: SourceObject, locate: Locate = formatProblem): void {
    const checked = checkObject(object);
    if (checked.kind === "unread") return;
    const { problems } = checked;
    const ref = refOf(object);
    const key = refKey(ref);
    const before = this.#entries.get(key);
    const kept = before?.kept;
    const lines = problems.map((problem) => locate(problem));
    const said = lines.join("\n");
    const isNews = said !== (before?.said ?? "");
    if (hasErrors(problems)) {
      this.#entries.set(key, { kept, latest: object, said });
      const effect = kept === undefined ? "the object has no effect" : "its last valid version stays in force";
      if (isNews) this.#log.warn({ ...ref, problems: lines }, `object refused: ${effect}`);
      this.#listener({ type: "refuse", ref, object, kept, problems, lines });
      return;
    }
    if (isNews && lines.length > 0) this.#log.info({ ...ref, problems: lines }, "object accepted with warnings");
    this.#entries.set(key, { kept: object, latest: object, said });
    this.#listener({ type: "upsert", ref, object, problems });
  }

  remove(ref: ObjectRef): void {
    const key = refKey(ref);
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#listener({ type: "remove", ref, object: entry.kept ?? entry.latest });
  }

  trouble(place: string, lines: readonly string[]): void {
    if (lines.length > 0)
      this.#log.warn({ place, problems: lines }, "configuration cannot be read: what was known stays in force");
    else this.#log.info({ place }, "configuration can be read again");
    this.#listener({ type: "trouble", place, lines });
  }
}
