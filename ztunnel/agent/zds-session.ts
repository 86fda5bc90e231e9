/** One connected ztunnel: its hello, the replay of what is known, then single changes; each acknowledged in turn. */
import { closeSync, openSync } from "node:fs";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { NetworkNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { PodInfo } from "#ztunnel/inpod/pod-manager.ts";
import type { Packet } from "#ztunnel/inpod/seqpacket.ts";
import { readAck, refuseHello, writeRequest, type ZdsRequest } from "#ztunnel/inpod/zds-messages.ts";

/** What a session needs of its connection; tests script one. */
export interface AgentConnection {
  send(bytes: Uint8Array, options: { fd?: number; signal?: AbortSignal }): Promise<void>;
  receive(signal?: AbortSignal): Promise<Packet | undefined>;
  close(): void;
}

/** A pod that ztunnel shall serve; without a namespace it shall only keep serving it. */
export interface ServedPod {
  readonly uid: string;
  readonly info: PodInfo;
  readonly netns: NetworkNamespace | undefined;
}

export type SendOutcome = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** As Istio's agent: time for ztunnel to take a message, and to answer it. */
const writeDeadlineMs = 5_000;
const ackDeadlineMs = 5_000;

export class ZdsSession {
  readonly #connection: AgentConnection;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #ended = new AbortController();
  readonly #greeted = Promise.withResolvers<void>();
  /** Messages follow each other; the first waits for the hello. */
  #turn: Promise<unknown> = this.#greeted.promise;
  #onAck: ((refusal: string) => void) | undefined;
  #hasSnapshot = false;

  constructor(connection: AgentConnection, clock: Clock, log: Logger) {
    this.#connection = connection;
    this.#clock = clock;
    this.#log = log;
  }

  get isOpen(): boolean {
    return !this.#ended.signal.aborted;
  }

  /** Whether the snapshot was acknowledged. */
  get hasSnapshot(): boolean {
    return this.#hasSnapshot;
  }

  /**
   * Serves until ztunnel hangs up, breaks the protocol or is closed; resolves with why. `pods` is read when the hello
   * has come, `onSnapshot` called when the replay is acknowledged.
   */
  async run(pods: () => readonly ServedPod[], onSnapshot: () => void): Promise<string> {
    try {
      const hello = await this.#within(ackDeadlineMs, "no ZdsHello came", (signal) => this.#connection.receive(signal));
      const refusal = hello === undefined ? "it closed before its ZdsHello" : this.#refuseHello(hello);
      if (refusal !== undefined) throw new Error(refusal);
      this.#greeted.resolve();
      const reading = this.#readAcks();
      await Promise.race([reading, this.#replay(pods())]);
      onSnapshot();
      await reading;
    } catch (error) {
      this.#end(error);
    }
    return explain(this.#ended.signal.reason);
  }

  /** Sends one message after those before it; `ok` once ztunnel has acknowledged it. */
  send(request: ZdsRequest, netns?: NetworkNamespace): Promise<SendOutcome> {
    const sent = this.#turn.then(() => this.#exchange(request, netns));
    this.#turn = sent;
    return sent;
  }

  close(): void {
    this.#end(new Error("closed by us"));
  }

  #refuseHello({ bytes, fd }: Packet): string | undefined {
    if (fd !== undefined) closeSync(fd);
    return refuseHello(bytes);
  }

  async #replay(pods: readonly ServedPod[]): Promise<void> {
    const sent = pods.map(({ uid, info, netns }) =>
      netns === undefined ? this.send({ kind: "keep", uid }) : this.send({ kind: "add", uid, info }, netns),
    );
    const last = this.send({ kind: "snapshot-sent" });
    for (const [index, outcome] of (await Promise.all(sent)).entries()) {
      if (!outcome.ok) this.#log.warn({ uid: pods[index]?.uid, why: outcome.why }, "ztunnel refused a pod for now");
    }
    const outcome = await last;
    if (!outcome.ok) throw new Error(outcome.why);
    this.#hasSnapshot = true;
  }

  async #exchange(request: ZdsRequest, netns: NetworkNamespace | undefined): Promise<SendOutcome> {
    if (!this.isOpen) return { ok: false, why: "ztunnel is not connected any more" };
    if (netns?.isOpen === false) return { ok: false, why: "the pod is gone" };
    let fd: number | undefined;
    try {
      // A descriptor of our own: the pod's may be closed, and its number taken, while the message waits to be sent.
      fd = netns === undefined ? undefined : openSync(`/proc/self/fd/${netns.fd}`, "r");
      const acked = Promise.withResolvers<string>();
      this.#onAck = acked.resolve;
      await this.#within(writeDeadlineMs, "ztunnel does not read", (signal) =>
        this.#connection.send(writeRequest(request), { signal, ...(fd === undefined ? {} : { fd }) }),
      );
      const refusal = await this.#within(ackDeadlineMs, "ztunnel does not acknowledge", () => acked.promise);
      return refusal === "" ? { ok: true } : { ok: false, why: `ztunnel refused: ${refusal}` };
    } catch (error) {
      this.#end(error);
      return { ok: false, why: explain(error) };
    } finally {
      this.#onAck = undefined;
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** Reads all the time, so that a hang-up is known at once; ztunnel speaks only when asked. */
  async #readAcks(): Promise<void> {
    for (;;) {
      const packet = await this.#connection.receive(this.#ended.signal);
      if (packet === undefined) throw new Error("closed by ztunnel");
      if (packet.fd !== undefined) closeSync(packet.fd);
      const refusal = readAck(packet.bytes);
      if (refusal === undefined) throw new Error("not an acknowledgement");
      if (this.#onAck === undefined) throw new Error("unsolicited acknowledgement");
      const onAck = this.#onAck;
      this.#onAck = undefined;
      onAck(refusal);
    }
  }

  async #within<T>(limitMs: number, why: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const late = new AbortController();
    const cancel = this.#clock.schedule(limitMs, () => late.abort(new Error(`${why} within ${limitMs} ms`)));
    const signal = AbortSignal.any([late.signal, this.#ended.signal]);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([work(signal), aborted]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      cancel();
    }
  }

  #end(why: unknown): void {
    if (!this.isOpen) return;
    this.#ended.abort(why instanceof Error ? why : new Error(String(why)));
    this.#connection.close();
    this.#greeted.resolve(); // what waits for it learns that nobody is there
  }
}
