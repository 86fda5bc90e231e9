import { collectionPath, objectPath } from "#controlplane/sources/kubernetes/collection.ts";
import { isStatus, type KubeClient } from "#controlplane/sources/kubernetes/kube-client.ts";
import { sleep, systemClock, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";

export interface LeaderElectorOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  /** Name of the Lease; RBAC names it too. */
  readonly name: string;
  /** Who we are: the pod's name. */
  readonly identity: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Called each time leadership is won. */
  readonly onLead?: () => void;
}

/** A lease not renewed for this long is free. Twice what a renewal may take, thrice how often it happens. */
const leaseMs = 15_000;
const renewMs = 5_000;
const releaseMs = 2_000;

interface Lease {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

/**
 * Of several control planes one leads: who holds the Lease. Clocks of machines differ, so the age of somebody else's
 * lease is measured from when we saw it change, never from the time written in it.
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions;
  readonly #clock: Clock;
  /** Until when our own lease certainly holds. */
  #leadsUntilMs = 0;
  #wasLeading = false;
  #seen = { renewTime: "", holder: "", atMs: 0 };

  constructor(options: LeaderElectorOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  isLeader(): boolean {
    return this.#clock.now() < this.#leadsUntilMs;
  }

  /** Seeks and keeps the lease until `signal` aborts, then gives it back. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#tryOnce(signal);
      } catch (thrown) {
        if (signal.aborted) break;
        log.warn({ error: explain(thrown) }, "leader lease cannot be read or written: trying again");
      }
      this.#tell();
      await sleep(this.#clock, renewMs, signal).catch(() => undefined);
    }
    await this.#release().catch((thrown: unknown) =>
      log.debug({ error: explain(thrown) }, "leader lease not released"),
    );
  }

  async #tryOnce(signal: AbortSignal): Promise<void> {
    const startedMs = this.#clock.now();
    const lease = await this.#read(signal);
    if (lease === undefined) {
      if (await this.#create(signal)) this.#leadsUntilMs = startedMs + leaseMs;
      return;
    }
    const {
      holderIdentity = "",
      renewTime = "",
      leaseDurationSeconds = leaseMs / 1_000,
      leaseTransitions = 0,
    } = lease.spec ?? {};
    const isOurs = holderIdentity === this.#options.identity;
    if (renewTime !== this.#seen.renewTime || holderIdentity !== this.#seen.holder || this.#seen.atMs === 0) {
      this.#seen = { renewTime, holder: holderIdentity, atMs: startedMs };
    }
    const isFree = holderIdentity === "" || startedMs - this.#seen.atMs > leaseDurationSeconds * 1_000;
    if (!isOurs && !isFree) {
      this.#leadsUntilMs = 0;
      return;
    }
    const now = this.#timestamp();
    const written = await this.#update(
      {
        ...lease,
        spec: {
          holderIdentity: this.#options.identity,
          leaseDurationSeconds: leaseMs / 1_000,
          acquireTime: isOurs ? (lease.spec?.acquireTime ?? now) : now,
          renewTime: now,
          leaseTransitions: isOurs ? leaseTransitions : leaseTransitions + 1,
        },
      },
      signal,
    );
    this.#leadsUntilMs = written ? startedMs + leaseMs : 0;
  }

  #tell(): void {
    const { log, identity, onLead } = this.#options;
    const isLeading = this.isLeader();
    if (isLeading === this.#wasLeading) return;
    this.#wasLeading = isLeading;
    log.info({ identity }, isLeading ? "leading: statuses are written here" : "another control plane leads");
    if (isLeading) onLead?.();
  }

  async #release(): Promise<void> {
    if (!this.isLeader()) return;
    this.#leadsUntilMs = 0;
    // A courtesy to the next one, which an API server that is away must not make us wait for.
    const late = new AbortController();
    const cancel = this.#clock.schedule(releaseMs, () => late.abort());
    try {
      const lease = await this.#read(late.signal);
      if (lease?.spec?.holderIdentity !== this.#options.identity) return;
      const spec = { ...lease.spec, holderIdentity: "", renewTime: this.#timestamp() };
      await this.#update({ ...lease, spec }, late.signal);
    } finally {
      cancel();
    }
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    try {
      return await this.#options.client.request<Lease>(this.#path, { signal });
    } catch (thrown) {
      if (isStatus(thrown, 404)) return undefined;
      throw thrown;
    }
  }

  async #create(signal: AbortSignal): Promise<boolean> {
    const { client, namespace, name, identity } = this.#options;
    const now = this.#timestamp();
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: leaseMs / 1_000,
      acquireTime: now,
      renewTime: now,
      leaseTransitions: 0,
    };
    const body = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace }, spec };
    const path = collectionPath({ ...leases, versions: ["v1"], kind: "Lease", namespace }, "v1");
    return this.#wins(client.request(path, { method: "POST", body, signal }));
  }

  #update(lease: Lease, signal: AbortSignal): Promise<boolean> {
    return this.#wins(this.#options.client.request(this.#path, { method: "PUT", body: lease, signal }));
  }

  /** False where somebody else was faster. */
  async #wins(write: Promise<unknown>): Promise<boolean> {
    try {
      await write;
      return true;
    } catch (thrown) {
      if (isStatus(thrown, 409)) return false;
      throw thrown;
    }
  }

  get #path(): string {
    const { namespace, name } = this.#options;
    return objectPath({ ...leases, version: "v1" }, { namespace, name });
  }

  /** With microseconds, as the kind demands. */
  #timestamp(): string {
    return new Date(this.#clock.now()).toISOString().replace("Z", "000Z");
  }
}

const leases = { group: "coordination.k8s.io", plural: "leases" };
