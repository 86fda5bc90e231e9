/**
 * The node agent's side of ZDS: tells every connected ztunnel which pods to serve. Additions go to the newest ztunnel,
 * deletions to all, so that an upgrade hands pods over; who connects anew is told everything.
 */
import { mkdirSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { listenSeqpacket } from "#ztunnel/inpod/seqpacket.ts";
import { ZdsSession, type AgentConnection, type SendOutcome, type ServedPod } from "./zds-session.ts";

/** Hands out connections; {@link listenSeqpacket} in earnest. */
export interface AgentListener {
  accept(signal: AbortSignal): Promise<AgentConnection>;
  close(): void;
}

/** As Istio's agent: five connections a second, so that a ztunnel in a crash loop does not take all our time. */
const acceptIntervalMs = 200;
/** Two during an upgrade; more are somebody playing. */
const maxSessions = 8;
/** An acknowledgement with a long reason. */
const maxAckBytes = 4_096;

export class ZdsServer {
  readonly #pods = new Map<string, ServedPod>();
  /** Newest last. */
  readonly #sessions: ZdsSession[] = [];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onChange: () => void;

  constructor(deps: {
    readonly clock: Clock;
    readonly log: Logger;
    /** A ztunnel has its snapshot, or has gone. */
    readonly onChange: () => void;
  }) {
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#onChange = deps.onChange;
  }

  /** Whether a ztunnel knows all pods. */
  get isServed(): boolean {
    return this.#sessions.some(({ hasSnapshot }) => hasSnapshot);
  }

  get sessions(): number {
    return this.#sessions.length;
  }

  /** Remembers the pod for whoever connects next. The caller closes its namespace after {@link remove}. */
  remember(pod: ServedPod): void {
    this.#pods.set(pod.uid, pod);
  }

  /** Remembers the pod and waits for the newest ztunnel to serve it. */
  async add(pod: ServedPod): Promise<SendOutcome> {
    this.remember(pod);
    const newest = this.#sessions.at(-1);
    if (newest === undefined) return { ok: false, why: "no ztunnel is connected" };
    return newest.send({ kind: "add", uid: pod.uid, info: pod.info }, pod.netns);
  }

  /** Ztunnels that are gone, or do not answer, need not be told. */
  async remove(uid: string): Promise<void> {
    if (!this.#pods.delete(uid)) return;
    await Promise.all(this.#sessions.map((session) => session.send({ kind: "del", uid })));
  }

  /** Accepts ztunnels until `signal` aborts; then all are let go, and their ends awaited. */
  async serve(listener: AgentListener, signal: AbortSignal): Promise<void> {
    const running = new Set<Promise<void>>();
    try {
      while (!signal.aborted) {
        const connection = await listener.accept(signal);
        if (this.#sessions.length >= maxSessions) connection.close();
        else {
          const run = this.#run(connection).finally(() => running.delete(run));
          running.add(run);
        }
        await sleep(this.#clock, acceptIntervalMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      listener.close();
      for (const session of this.#sessions) session.close();
      await Promise.all(running);
    }
  }

  async #run(connection: AgentConnection): Promise<void> {
    const session = new ZdsSession(connection, this.#clock, this.#log);
    this.#sessions.push(session);
    this.#log.info({ ztunnels: this.#sessions.length }, "ztunnel connected");
    const why = await session.run(
      () => [...this.#pods.values()],
      () => {
        this.#log.info({ pods: this.#pods.size }, "ztunnel has the snapshot");
        this.#onChange();
      },
    );
    this.#sessions.splice(this.#sessions.indexOf(session), 1);
    this.#log.warn({ why, ztunnels: this.#sessions.length }, "ztunnel disconnected");
    this.#onChange();
  }
}

/**
 * Takes the place of a socket that a former agent left. The file stays when we end: by then it may be our successor's.
 *
 * @throws MeshError SYSTEM_CALL_FAILED naming the path
 */
export function openZdsListener(path: string): AgentListener {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  return listenSeqpacket(path, maxAckBytes);
}
