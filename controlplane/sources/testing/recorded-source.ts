import type { ConfigSource, Refuse, SourceEvent, SourceObject } from "../source.ts";
import { refKey } from "../source.ts";

/** Runs a source, keeps what it told, and waits for what it is expected to tell. */
export class RecordedSource implements AsyncDisposable {
  readonly events: SourceEvent[] = [];
  /** What is in force, by `group/kind/namespace/name`. */
  readonly inForce = new Map<string, SourceObject>();
  readonly refused = new Map<string, Refuse>();
  readonly troubles = new Map<string, readonly string[]>();
  isSynced = false;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #waiting: { readonly isMet: () => boolean; readonly resolve: () => void }[] = [];

  constructor(source: ConfigSource) {
    this.#running = source.run((event) => this.#take(event), this.#stop.signal);
    this.#running.catch(() => undefined);
  }

  /** Resolves once `isMet`, which is asked after every event; rejects where the source ends before. */
  async until(isMet: () => boolean): Promise<void> {
    if (isMet()) return;
    const met = new Promise<void>((resolve) => this.#waiting.push({ isMet, resolve }));
    await Promise.race([met, this.#running.then(() => Promise.reject(new Error("The source ended")))]);
  }

  synced(): Promise<void> {
    return this.until(() => this.isSynced);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #take(event: SourceEvent): void {
    this.events.push(event);
    switch (event.type) {
      case "upsert":
        this.inForce.set(refKey(event.ref), event.object);
        this.refused.delete(refKey(event.ref));
        break;
      case "remove":
        this.inForce.delete(refKey(event.ref));
        this.refused.delete(refKey(event.ref));
        break;
      case "refuse":
        this.refused.set(refKey(event.ref), event);
        break;
      case "trouble":
        if (event.lines.length === 0) this.troubles.delete(event.place);
        else this.troubles.set(event.place, event.lines);
        break;
      case "synced":
        this.isSynced = true;
        break;
    }
    const met = this.#waiting.filter(({ isMet }) => isMet());
    this.#waiting = this.#waiting.filter((waiter) => !met.includes(waiter));
    for (const { resolve } of met) resolve();
  }
}
