/**
 * Keeps the keys that policies want at hand: translation reads what is there and never waits. Bounded in documents, in
 * fetches at a time, and in how often it asks.
 */
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { usableKeys, type FetchedKeys, type KeySource } from "#controlplane/mesh/token-keys.ts";

export interface KeyFetcherOptions {
  /** @throws with a sentence for the author of the policy */
  readonly fetch: (url: string, timeoutMs: number) => Promise<string>;
  /** What is known has changed. */
  readonly onChange: (keys: ReadonlyMap<string, FetchedKeys>) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Keys are looked at again so often, as istiod does. */
const refreshMs = 20 * 60_000;
/** After a failure: at first after a second, then longer and longer. */
const firstRetryMs = 1_000;
const longestRetryMs = 60_000;
const mostSources = 1_000;
const mostAtATime = 4;
/** Whatever a policy says. */
const longestTimeoutMs = 30_000;

interface Entry {
  source: KeySource;
  known: FetchedKeys | undefined;
  failures: number;
  /** Of the next fetch; undefined while it waits for its turn or runs. */
  cancel: (() => void) | undefined;
}

export class KeyFetcher implements Disposable {
  readonly #options: KeyFetcherOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: Entry[] = [];
  #running = 0;
  #isClosed = false;

  constructor(options: KeyFetcherOptions) {
    this.#options = options;
  }

  get keys(): ReadonlyMap<string, FetchedKeys> {
    const known = new Map<string, FetchedKeys>();
    for (const [url, entry] of this.#entries) if (entry.known !== undefined) known.set(url, entry.known);
    return known;
  }

  /** These and no others are kept from now on. */
  want(sources: readonly KeySource[]): void {
    const wanted = new Map(sources.map((source) => [source.url, source]));
    for (const [url, entry] of this.#entries) {
      if (wanted.has(url)) continue;
      entry.cancel?.();
      this.#entries.delete(url);
    }
    for (const [url, source] of wanted) {
      const entry = this.#entries.get(url);
      if (entry !== undefined) entry.source = source;
      else if (this.#entries.size < mostSources) this.#begin(url, source);
      else this.#options.log.warn({ url, limit: mostSources }, "too many documents with keys: this one is not fetched");
    }
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const entry of this.#entries.values()) entry.cancel?.();
    this.#entries.clear();
    this.#queue.length = 0;
  }

  #begin(url: string, source: KeySource): void {
    const entry: Entry = { source, known: undefined, failures: 0, cancel: undefined };
    this.#entries.set(url, entry);
    this.#enqueue(entry);
  }

  #enqueue(entry: Entry): void {
    entry.cancel = undefined;
    this.#queue.push(entry);
    this.#next();
  }

  #next(): void {
    while (this.#running < mostAtATime) {
      const entry = this.#queue.shift();
      if (entry === undefined) return;
      if (!this.#isWanted(entry)) continue;
      this.#running++;
      void this.#refresh(entry).finally(() => {
        this.#running--;
        this.#next();
      });
    }
  }

  #isWanted = (entry: Entry): boolean => !this.#isClosed && this.#entries.get(entry.source.url) === entry;

  async #refresh(entry: Entry): Promise<void> {
    const before = entry.known;
    try {
      entry.known = { jwks: await this.#fetchKeys(entry.source), error: undefined };
      entry.failures = 0;
    } catch (error) {
      // Keys that were good a moment ago stay: their issuer being away for a while is no reason to refuse its tokens.
      entry.known = { jwks: before?.jwks, error: explain(error) };
      entry.failures++;
    }
    if (!this.#isWanted(entry)) return;
    const { clock, log, onChange } = this.#options;
    const { known, failures } = entry;
    if (failures === 1) log.warn({ url: entry.source.url, error: known.error }, "keys for tokens cannot be fetched");
    const delayMs = failures === 0 ? refreshMs : Math.min(firstRetryMs * 2 ** (failures - 1), longestRetryMs);
    entry.cancel = clock.schedule(delayMs, () => this.#enqueue(entry));
    if (known.jwks !== before?.jwks || known.error !== before?.error) onChange(this.keys);
  }

  async #fetchKeys({ url, isDiscovery, timeoutMs }: KeySource): Promise<string> {
    const { fetch } = this.#options;
    const boundMs = Math.min(timeoutMs, longestTimeoutMs);
    const keysUrl = isDiscovery ? keysUrlOf(await fetch(url, boundMs), url) : url;
    const keys = usableKeys(await fetch(keysUrl, boundMs));
    if (keys === undefined) throw new Error(`${keysUrl} holds no JSON Web Key Set with a key that can be used`);
    return keys;
  }
}

function keysUrlOf(document: string, url: string): string {
  let found: unknown;
  try {
    found = (JSON.parse(document) as { readonly jwks_uri?: unknown } | null)?.jwks_uri;
  } catch {
    // As a document without it.
  }
  if (typeof found !== "string") throw new Error(`${url} names no jwks_uri`);
  return found;
}
