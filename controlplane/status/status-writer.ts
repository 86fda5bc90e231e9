import { coreKind } from "#controlplane/schema/core-kinds.ts";
import { configKind } from "#controlplane/schema/kinds.ts";
import { Backoff } from "#controlplane/sources/kubernetes/backoff.ts";
import { objectPath } from "#controlplane/sources/kubernetes/collection.ts";
import { isPassing, isStatus, KubeError, type KubeClient } from "#controlplane/sources/kubernetes/kube-client.ts";
import { refKey, type SourceEvent, type SourceObject } from "#controlplane/sources/source.ts";
import { sleep, systemClock, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { isWritten, statusToApply, validity, wantedRef, type WantedStatus } from "./wanted-status.ts";

export interface StatusWriterOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Of several control planes one writes. */
  readonly isLeader: () => boolean;
  /** Objects labelled `istio.io/rev` with another revision belong to another control plane; empty: all are ours. */
  readonly revision?: string;
}

/** Tries for one status that the server refuses; then the object has to change, or what is wanted of it. */
const maxAttempts = 5;
const retryFirstMs = 200;
const retryLongestMs = 30_000;
/** 20 writes a second leave the API server time for others; a burst of 50 settles a small mesh at once. */
const writesPerSecond = 20;
const burst = 50;

interface Task {
  readonly wanted: WantedStatus;
  attempts: number;
  /** Refused for good: not asked again before the object changes. */
  isGivenUp: boolean;
  /** Version of the object that was known when we wrote; until another is known, that knowledge is out of date. */
  writtenOver: string | undefined;
}

/**
 * Writes statuses by server-side apply, each under the field manager it names, and only where the object does not say it
 * already. Events tell it what objects say; {@link want} what they shall say.
 */
export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #clock: Clock;
  readonly #objects = new Map<string, SourceObject>();
  /** What translation wants, and what validation does: by object and field manager. */
  #translated = new Map<string, Task>();
  /** Keys of those tasks, by object. */
  #translatedOf = new Map<string, string[]>();
  readonly #validated = new Map<string, Task>();
  readonly #queue = new Map<string, Task>();
  #wake: (() => void) | undefined;
  #budget = burst;
  #budgetMs: number;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#budgetMs = this.#clock.now();
  }

  /** To be told everything that the source tells. */
  take(event: SourceEvent): void {
    switch (event.type) {
      case "upsert":
      case "refuse": {
        const key = refKey(event.ref);
        this.#objects.set(key, event.object);
        this.#judge(key, validity(event));
        for (const [taskKey, task] of this.#tasksOf(key)) {
          this.#enqueue(taskKey, renewed(task));
        }
        return;
      }
      case "remove": {
        const key = refKey(event.ref);
        this.#objects.delete(key);
        for (const [taskKey] of this.#tasksOf(key)) {
          this.#validated.delete(taskKey);
          this.#queue.delete(taskKey);
        }
        return;
      }
      case "synced":
      case "trouble":
        return;
    }
  }

  /** The whole of what translation wants; what it does not name any more is left as it stands. */
  want(statuses: readonly WantedStatus[]): void {
    const tasks = new Map<string, Task>();
    const byObject = new Map<string, string[]>();
    for (const wanted of statuses) {
      const objectKey = refKey(wantedRef(wanted));
      const key = `${objectKey} ${wanted.fieldManager}`;
      byObject.set(objectKey, [...(byObject.get(objectKey) ?? []), key]);
      const before = this.#translated.get(key);
      const task = before !== undefined && isSame(before.wanted, wanted) ? before : newTask(wanted);
      tasks.set(key, task);
      if (task !== before) this.#enqueue(key, task);
    }
    for (const key of this.#translated.keys()) if (!tasks.has(key)) this.#queue.delete(key);
    this.#translated = tasks;
    this.#translatedOf = byObject;
  }

  /** Looks at everything again: this control plane has become the leader. */
  lead(): void {
    for (const [key, task] of [...this.#translated, ...this.#validated]) {
      this.#enqueue(key, renewed(task));
    }
  }

  /** Writes until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wake?.(), { once: true });
    while (!signal.aborted) {
      const [next] = this.#queue;
      if (next === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
        continue;
      }
      const [key, task] = next;
      this.#queue.delete(key);
      const object = this.#dueObject(key, task);
      if (object === undefined) continue;
      await this.#pace(signal);
      if (!signal.aborted) await this.#write(key, task, object, signal);
    }
  }

  #judge(objectKey: string, wanted: WantedStatus | undefined): void {
    const key = `${objectKey} validation`;
    const before = this.#validated.get(key);
    if (wanted === undefined) this.#validated.delete(key);
    else if (before === undefined || !isSame(before.wanted, wanted)) this.#validated.set(key, newTask(wanted));
  }

  *#tasksOf(objectKey: string): Generator<readonly [string, Task]> {
    const validation = this.#validated.get(`${objectKey} validation`);
    if (validation !== undefined) yield [`${objectKey} validation`, validation];
    for (const key of this.#translatedOf.get(objectKey) ?? []) {
      const task = this.#translated.get(key);
      if (task !== undefined) yield [key, task];
    }
  }

  #enqueue(key: string, task: Task): void {
    if (task.isGivenUp) return;
    this.#queue.set(key, task);
    this.#wake?.();
  }

  /** The object as known, where something has to be written to it. */
  #dueObject(key: string, task: Task): SourceObject | undefined {
    const object = this.#objects.get(key.slice(0, key.lastIndexOf(" ")));
    if (object === undefined || !this.#options.isLeader() || !this.#isOurs(object)) return undefined;
    if (task.writtenOver !== undefined && task.writtenOver === object.metadata.resourceVersion) return undefined;
    return isWritten(task.wanted, object) ? undefined : object;
  }

  #isOurs({ apiVersion, metadata }: SourceObject): boolean {
    const { revision = "" } = this.#options;
    const label = metadata.labels?.["istio.io/rev"] ?? "";
    return revision === "" || label === "" || label === revision || !apiVersion.includes("/");
  }

  async #write(key: string, task: Task, object: SourceObject, signal: AbortSignal): Promise<void> {
    const { client, log } = this.#options;
    const { wanted } = task;
    const path = statusPath(object);
    if (path === undefined) return;
    const { namespace, name } = object.metadata;
    const seen = object.metadata.resourceVersion;
    const status = statusToApply(wanted, object, this.#clock.now());
    try {
      await client.request(path, {
        method: "PATCH",
        contentType: "application/apply-patch+yaml",
        query: { fieldManager: wanted.fieldManager, force: true },
        body: {
          apiVersion: object.apiVersion,
          kind: object.kind,
          metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
          // An empty one would not give up what we said before: the API server makes it null, and refuses that.
          ...(Object.keys(status).length === 0 ? {} : { status }),
        },
        signal,
      });
      task.writtenOver = seen;
      task.attempts = 0;
      log.debug({ kind: object.kind, namespace, name, fieldManager: wanted.fieldManager }, "status written");
    } catch (thrown) {
      // Gone meanwhile: the source will say so.
      if (!signal.aborted && !isStatus(thrown, 404)) this.#retry(key, task, thrown, signal);
    }
  }

  #retry(key: string, task: Task, thrown: unknown, signal: AbortSignal): void {
    task.attempts++;
    const facts = { object: key, attempt: task.attempts, error: explain(thrown) };
    // An answer that will not change by asking again.
    const isFinal = thrown instanceof KubeError && [400, 405, 422].includes(thrown.status);
    if (!isPassing(thrown) && (isFinal || task.attempts >= maxAttempts)) {
      task.isGivenUp = true;
      this.#options.log.warn(facts, "status cannot be written: given up until the object changes");
      return;
    }
    if (task.attempts === maxAttempts) this.#options.log.warn(facts, "status cannot be written: trying again, slowly");
    this.#options.log.debug(facts, "status cannot be written: trying again");
    const delayMs = new Backoff(retryFirstMs * 2 ** Math.min(task.attempts, 10), retryLongestMs).nextMs();
    this.#clock.schedule(delayMs, () => {
      if (!signal.aborted && this.#isCurrent(key, task)) this.#enqueue(key, task);
    });
  }

  #isCurrent(key: string, task: Task): boolean {
    return this.#translated.get(key) === task || this.#validated.get(key) === task;
  }

  /** A token bucket. */
  async #pace(signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.now();
    this.#budget = Math.min(burst, this.#budget + ((nowMs - this.#budgetMs) / 1_000) * writesPerSecond);
    this.#budgetMs = nowMs;
    if (this.#budget < 1) {
      await sleep(this.#clock, 1_000 / writesPerSecond, signal).catch(() => undefined);
      this.#budget += 1;
      this.#budgetMs = this.#clock.now();
    }
    this.#budget -= 1;
  }
}

const newTask = (wanted: WantedStatus): Task => ({ wanted, attempts: 0, isGivenUp: false, writtenOver: undefined });

const renewed = (task: Task): Task => Object.assign(task, { attempts: 0, isGivenUp: false });

const isSame = (a: WantedStatus, b: WantedStatus): boolean => JSON.stringify(a) === JSON.stringify(b);

/** By the version in which the object was read, which is one that the server has. */
function statusPath({ apiVersion, kind, metadata }: SourceObject): string | undefined {
  const slash = apiVersion.indexOf("/");
  const group = apiVersion.slice(0, Math.max(slash, 0));
  const definition = configKind(group, kind) ?? coreKind(group, kind);
  if (definition === undefined) return undefined;
  const version = apiVersion.slice(slash + 1);
  const path = objectPath(
    { group, version, plural: definition.plural },
    { namespace: metadata.namespace ?? "", name: metadata.name },
  );
  return `${path}/status`;
}
