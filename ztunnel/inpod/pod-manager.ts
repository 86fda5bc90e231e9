/**
 * The pods this ztunnel serves: starts and stops their proxies as the node agent tells, remembers across a reconnect
 * what was named, retries what failed. One change at a time; the transport stands in `zds-client.ts`.
 */
import { explain } from "#shared/errors/mesh-error.ts";
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { NetworkNamespace } from "./netns-sockets.ts";

export interface PodInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** What a factory gets to serve a pod with. The namespace stays open until `stop` or `drain` has settled. */
export interface PodToServe {
  /** Kubernetes' uid of the pod. */
  readonly uid: string;
  readonly info: PodInfo;
  readonly netns: NetworkNamespace;
}

/** A pod's running listeners. */
export interface PodProxyHandle {
  /** The process ends: let connections finish, within its drain deadline. */
  drain(): Promise<void>;
  /** The pod is gone: close everything now. */
  stop(): Promise<void>;
}

export interface PodProxyFactory {
  /** Resolves when every listener is bound; rejects, with nothing left open, where one cannot be. */
  start(pod: PodToServe): Promise<PodProxyHandle>;
}

/** As ztunnel's `config_dump` shows it. */
export interface PodState {
  readonly state: "Up" | "Pending";
  readonly info: PodInfo;
}

export interface PodCounts {
  readonly active: number;
  readonly pending: number;
  readonly started: number;
  readonly stopped: number;
}

/** Empty: done. Otherwise why the pod is not served (yet). */
export type PodOutcome = { readonly ok: true } | { readonly ok: false; readonly why: string };

interface Running extends PodToServe {
  readonly handle: PodProxyHandle;
}

/** As ztunnel's retry of pods whose listeners could not be bound. */
export const pendingRetryMs = 5_000;

export class PodManager {
  readonly #factory: PodProxyFactory;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onReady: (ready: boolean) => void;
  readonly #running = new Map<string, Running>();
  readonly #pending = new Map<string, PodToServe>();
  readonly #ending = new Set<Promise<void>>();
  /** Uids named since this connection began; undefined after its snapshot is complete. */
  #named: Set<string> | undefined = new Set();
  #isConnected = false;
  #isReady = false;
  #started = 0;
  #stopped = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #cancelRetry: (() => void) | undefined;
  #isDraining = false;

  constructor(deps: {
    readonly factory: PodProxyFactory;
    readonly clock: Clock;
    readonly log: Logger;
    /** Told each change of: the snapshot is complete and no pod is pending. */
    readonly onReady: (ready: boolean) => void;
  }) {
    this.#factory = deps.factory;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onReady = deps.onReady;
  }

  get counts(): PodCounts {
    return {
      active: this.#running.size,
      pending: this.#pending.size,
      started: this.#started,
      stopped: this.#stopped,
    };
  }

  /** Keyed by pod uid. */
  states(): ReadonlyMap<string, PodState> {
    const up = [...this.#running].map(([uid, { info }]) => [uid, { state: "Up", info }] as const);
    const pending = [...this.#pending].map(([uid, { info }]) => [uid, { state: "Pending", info }] as const);
    return new Map<string, PodState>([...up, ...pending]);
  }

  /** A new agent speaks: what it does not name until {@link snapshotSent} is gone. Running proxies keep running. */
  connected(): Promise<void> {
    return this.#inTurn(() => {
      this.#isConnected = true;
      this.#named = new Set();
      for (const pod of this.#pending.values()) pod.netns.close();
      this.#pending.clear();
    });
  }

  disconnected(): Promise<void> {
    return this.#inTurn(() => {
      this.#isConnected = false;
    });
  }

  /** Takes over `pod.netns`. The same namespace again changes nothing; another one replaces the proxy. */
  add(pod: PodToServe): Promise<PodOutcome> {
    return this.#inTurn(() => this.#add(pod));
  }

  /** The agent cannot find this pod's namespace any more, but the pod may still run. False after the snapshot. */
  keep(uid: string): Promise<boolean> {
    return this.#inTurn(() => {
      this.#named?.add(uid);
      return this.#named !== undefined;
    });
  }

  remove(uid: string): Promise<void> {
    return this.#inTurn(() => {
      this.#forgetPending(uid);
      if (this.#named !== undefined) this.#named.delete(uid);
      else this.#stop(uid);
    });
  }

  /** Everything was named: stops what was not. False if this connection said so before. */
  snapshotSent(): Promise<boolean> {
    return this.#inTurn(() => {
      const named = this.#named;
      if (named === undefined) return false;
      for (const uid of this.#running.keys()) if (!named.has(uid)) this.#stop(uid);
      this.#named = undefined;
      return true;
    });
  }

  /** For the end of the process: lets every pod's connections finish, and waits for those already stopping. */
  drain(): Promise<void> {
    this.#isDraining = true;
    return this.#inTurn(async () => {
      for (const uid of this.#pending.keys()) this.#forgetPending(uid);
      for (const uid of this.#running.keys().toArray()) this.#end(uid, (handle) => handle.drain());
      await Promise.all(this.#ending);
    });
  }

  async #add(pod: PodToServe): Promise<PodOutcome> {
    this.#named?.add(pod.uid);
    this.#forgetPending(pod.uid);
    const running = this.#running.get(pod.uid);
    if (running?.netns.identity === pod.netns.identity) {
      pod.netns.close();
      return { ok: true };
    }
    if (running !== undefined) this.#stop(pod.uid);
    return this.#start(pod);
  }

  async #start(pod: PodToServe): Promise<PodOutcome> {
    try {
      const handle = await this.#factory.start(pod);
      this.#running.set(pod.uid, { ...pod, handle });
      this.#started += 1;
      this.#log.info({ uid: pod.uid, ...pod.info }, "pod proxy started");
      return { ok: true };
    } catch (error) {
      this.#pending.set(pod.uid, pod);
      const why = explain(error);
      this.#log.warn({ uid: pod.uid, ...pod.info, why }, "pod proxy could not start and will be retried");
      return { ok: false, why };
    }
  }

  #forgetPending(uid: string): void {
    this.#pending.get(uid)?.netns.close();
    this.#pending.delete(uid);
  }

  #stop(uid: string): void {
    this.#end(uid, (handle) => handle.stop());
  }

  /** In the background: a pod that takes its time must not hold up the next message. */
  #end(uid: string, how: (handle: PodProxyHandle) => Promise<void>): void {
    const running = this.#running.get(uid);
    if (running === undefined) return;
    this.#running.delete(uid);
    const ended = how(running.handle)
      .catch((error: unknown) => this.#log.warn({ uid, why: explain(error) }, "pod proxy did not end cleanly"))
      .finally(() => {
        running.netns.close();
        this.#stopped += 1;
        this.#ending.delete(ended);
        this.#log.info({ uid, ...running.info }, "pod proxy stopped");
      });
    this.#ending.add(ended);
  }

  /** Changes follow each other; readiness and the retry are settled after each. */
  #inTurn<T>(change: () => T | Promise<T>): Promise<T> {
    const done = this.#turn.then(change).finally(() => this.#settle());
    this.#turn = done.catch(() => undefined);
    return done;
  }

  #settle(): void {
    const isReady = this.#isConnected && this.#named === undefined && this.#pending.size === 0;
    if (isReady !== this.#isReady) this.#onReady(isReady);
    this.#isReady = isReady;
    if (this.#pending.size === 0 || this.#isDraining) {
      this.#cancelRetry?.();
      this.#cancelRetry = undefined;
      return;
    }
    this.#cancelRetry ??= this.#clock.schedule(pendingRetryMs, () => {
      this.#cancelRetry = undefined;
      void this.#inTurn(() => this.#retryPending());
    });
  }

  async #retryPending(): Promise<void> {
    for (const pod of this.#pending.values().toArray()) {
      this.#pending.delete(pod.uid);
      await this.#start(pod);
    }
  }
}
