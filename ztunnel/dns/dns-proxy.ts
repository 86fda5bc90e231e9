/**
 * Answers the questions of one pod: names of the mesh at once, everything else through the cluster's own resolvers.
 * Whose questions they are follows from the namespace that the sockets are in, never from the asker's address.
 */
import type { Socket as DatagramSocket, RemoteInfo } from "node:dgram";
import { closeSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { leavePort } from "#ztunnel/inpod/netns-sockets.ts";
import type { StopOptions } from "#ztunnel/listener/capture-listener.ts";
import type { DnsFacts, DnsReporter } from "#ztunnel/telemetry/dns-report.ts";
import {
  addressAnswer,
  failureAnswer,
  readQuery,
  recordTypes,
  relayedAnswer,
  responseCodes,
  udpLimit,
  type Query,
} from "./dns-message.ts";
import type { AddressQuestion, Resolution } from "./resolve-name.ts";
import {
  askByDatagram,
  askByStream,
  framed,
  MessageReader,
  type Asking,
  type UpstreamDeps,
} from "./upstream-resolvers.ts";

/** As Istio's ztunnel: addresses of the mesh change seldom, and an old one must not be used for long. */
export const ttlSeconds = 30;
/** TCP carries what its length field can say. */
const maxMessageBytes = 65_535;
/** An application that asks more at once than this waits for its own answers anyway. */
export const maxConnections = 128;
/** A connection on which nothing is asked and nothing answered for so long is closed. */
export const streamIdleMs = 5_000;
const maxQuestionsPerConnection = 32;
/** Answers that a reader does not take. */
const maxUnreadBytes = 1024 * 1024;
/** Questions passed on at a time; past it they fail at once. */
export const maxPendingPerPod = 256;

/** How many questions all pods together may have under way: each holds a socket. */
export class PendingLimit {
  readonly #max: number;
  #count = 0;

  constructor(max = 2_048) {
    this.#max = max;
  }

  get isReached(): boolean {
    return this.#count >= this.#max;
  }

  enter(): Disposable {
    this.#count++;
    return { [Symbol.dispose]: () => void this.#count-- };
  }
}

export interface DnsProxyDeps {
  readonly upstream: UpstreamDeps;
  readonly resolve: (question: AddressQuestion) => Resolution;
  /** Who asks, for reports. */
  readonly asker: () => Pick<DnsFacts, "pod" | "workload">;
  readonly pending: PendingLimit;
  readonly reporter: DnsReporter;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1): mixes the order of addresses, so that askers who take the first spread. */
  readonly random: () => number;
}

type Protocol = DnsFacts["protocol"];

export class DnsProxy {
  readonly #deps: DnsProxyDeps;
  readonly #datagrams: readonly DatagramSocket[];
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Socket>();
  readonly #asking = new Set<Asking>();
  #onIdle: (() => void) | undefined;
  /** Datagrams so far. */
  #heard = 0;
  #isOverloaded = false;
  #isStopped = false;

  private constructor(deps: DnsProxyDeps, datagrams: readonly DatagramSocket[]) {
    this.#deps = deps;
    this.#datagrams = datagrams;
  }

  /** Serves sockets that are bound, and listen, already; owned from here on, also where it rejects. */
  static async open(
    sockets: { readonly datagrams: readonly DatagramSocket[]; readonly listening: readonly { readonly fd: number }[] },
    deps: DnsProxyDeps,
  ): Promise<DnsProxy> {
    const proxy = new DnsProxy(deps, sockets.datagrams);
    for (const socket of sockets.datagrams) proxy.#serveDatagrams(socket);
    const waiting = [...sockets.listening];
    try {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await proxy.#serveStreams(next.fd);
    } catch (error) {
      for (const { fd } of waiting) closeSync(fd);
      await proxy.stop({ deadlineMs: 0 });
      throw error;
    }
    return proxy;
  }

  /**
   * Whoever serves the same port takes what comes from here on. Questions under way are answered; those that wait for
   * others past the deadline are told that they failed, so that who asks again asks at once. Then everything is closed.
   */
  async stop({ deadlineMs }: StopOptions): Promise<void> {
    for (const server of this.#servers) server.close();
    if (this.#isStopped) return;
    for (const socket of this.#datagrams) leavePort(socket);
    await this.#hearWhatArrived();
    if (deadlineMs > 0) await this.#answerAll(deadlineMs);
    for (const asking of this.#asking) asking.cancel("the proxy is stopping");
    await turn(); // in which they are told
    if (this.#isStopped) return;
    this.#isStopped = true;
    for (const socket of this.#datagrams) socket.close();
    for (const socket of this.#connections) {
      if (deadlineMs > 0) socket.destroySoon();
      else socket.destroy();
    }
  }

  /** Between two turns of the event loop it looks at every socket. */
  async #hearWhatArrived(): Promise<void> {
    for (let before = -1; before !== this.#heard;) {
      before = this.#heard;
      await turn();
      await turn();
    }
  }

  async #answerAll(deadlineMs: number): Promise<void> {
    if (this.#asking.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    const cancel = this.#deps.clock.schedule(deadlineMs, resolve);
    await promise;
    cancel();
  }

  #serveDatagrams(socket: DatagramSocket): void {
    socket.on("message", (message, { address, port }: RemoteInfo) => {
      this.#heard++;
      this.#take(message, "udp", (answer) => {
        // An asker whose buffer is full asks again: nothing is to be done about it.
        if (!this.#isStopped) socket.send(answer, port, address, () => {});
      });
    });
    socket.on("error", (error) => this.#deps.log.warn({ error: explain(error) }, "cannot receive DNS questions"));
  }

  async #serveStreams(fd: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#serveStream(socket));
    server.maxConnections = maxConnections;
    this.#servers.push(server);
    server.on("error", (error) => this.#deps.log.warn({ error: explain(error) }, "cannot accept a DNS connection"));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ fd }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  }

  /** Questions may follow each other without waiting, and are answered as they are ready (RFC 7766 section 6.2). */
  #serveStream(socket: Socket): void {
    this.#connections.add(socket);
    const reader = new MessageReader();
    let open = 0;
    let hasEnded = false;
    let cancelIdle = () => {};
    const stir = () => {
      cancelIdle();
      cancelIdle = this.#deps.clock.schedule(streamIdleMs, () => socket.destroy());
    };
    const answered = (answer: Buffer) => {
      open--;
      if (socket.destroyed) return;
      stir();
      if (socket.writableLength > maxUnreadBytes) socket.destroy();
      else socket.write(framed(answer));
      if (hasEnded && open === 0) socket.end();
      else if (open < maxQuestionsPerConnection) socket.resume();
    };
    stir();
    socket.on("data", (chunk: Buffer) => {
      stir();
      for (const message of reader.read(chunk)) {
        open++;
        if (!this.#take(message, "tcp", answered)) socket.destroy();
      }
      if (open >= maxQuestionsPerConnection) socket.pause();
    });
    socket.on("end", () => {
      hasEnded = true;
      if (open === 0) socket.end();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      cancelIdle();
      this.#connections.delete(socket);
    });
  }

  /** False where nothing will be answered. */
  #take(message: Buffer, protocol: Protocol, reply: (answer: Buffer) => void): boolean {
    const read = readQuery(message);
    switch (read.kind) {
      case "unanswerable":
        return false;
      case "refused":
        reply(read.answer);
        return true;
      case "query":
        this.#answer(read.query, protocol, reply);
        return true;
    }
  }

  #answer(query: Query, protocol: Protocol, reply: (answer: Buffer) => void): void {
    const { reporter, resolve, asker } = this.#deps;
    const { name, type } = query;
    const facts: DnsFacts = { ...asker(), protocol, type, name };
    const maxBytes = protocol === "udp" ? udpLimit(query) : maxMessageBytes;
    reporter.asked(facts);
    const family = query.isInternet ? familyOf(type) : undefined;
    const resolution = family === undefined || name === undefined ? forward : resolve({ name, family });
    if (resolution.kind === "forward") {
      void this.#forward(query, facts, maxBytes, reply);
      return;
    }
    const { alias, why } = resolution;
    const ips = shuffled(resolution.ips, this.#deps.random);
    reporter.answered(facts, { result: why, endpoints: ips });
    reply(addressAnswer(query, { ips, ttlSeconds, ...(alias !== undefined && { alias }) }, maxBytes));
  }

  /** Never rejects: where no resolver answers, that is the answer. */
  async #forward(query: Query, facts: DnsFacts, maxBytes: number, reply: (answer: Buffer) => void): Promise<void> {
    const { pending, reporter, upstream } = this.#deps;
    const failed = (why: string, durationMs: number) => {
      reporter.forwarded(facts, { ok: false, durationMs });
      reporter.answered(facts, { result: why });
      reply(failureAnswer(query, responseCodes.serverFailure));
    };
    if (this.#asking.size >= maxPendingPerPod || pending.isReached) {
      this.#overloaded();
      return failed("too many questions wait for an answer", 0);
    }
    const startedMs = performance.now(); // resolvers nearby take less than the clock's millisecond
    const asking = facts.protocol === "udp" ? askByDatagram(query, upstream) : askByStream(query, upstream);
    using _slot = pending.enter();
    using _asking = this.#enter(asking);
    const answer = await asking.answer;
    const durationMs = performance.now() - startedMs;
    if (!answer.ok) return failed(answer.why, durationMs);
    reporter.forwarded(facts, { ok: true, durationMs });
    reporter.answered(facts, { result: "forwarded" });
    reply(relayedAnswer(answer.response, query, maxBytes));
  }

  #enter(asking: Asking): Disposable {
    this.#asking.add(asking);
    return {
      [Symbol.dispose]: () => {
        this.#asking.delete(asking);
        if (this.#asking.size > 0) return;
        this.#isOverloaded = false;
        this.#onIdle?.();
      },
    };
  }

  /** One line for each time that it begins. */
  #overloaded(): void {
    if (!this.#isOverloaded)
      this.#deps.log.warn(
        { pending: this.#asking.size },
        "too many DNS questions wait for an answer: more are refused",
      );
    this.#isOverloaded = true;
  }
}

const forward: Resolution = { kind: "forward" };

function familyOf(type: number): AddressQuestion["family"] | undefined {
  if (type === recordTypes.A) return 4;
  return type === recordTypes.AAAA ? 6 : undefined;
}

/** Fisher and Yates. */
function shuffled(ips: readonly Ip[], random: () => number): readonly Ip[] {
  if (ips.length < 2) return ips;
  const mixed = [...ips];
  for (let index = mixed.length - 1; index > 0; index--) {
    const other = Math.floor(random() * (index + 1));
    [mixed[index], mixed[other]] = [mixed[other] as Ip, mixed[index] as Ip];
  }
  return mixed;
}
