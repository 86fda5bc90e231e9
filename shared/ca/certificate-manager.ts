import type { Clock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { isExpired, refreshTimeMs, type WorkloadCertificate } from "./workload-certificate.ts";

/** Where certificates come from: the CA client, or a test. */
export interface CertificateSource {
  fetch(identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate>;
}

/** Who waits: a connection, a pod that has just come, or nobody (renewal, retry). Lower goes first. */
const priorities = { realTime: 0, warmup: 1, background: 2 } as const;
export type Priority = keyof typeof priorities;

/** What is known of one identity, as the admin server shows it. */
export type CertificateState =
  | { readonly at: "initializing"; readonly priority: Priority }
  | { readonly at: "available"; readonly certificate: WorkloadCertificate }
  | { readonly at: "unavailable"; readonly error: MeshError };

/** Requests to the CA in flight at once, as in Istio's ztunnel. */
const parallelFetches = 8;
/** Pods that may wait for their prefetch; a connection fetches for itself what was dropped here. */
export const prefetchBound = 256;
/** Identities held at once: far above the pods of one node (Kubernetes recommends 110), yet a bound. */
const identityBound = 10_000;
/** Renewals of pods that started together are spread over this part of a certificate's life after its half. */
const jitterShare = 0.01;

/** Delays after a failure: 1 s ± 20 %, doubling to 150 s, and 150 s flat after a quarter of an hour. */
const backoff = { firstMs: 1_000, spread: 0.2, capMs: 150_000, flatAfterMs: 15 * 60_000 } as const;

/** Bounds of the time between two renewals, so that a CA with very short or odd lives is not asked in a tight loop. */
const renewalFloorMs = { least: 1_000, most: 60_000 } as const;

interface Failing {
  readonly sinceMs: number;
  readonly delayMs: number;
}

interface Entry {
  readonly identity: SpiffeId;
  state: CertificateState;
  /** Settles when the entry leaves `initializing`. */
  readonly ready: PromiseWithResolvers<WorkloadCertificate>;
  work: Work;
  failing?: Failing;
}

/** What is to be done next for an entry; exactly one thing at a time, hence one request in flight per identity. */
type Work =
  | { readonly at: "scheduled"; readonly cancel: () => void }
  | { readonly at: "queued"; priority: Priority; readonly sinceMs: number; readonly order: number }
  | { readonly at: "running"; readonly abort: AbortController };

export interface CertificateManagerOptions {
  readonly source: CertificateSource;
  readonly clock: Clock;
  readonly log: Logger;
  /** From 0 to 1; a test fixes it. */
  readonly random?: () => number;
}

/**
 * One certificate per identity: fetched on first use or ahead of it, renewed at half of its life, kept while renewal
 * fails and it is still valid. Close with `using`; then nothing is fetched any more and those who wait get an error.
 */
export class CertificateManager implements Disposable {
  readonly #options: Required<CertificateManagerOptions>;
  readonly #entries = new Map<SpiffeId, Entry>();
  readonly #prefetches: SpiffeId[] = [];
  readonly #listeners = new Set<(certificate: WorkloadCertificate) => void>();
  #prefetching = false;
  #running = 0;
  #order = 0;
  #closed = false;

  constructor(options: CertificateManagerOptions) {
    this.#options = { random: Math.random, ...options };
  }

  /**
   * The certificate of an identity, for a connection that waits for it. Waits only for the very first one: after a
   * failure the known error comes at once, and the next attempt is made in the background.
   *
   * @throws MeshError CERTIFICATE_UNAVAILABLE, or the signal's reason
   */
  async certificateFor(identity: SpiffeId, signal?: AbortSignal): Promise<WorkloadCertificate> {
    return this.#certificate(identity, "realTime", signal);
  }

  /** The certificate if there is one now. */
  current(identity: SpiffeId): WorkloadCertificate | undefined {
    const state = this.#entries.get(identity)?.state;
    return state?.at === "available" ? state.certificate : undefined;
  }

  /** Fetches ahead of the first connection, one at a time. False where the queue is full, which is logged. */
  prefetch(identity: SpiffeId): boolean {
    if (this.#closed || this.#entries.has(identity) || this.#prefetches.includes(identity)) return true;
    if (this.#prefetches.length >= prefetchBound) {
      this.#options.log.warn({ identity, bound: prefetchBound }, "certificate prefetch dropped: queue is full");
      return false;
    }
    this.#prefetches.push(identity);
    if (!this.#prefetching) void this.#drainPrefetches();
    return true;
  }

  /** The identity has no pod here any more: its certificate goes, a fetch in flight is discarded. */
  forget(identity: SpiffeId): void {
    const waiting = this.#prefetches.indexOf(identity);
    if (waiting >= 0) this.#prefetches.splice(waiting, 1);
    const entry = this.#entries.get(identity);
    if (entry === undefined) return;
    this.#entries.delete(identity);
    this.#abandon(entry, unavailable(identity, "its last pod left this node"));
  }

  /**
   * Asks anew, at some time within `withinMs`, for the certificates that are outdated and those that the CA has not
   * issued; until then the old ones are in use. What is being asked for anyway is left alone. Answers how many it were.
   */
  renew(isOutdated: (certificate: WorkloadCertificate) => boolean, withinMs: number): number {
    let renewed = 0;
    for (const entry of this.#entries.values()) {
      if (entry.work.at !== "scheduled") continue;
      if (entry.state.at === "available" && !isOutdated(entry.state.certificate)) continue;
      entry.work.cancel();
      this.#schedule(entry, withinMs * this.#options.random());
      renewed++;
    }
    return renewed;
  }

  /** Calls `listener` with every certificate that arrives, the first one included; the returned function ends that. */
  onRotated(listener: (certificate: WorkloadCertificate) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Every identity and how it stands. */
  states(): ReadonlyMap<SpiffeId, CertificateState> {
    return new Map([...this.#entries.values()].map(({ identity, state }) => [identity, state]));
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#prefetches.length = 0;
    this.#listeners.clear();
    for (const entry of this.#entries.values()) this.#abandon(entry, unavailable(entry.identity, "shutting down"));
    this.#entries.clear();
  }

  async #certificate(identity: SpiffeId, priority: Priority, signal?: AbortSignal): Promise<WorkloadCertificate> {
    signal?.throwIfAborted();
    const entry = this.#entries.get(identity) ?? this.#add(identity, priority);
    switch (entry.state.at) {
      case "available":
        return entry.state.certificate;
      case "unavailable":
        throw entry.state.error;
      case "initializing":
        this.#raise(entry, priority);
        return orAborted(entry.ready.promise, signal);
    }
  }

  async #drainPrefetches(): Promise<void> {
    this.#prefetching = true;
    for (let next = this.#prefetches.shift(); next !== undefined; next = this.#prefetches.shift()) {
      await this.#certificate(next, "warmup").catch(() => {
        // Logged where it failed; the retry is on its way.
      });
    }
    this.#prefetching = false;
  }

  #add(identity: SpiffeId, priority: Priority): Entry {
    if (this.#closed) throw unavailable(identity, "shutting down");
    if (this.#entries.size >= identityBound) {
      throw unavailable(identity, `${identityBound} identities are held already`);
    }
    const ready = Promise.withResolvers<WorkloadCertificate>();
    ready.promise.catch(() => {
      // Nobody may be waiting, as after a prefetch.
    });
    const entry: Entry = { identity, state: { at: "initializing", priority }, ready, work: this.#queued(priority) };
    this.#entries.set(identity, entry);
    this.#startNext();
    return entry;
  }

  #queued(priority: Priority): Work {
    return { at: "queued", priority, sinceMs: this.#options.clock.now(), order: this.#order++ };
  }

  /** A connection now waits for what was fetched ahead. */
  #raise(entry: Entry, priority: Priority): void {
    if (entry.state.at !== "initializing" || priorities[priority] >= priorities[entry.state.priority]) return;
    entry.state = { at: "initializing", priority };
    if (entry.work.at === "queued") entry.work.priority = priority;
  }

  #startNext(): void {
    while (this.#running < parallelFetches) {
      const next = this.#first();
      if (next === undefined) return;
      const abort = new AbortController();
      next.work = { at: "running", abort };
      this.#running++;
      void this.#run(next, abort.signal);
    }
  }

  #first(): Entry | undefined {
    let best: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.work.at === "queued" && (best?.work.at !== "queued" || goesBefore(entry.work, best.work))) best = entry;
    }
    return best;
  }

  async #run(entry: Entry, signal: AbortSignal): Promise<void> {
    const { source, clock } = this.#options;
    try {
      const certificate = await source.fetch(entry.identity, signal);
      if (isExpired(certificate, clock.now())) {
        throw unavailable(entry.identity, `the CA's certificate expired at ${isoTime(certificate.notAfterMs)}`);
      }
      if (!signal.aborted) this.#succeeded(entry, certificate);
    } catch (error) {
      if (!signal.aborted) this.#failed(entry, error);
    } finally {
      this.#running--;
      this.#startNext();
    }
  }

  #succeeded(entry: Entry, certificate: WorkloadCertificate): void {
    entry.state = { at: "available", certificate };
    delete entry.failing;
    this.#schedule(entry, renewalDelayMs(certificate, this.#options.clock.now(), this.#options.random()));
    entry.ready.resolve(certificate);
    for (const listener of this.#listeners) {
      try {
        listener(certificate);
      } catch (error) {
        this.#options.log.error({ identity: entry.identity, error: explain(error) }, "certificate listener failed");
      }
    }
  }

  #failed(entry: Entry, error: unknown): void {
    const { clock, log, random } = this.#options;
    const nowMs = clock.now();
    const failing = nextFailure(entry.failing, nowMs, random());
    entry.failing = failing;
    const kept = entry.state.at === "available" && !isExpired(entry.state.certificate, nowMs);
    const retryInMs =
      kept && entry.state.at === "available"
        ? Math.min(failing.delayMs, entry.state.certificate.notAfterMs - nowMs)
        : failing.delayMs;
    log.warn(
      { identity: entry.identity, error: explain(error), retryInMs: Math.round(retryInMs), servingOldOne: kept },
      "certificate request failed",
    );
    this.#schedule(entry, retryInMs);
    if (kept) return;
    const known = unavailable(entry.identity, "the CA did not issue one", error);
    entry.state = { at: "unavailable", error: known };
    entry.ready.reject(known);
  }

  #schedule(entry: Entry, delayMs: number): void {
    const { clock } = this.#options;
    const dueMs = clock.now() + delayMs;
    const wake = () => {
      // A timer is cut to 24 days: look at the time again.
      if (clock.now() < dueMs) {
        entry.work = { at: "scheduled", cancel: clock.schedule(dueMs - clock.now(), wake) };
        return;
      }
      entry.work = this.#queued("background");
      this.#startNext();
    };
    entry.work = { at: "scheduled", cancel: clock.schedule(delayMs, wake) };
  }

  #abandon(entry: Entry, error: MeshError): void {
    if (entry.work.at === "scheduled") entry.work.cancel();
    if (entry.work.at === "running") entry.work.abort.abort(error);
    entry.ready.reject(error);
  }
}

function goesBefore(a: Work & { at: "queued" }, b: Work & { at: "queued" }): boolean {
  const byPriority = priorities[a.priority] - priorities[b.priority];
  if (byPriority !== 0) return byPriority < 0;
  return a.sinceMs === b.sinceMs ? a.order < b.order : a.sinceMs < b.sinceMs;
}

/** From now to half of its life and a little, so that pods that started together do not ask together for ever. */
function renewalDelayMs(certificate: WorkloadCertificate, nowMs: number, random: number): number {
  const { notBeforeMs, notAfterMs } = certificate;
  const floorMs = Math.min(Math.max((notAfterMs - nowMs) / 4, renewalFloorMs.least), renewalFloorMs.most);
  const jitterMs = (notAfterMs - notBeforeMs) * jitterShare * random;
  const dueMs = nowMs < notBeforeMs ? nowMs : refreshTimeMs(certificate) + jitterMs;
  return Math.max(dueMs - nowMs, floorMs);
}

function nextFailure(before: Failing | undefined, nowMs: number, random: number): Failing {
  if (before === undefined) {
    return { sinceMs: nowMs, delayMs: backoff.firstMs * (1 - backoff.spread + 2 * backoff.spread * random) };
  }
  const isFlat = nowMs - before.sinceMs >= backoff.flatAfterMs;
  return { sinceMs: before.sinceMs, delayMs: isFlat ? backoff.capMs : Math.min(before.delayMs * 2, backoff.capMs) };
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

const isoTime = (ms: number) => (Number.isFinite(ms) ? new Date(ms).toISOString() : "an unreadable time");

const unavailable = (identity: SpiffeId, why: string, cause?: unknown) =>
  new MeshError("CERTIFICATE_UNAVAILABLE", `Cannot obtain a certificate for "${identity}": ${why}`, cause);
