import { namedConfigMaps } from "#controlplane/mesh/ca-references.ts";
import { refKey, type SourceEvent } from "../source.ts";

export interface ConfigMapWatching {
  /** Begins to watch one ConfigMap; resolves when `signal` has ended that, and never rejects. */
  watch(namespace: string, name: string, signal: AbortSignal): Promise<void>;
  /** Nobody names it any more: what was told of it does not hold. */
  forget(namespace: string, name: string): void;
}

/**
 * Watches the ConfigMaps that objects in force name, and no others: a cluster is full of them, and what they hold is none of
 * the mesh's business. One watch each, as kubelets have for those that pods mount.
 */
export class NamedConfigMaps {
  readonly #watching: ConfigMapWatching;
  readonly #signal: AbortSignal;
  /** Places that each object names. */
  readonly #namedBy = new Map<string, ReadonlySet<string>>();
  readonly #watches = new Map<string, AbortController>();
  readonly #running = new Set<Promise<void>>();

  /** @param signal ends all of it */
  constructor(watching: ConfigMapWatching, signal: AbortSignal) {
    this.#watching = watching;
    this.#signal = signal;
  }

  /** To be told of every object. What is refused changes nothing: the version before stays in force. */
  take(event: SourceEvent): void {
    if (event.type !== "upsert" && event.type !== "remove") return;
    const key = refKey(event.ref);
    const before = this.#namedBy.get(key);
    const named = event.type === "remove" ? [] : namedConfigMaps(event.object);
    if (before === undefined && named.length === 0) return;
    const places = new Set(named.map(({ namespace, name }) => `${namespace}/${name}`));
    if (places.size === 0) this.#namedBy.delete(key);
    else this.#namedBy.set(key, places);
    for (const place of places) this.#begin(place);
    for (const place of before ?? []) if (!places.has(place)) this.#endUnlessNamed(place);
  }

  /** Resolves when every watch is closed, after the signal. */
  async closed(): Promise<void> {
    await Promise.all(this.#running);
  }

  #begin(place: string): void {
    if (this.#watches.has(place)) return;
    const abort = new AbortController();
    this.#watches.set(place, abort);
    const running = this.#watching.watch(...partsOf(place), AbortSignal.any([this.#signal, abort.signal]));
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  #endUnlessNamed(place: string): void {
    for (const places of this.#namedBy.values()) if (places.has(place)) return;
    this.#watches.get(place)?.abort();
    this.#watches.delete(place);
    this.#watching.forget(...partsOf(place));
  }
}

function partsOf(place: string): [namespace: string, name: string] {
  const slash = place.indexOf("/");
  return [place.slice(0, slash), place.slice(slash + 1)];
}
