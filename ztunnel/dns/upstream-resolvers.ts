/**
 * Asks the resolvers of resolv.conf what the mesh does not answer itself. Messages are passed on as they came, but for
 * their id; each question has a socket of its own, whose port nobody foresees, and nothing is remembered: what a pod
 * gets is what the cluster's DNS says at that moment.
 */
import { randomInt } from "node:crypto";
import type { Socket as DatagramSocket } from "node:dgram";
import type { Socket } from "node:net";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import { codeOfResponse, responseCodes, withId, type Query } from "./dns-message.ts";

/** Makes the sockets: towards a server's address, not connected yet. */
export interface UpstreamSockets {
  datagrams(server: Ip): DatagramSocket;
  /** Connecting to {@link UpstreamDeps.port}. */
  stream(server: Ip): Socket;
}

export type UpstreamAnswer =
  { readonly ok: true; readonly response: Buffer; readonly server: Ip } | { readonly ok: false; readonly why: string };

/** resolv.conf knows no other. */
export const dnsPort = 53;
/**
 * Of a question, all tries together: below the 5 s after which resolvers give up on us (RES_TIMEOUT of the C library),
 * so that they hear that it failed.
 */
export const upstreamDeadlineMs = 4_500;
/** After this long without an answer the next server is asked besides; of one server, the same again. */
export const nextTryMs = 1_500;
const maxTries = Math.ceil(upstreamDeadlineMs / nextTryMs);

/** Nothing is wrong with the question, so that another server may know more. */
const isUnhelpful = (code: number): boolean =>
  code === responseCodes.serverFailure || code === responseCodes.notImplemented || code === responseCodes.refused;

/** One question under way. */
export interface Asking {
  /** Never rejects. */
  readonly answer: Promise<UpstreamAnswer>;
  /** Gives up; `answer` resolves with the reason. */
  cancel(why: string): void;
}

export interface UpstreamDeps {
  readonly servers: readonly Ip[];
  readonly port: number;
  readonly sockets: UpstreamSockets;
  readonly clock: Clock;
}

/** Over UDP: lost datagrams are sent again, silent servers are not waited for. */
export const askByDatagram = (query: Query, deps: UpstreamDeps): Asking =>
  ask(deps, (server, outcome) => {
    const id = randomInt(0x1_0000);
    const socket = deps.sockets.datagrams(server);
    socket.on("error", (error) => outcome.failed(explain(error)));
    socket.on("message", (response) => {
      const code = codeOfResponse(response, query, id);
      if (code !== undefined) outcome.answered(response, code);
    });
    socket.once("connect", () => {
      socket.send(withId(query.bytes, id), (error) => {
        if (error !== null) outcome.failed(explain(error));
      });
    });
    // Connected, so that a server that is not there is told at once, and nobody else is listened to.
    socket.connect(deps.port, server);
    return () => {
      socket.removeAllListeners("connect"); // which is told in a later turn
      socket.close();
    };
  });

/** Over TCP, as the asker came. */
export const askByStream = (query: Query, deps: UpstreamDeps): Asking =>
  ask(deps, (server, outcome) => {
    const id = randomInt(0x1_0000);
    const socket = deps.sockets.stream(server);
    const reader = new MessageReader();
    socket.once("connect", () => socket.write(framed(withId(query.bytes, id))));
    socket.on("data", (chunk: Buffer) => {
      for (const response of reader.read(chunk)) {
        const code = codeOfResponse(response, query, id);
        if (code !== undefined) outcome.answered(response, code);
      }
    });
    socket.on("error", (error) => outcome.failed(explain(error)));
    const closed = () => outcome.failed("the connection was closed without an answer");
    socket.on("end", closed);
    socket.on("close", closed);
    return () => socket.destroy();
  });

interface TryOutcome {
  answered(response: Buffer, code: number): void;
  /** Later calls change nothing. */
  failed(why: string): void;
}

/** @returns what ends the try */
type Try = (server: Ip, outcome: TryOutcome) => () => void;

function ask({ servers, clock }: UpstreamDeps, attempt: Try): Asking {
  const { promise, resolve } = Promise.withResolvers<UpstreamAnswer>();
  const closers = new DisposableStack();
  let tries = 0;
  let failures = 0;
  let unhelpful: UpstreamAnswer | undefined;
  let why = "no resolver answered in time";

  const settle = (answer: UpstreamAnswer) => {
    closers.dispose();
    resolve(answer);
  };
  /** When nobody is left to ask or to wait for. */
  const giveUp = () => settle(unhelpful ?? { ok: false, why });

  /** The next server; after the last the first again. */
  const tryNext = () => {
    const server = servers[tries % servers.length];
    if (closers.disposed || server === undefined) return;
    tries++;
    const closeTry = closers.use(new DisposableStack());
    const failed = () => {
      closeTry.dispose();
      failures++;
      if (tries < servers.length) tryNext();
      else if (failures === tries) giveUp();
    };
    const outcome: TryOutcome = {
      answered: (response, code) => {
        if (closeTry.disposed) return;
        const answer = { ok: true, response, server } as const;
        if (!isUnhelpful(code)) return settle(answer);
        unhelpful ??= answer;
        failed();
      },
      failed: (reason) => {
        if (closeTry.disposed) return;
        why = `${server}: ${reason}`;
        failed();
      },
    };
    try {
      const close = attempt(server, outcome);
      if (closeTry.disposed) close();
      else closeTry.defer(close);
    } catch (error) {
      outcome.failed(explain(error));
    }
  };
  const tryAgain = () => {
    tryNext();
    if (!closers.disposed && tries < maxTries) closers.defer(clock.schedule(nextTryMs, tryAgain));
  };

  if (servers.length === 0) settle({ ok: false, why: "resolv.conf names no server" });
  else {
    closers.defer(clock.schedule(upstreamDeadlineMs, giveUp));
    tryAgain();
  }
  return { answer: promise, cancel: (reason) => settle({ ok: false, why: reason }) };
}

/** Messages of a TCP connection have two octets of length before each (RFC 1035 section 4.2.2). */
export function framed(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(2 + message.length);
  bytes.writeUInt16BE(message.length, 0);
  message.copy(bytes, 2);
  return bytes;
}

/** Takes messages out of a stream. Holds one that is not complete: 64 KiB at most. */
export class MessageReader {
  readonly #length = Buffer.alloc(2);
  #lengthBytes = 0;
  #body: Buffer | undefined;
  #bodyBytes = 0;

  /** The messages that `chunk` completes. */
  read(chunk: Buffer): readonly Buffer[] {
    const messages: Buffer[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === undefined) {
        this.#length[this.#lengthBytes++] = chunk[at++] ?? 0;
        if (this.#lengthBytes < 2) continue;
        this.#lengthBytes = 0;
        this.#body = Buffer.allocUnsafe(this.#length.readUInt16BE(0));
        this.#bodyBytes = 0;
      }
      const copied = chunk.copy(this.#body, this.#bodyBytes, at);
      at += copied;
      this.#bodyBytes += copied;
      if (this.#bodyBytes < this.#body.length) continue;
      messages.push(this.#body);
      this.#body = undefined;
    }
    return messages;
  }
}
