/** ztunnel's side of ZDS: connects to the node agent, says hello, acknowledges each message, and connects anew. */
import { closeSync } from "node:fs";
import { sleep, type Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { adoptNamespace } from "./netns-sockets.ts";
import type { PodManager } from "./pod-manager.ts";
import { connectSeqpacket, PacketMalformed, type Packet } from "./seqpacket.ts";
import { maxZdsBytes, readRequest, writeAck, writeHello, type ZdsRequest } from "./zds-messages.ts";

/** What the client needs of a connection; tests script one. */
export interface ZdsConnection {
  send(bytes: Uint8Array, options: { signal: AbortSignal }): Promise<void>;
  receive(signal: AbortSignal): Promise<Packet | undefined>;
  close(): void;
}

export interface ZdsClientDeps {
  readonly path: string;
  readonly pods: PodManager;
  readonly clock: Clock;
  readonly log: Logger;
  readonly connect?: (path: string) => ZdsConnection;
  /** For the ±20 % on delays; default `Math.random`. */
  readonly random?: () => number;
}

/** `fatal`: the agent broke the protocol, and the process must end with status 1, as ztunnel does. */
export type ZdsOutcome = { readonly kind: "stopped" } | { readonly kind: "fatal"; readonly why: string };

/** Nobody listens yet: 20 ms, then twice as long each time up to 15 s, for ever. */
const connectDelay = { firstMs: 20, longestMs: 15_000 };
/** The agent hangs up before it has sent a snapshot: from 5 ms up to 15 s, ±20 %. */
const helloDelay = { firstMs: 5, longestMs: 15_000, jitter: 0.2 };

/** Runs until `signal` aborts or the protocol is broken. Pods keep running: see {@link PodManager.drain}. */
export async function runZdsClient(deps: ZdsClientDeps, signal: AbortSignal): Promise<ZdsOutcome> {
  const random = deps.random ?? Math.random;
  let failures = 0;
  for (;;) {
    try {
      const connection = await dial(deps, signal);
      const end = await serve(deps, connection, signal);
      if (end.kind === "fatal") return end;
      failures = end.gotSnapshot ? 0 : failures + 1;
      deps.log.warn({ why: end.why }, "node agent connection ended");
    } catch (error) {
      if (signal.aborted) return { kind: "stopped" };
      throw error;
    }
    const delayMs = failures === 0 ? 0 : Math.min(helloDelay.firstMs * 2 ** (failures - 1), helloDelay.longestMs);
    const jitter = 1 + helloDelay.jitter * (2 * random() - 1);
    await sleep(deps.clock, delayMs * jitter, signal).catch(() => undefined);
    if (signal.aborted) return { kind: "stopped" };
  }
}

async function dial(deps: ZdsClientDeps, signal: AbortSignal): Promise<ZdsConnection> {
  const connect = deps.connect ?? ((path: string) => connectSeqpacket(path, maxZdsBytes));
  for (let delayMs = connectDelay.firstMs; ; delayMs = Math.min(delayMs * 2, connectDelay.longestMs)) {
    signal.throwIfAborted();
    try {
      return connect(deps.path);
    } catch (error) {
      deps.log.debug({ why: explain(error), delayMs }, "node agent not reachable yet");
    }
    await sleep(deps.clock, delayMs, signal);
  }
}

type ConnectionEnd =
  | { readonly kind: "lost"; readonly why: string; readonly gotSnapshot: boolean }
  | { readonly kind: "fatal"; readonly why: string };

async function serve(deps: ZdsClientDeps, connection: ZdsConnection, signal: AbortSignal): Promise<ConnectionEnd> {
  let gotSnapshot = false;
  const lost = (why: string): ConnectionEnd => ({ kind: "lost", why, gotSnapshot });
  await deps.pods.connected();
  try {
    await connection.send(writeHello(), { signal });
    deps.log.info({ path: deps.path }, "node agent connected");
    for (;;) {
      const packet = await connection.receive(signal);
      if (packet === undefined) return lost("closed by the node agent");
      const answer = await handle(deps.pods, packet);
      await connection.send(writeAck(answer.refusal), { signal });
      if (answer.next === "give-up") return { kind: "fatal", why: answer.refusal };
      if (answer.next === "reconnect") return lost(answer.refusal);
      gotSnapshot ||= answer.wasSnapshot;
    }
  } catch (error) {
    if (signal.aborted) throw error;
    // A malformed packet cannot be read again, but its sender can be told why.
    if (error instanceof PacketMalformed) await refuse(connection, error.message, signal);
    return lost(explain(error));
  } finally {
    connection.close();
    await deps.pods.disconnected();
  }
}

async function refuse(connection: ZdsConnection, why: string, signal: AbortSignal): Promise<void> {
  await connection.send(writeAck(why), { signal }).catch(() => undefined);
}

interface Answer {
  /** Empty acknowledges. */
  readonly refusal: string;
  readonly next: "go-on" | "reconnect" | "give-up";
  readonly wasSnapshot: boolean;
}

const answer = (refusal: string, next: Answer["next"] = "go-on", wasSnapshot = false): Answer => ({
  refusal,
  next,
  wasSnapshot,
});

async function handle(pods: PodManager, packet: Packet): Promise<Answer> {
  const read = readRequest(packet.bytes, packet.fd !== undefined);
  if (read.kind === "request") return apply(pods, read.request, packet.fd);
  if (packet.fd !== undefined) closeSync(packet.fd);
  return answer(read.why, read.kind === "violation" ? "give-up" : "reconnect");
}

async function apply(pods: PodManager, request: ZdsRequest, fd: number | undefined): Promise<Answer> {
  switch (request.kind) {
    case "add": {
      if (fd === undefined) throw new TypeError("readRequest lets no Add through without a descriptor");
      const outcome = await pods.add({ uid: request.uid, info: request.info, netns: adoptNamespace(fd) });
      return answer(outcome.ok ? "" : outcome.why);
    }
    case "keep":
      return (await pods.keep(request.uid))
        ? answer("")
        : answer(`KeepWorkload "${request.uid}" after the snapshot`, "give-up");
    case "del":
      await pods.remove(request.uid);
      return answer("");
    case "snapshot-sent":
      return (await pods.snapshotSent())
        ? answer("", "go-on", true)
        : answer("Second SnapshotSent on one connection", "give-up");
  }
}
