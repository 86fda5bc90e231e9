import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Authorization } from "#shared/proto/gen/security/authorization_pb.js";
import type { Address } from "#shared/proto/gen/workload/workload_pb.js";
import { AddressSource } from "./address-source.ts";
import { AuthorizationSource } from "./authorization-source.ts";

/** What a translation serves. */
export interface Served {
  readonly addresses: ReadonlyMap<string, Address>;
  readonly authorizations: ReadonlyMap<string, Authorization>;
}

export interface PublisherOptions<T extends Served> {
  /** Pure; reads the world as it is now. */
  readonly translate: () => T;
  /** Told of every translation that took force, changed or not: statuses are written from it. */
  readonly onPublished?: (translation: T) => void;
  /** For metrics. */
  readonly onAttempt?: (durationMs: number, outcome: "ok" | "failed") => void;
  readonly clock: Clock;
  readonly log: Logger;
  /** Wait for this long without a change … Unit: milliseconds; 100 as istiod's PILOT_DEBOUNCE_AFTER. */
  readonly quietMs: number;
  /**
   * … but publish at the latest this long after the first. 10 000 as istiod's PILOT_DEBOUNCE_MAX; sooner where translating
   * is cheap, so that a policy does not wait for the end of a rollout.
   */
  readonly longestMs: number;
}

/** How the last attempts went, for `/debug` and metrics. */
export interface PublisherStatus {
  readonly translations: number;
  readonly lastMs?: number;
  readonly lastDurationMs?: number;
  /** Of the newest attempt, where it failed; then the state before it is in force. */
  readonly error?: string;
}

/** A stream of changes is published every so many quiet periods, or translations' durations: a tenth of a core. */
const quietPeriods = 5;
const durations = 10;

/**
 * Turns "something changed" into what is served: gathers changes for a moment, translates, and swaps the result in. A
 * translation that throws changes nothing: the last good state stays in force and the reason is logged.
 */
export class Publisher<T extends Served> implements Disposable {
  readonly addresses = new AddressSource();
  readonly authorizations = new AuthorizationSource();
  readonly #options: PublisherOptions<T>;
  #waiting: { readonly sinceMs: number; cancel: () => void } | undefined;
  #status: PublisherStatus = { translations: 0 };
  #last: T | undefined;

  constructor(options: PublisherOptions<T>) {
    this.#options = options;
  }

  /** The last translation in force; undefined before the first. */
  get last(): T | undefined {
    return this.#last;
  }

  get status(): PublisherStatus {
    return this.#status;
  }

  /** Something that translation reads has changed. */
  changed(): void {
    const { clock, quietMs, longestMs } = this.#options;
    const nowMs = clock.now();
    const sinceMs = this.#waiting?.sinceMs ?? nowMs;
    this.#waiting?.cancel();
    const affordableMs = Math.max(quietMs * quietPeriods, (this.#status.lastDurationMs ?? 0) * durations);
    const latestMs = sinceMs + Math.min(longestMs, affordableMs);
    const delayMs = Math.min(quietMs, Math.max(latestMs - nowMs, 0));
    this.#waiting = { sinceMs, cancel: clock.schedule(delayMs, () => this.publish()) };
  }

  /** Translates and serves now: once everything is known at the start, and whenever the debounce has passed. */
  publish(): void {
    this.#waiting?.cancel();
    this.#waiting = undefined;
    const { clock, log, translate, onPublished, onAttempt } = this.#options;
    const startedMs = clock.now();
    const translations = this.#status.translations + 1;
    try {
      const translation = translate();
      const swapPolicies = this.authorizations.stage(translation.authorizations.values());
      const swapAddresses = this.addresses.stage(translation.addresses.values());
      // Policies first: an address that names a policy is then not ahead of it on a stream.
      const policies = swapPolicies();
      const addresses = swapAddresses();
      this.#last = translation;
      this.#status = { translations, lastMs: startedMs, lastDurationMs: clock.now() - startedMs };
      if (addresses.size + policies.size > 0) {
        log.info({ addresses: addresses.size, policies: policies.size }, "configuration changed");
      }
      onAttempt?.(clock.now() - startedMs, "ok");
      onPublished?.(translation);
      // What others make of it, such as each waypoint's view, is part of what a publication costs.
      this.#status = { ...this.#status, lastDurationMs: clock.now() - startedMs };
    } catch (error) {
      this.#status = { ...this.#status, translations, error: explain(error) };
      onAttempt?.(clock.now() - startedMs, "failed");
      log.error({ error: explain(error), stack: error instanceof Error ? error.stack : undefined }, keptSentence);
    }
  }

  [Symbol.dispose](): void {
    this.#waiting?.cancel();
    this.#waiting = undefined;
  }
}

const keptSentence = "translation failed, the last good configuration stays in force";
