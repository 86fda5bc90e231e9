/** Keeps one name resolved: asks again when its answer has aged, later and later while there is none. */
import type { Clock } from "#shared/clock/clock.ts";
import type { DnsConfig } from "../compile/compile-discovery.ts";
import { lookupName, type Resolved } from "./lookup.ts";
import type { Resolver } from "./resolver.ts";

export interface NameWatchOptions {
  readonly name: string;
  readonly config: Pick<DnsConfig, "family" | "refreshMs" | "respectsTtl" | "jitterMs" | "failure">;
  readonly resolver: Resolver;
  readonly clock: Clock;
  /** [0, 1). */
  readonly random: () => number;
  /** An answer, which may be empty. */
  readonly onResolved: (resolved: Resolved) => void;
  /** No answer; what was known still counts. */
  readonly onFailure: (error: unknown) => void;
  /** Never asks more often. Default 1 s. */
  readonly minRefreshMs?: number | undefined;
}

const minRefreshDefaultMs = 1_000;

export class NameWatch implements Disposable {
  readonly #options: NameWatchOptions;
  #failures = 0;
  #isClosed = false;
  #cancel: () => void = () => {};

  constructor(options: NameWatchOptions) {
    this.#options = options;
    void this.#ask();
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#cancel();
  }

  async #ask(): Promise<void> {
    const { name, config, resolver, onResolved, onFailure } = this.#options;
    try {
      const resolved = await lookupName(resolver, name, config.family);
      if (this.#isClosed) return;
      this.#failures = 0;
      onResolved(resolved);
      this.#again(this.#refreshMs(resolved));
    } catch (error) {
      if (this.#isClosed) return;
      onFailure(error);
      this.#again(this.#backoffMs());
    }
  }

  #again(delayMs: number): void {
    this.#cancel = this.#options.clock.schedule(delayMs, () => void this.#ask());
  }

  #refreshMs({ ttlMs }: Resolved): number {
    const { config, random, minRefreshMs = minRefreshDefaultMs } = this.#options;
    const jitterMs = config.jitterMs === 0 ? 0 : random() * config.jitterMs;
    if (!config.respectsTtl || ttlMs === undefined || ttlMs === 0) return config.refreshMs + jitterMs;
    return Math.max(ttlMs, minRefreshMs) + jitterMs;
  }

  /** Doubles up to the largest; spread, so that a fleet does not ask in step. */
  #backoffMs(): number {
    const { failure } = this.#options.config;
    const growing = Math.min(failure.baseMs * 2 ** Math.min(this.#failures++, 30), failure.maxMs);
    if (failure.maxMs === failure.baseMs) return growing;
    return growing / 2 + (this.#options.random() * growing) / 2;
  }
}
