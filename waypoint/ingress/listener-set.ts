/** Every listener that the control plane has told of, compiled, bound and serving. */
import { constants, type Http2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { hostPort, type Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Listener } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import { Sweeper } from "#waypoint/http/sweeper.ts";
import type { ListenerContext } from "./compile-context.ts";
import { compileListener } from "./compile-listener.ts";
import type { CompiledListener } from "./compiled-listener.ts";
import { ListenerRuntime, type ListenerRuntimeOptions } from "./listener-runtime.ts";
import { checkTunnelExit, compileTunnelEntry, isTunnelEntry, isTunnelExit, type TunnelEntry } from "./tunnel-entry.ts";
import { bindAll, closeAll, type BoundSocket } from "./listener-sockets.ts";

export interface ListenerSetOptions {
  readonly context: Omit<ListenerContext, "problem" | "skipped">;
  readonly clock: Clock;
  readonly log: Logger;
  /** How long connections of a listener or a chain that is gone may go on. Milliseconds. */
  readonly drainMs: number;
  /** `namespace/name` of the workload at an address. */
  readonly sourceWorkload?: (ip: Ip) => string | undefined;
}

interface Serving {
  readonly runtime: ListenerRuntime;
  sockets: readonly BoundSocket[];
}

/** TCP connections have idle timeouts of hours: looking once a second is enough. Milliseconds. */
const tcpSweepMs = 1_000;

export class ListenerSet {
  readonly #options: ListenerSetOptions;
  readonly #runtimeOptions: ListenerRuntimeOptions;
  readonly #serving = new Map<string, Serving>();
  /** Listeners that are gone, while their connections end. */
  readonly #leaving = new Set<ListenerRuntime>();
  /** Listeners that stand for what this proxy does with tunnels itself; undefined where none of their versions could be used. */
  readonly #entries = new Map<string, TunnelEntry | undefined>();
  #isDraining = false;

  constructor(options: ListenerSetOptions) {
    this.#options = options;
    const { clock, log, drainMs, sourceWorkload } = options;
    this.#runtimeOptions = {
      clock,
      log,
      drainMs,
      sweepers: { http: new Sweeper(clock), tcp: new Sweeper(clock, tcpSweepMs) },
      close: closeEnd,
      sourceWorkload,
    };
  }

  /**
   * Puts a listener into force: all of it, but for chains that are wrong, which are left as they were. @returns what is
   * wrong, all of it
   */
  apply(name: string, listener: Listener): readonly string[] {
    const problems: string[] = [];
    const problem = (path: string, message: string) =>
      void problems.push(path === "" ? message : `${path}: ${message}`);
    const context: ListenerContext = { ...this.#options.context, problem, skipped: () => {} };
    if (isTunnelExit(listener)) {
      checkTunnelExit(listener, context);
      return problems;
    }
    if (isTunnelEntry(listener)) {
      const entry = compileTunnelEntry(listener, context);
      this.#entries.set(name, problems.length > 0 ? this.#entries.get(name) : entry);
      return problems;
    }
    const compiled = compileListener(listener, context, this.#serving.get(name)?.runtime.listener);
    const inChains = [...compiled.broken.values()].flat();
    if (problems.length > 0) return [...problems, ...inChains];
    for (const [chain, mistakes] of compiled.broken) {
      const serves = compiled.chains.has(chain) ? "the last good one stays in force" : "its connections are refused";
      this.#options.log.error({ listener: name, chain, mistakes }, `a filter chain cannot be used: ${serves}`);
    }
    const skipped = [...new Set(compiled.skipped)];
    if (skipped.length > 0) this.#options.log.warn({ listener: name, skipped }, "left out: not known here");
    try {
      this.#putIntoForce(name, compiled);
      return inChains;
    } catch (error) {
      return [explain(error)];
    }
  }

  remove(name: string): void {
    this.#entries.delete(name);
    const serving = this.#serving.get(name);
    if (serving === undefined) return;
    this.#serving.delete(name);
    closeAll(serving.sockets);
    const { runtime } = serving;
    this.#leaving.add(runtime);
    void runtime.drain(this.#options.drainMs).then(() => this.#leaving.delete(runtime));
  }

  /** What the control plane says of tunnels; undefined where it leaves them to us. */
  get tunnelEntry(): TunnelEntry | undefined {
    return [...this.#entries.values()][0];
  }

  /** Where connections out of tunnels go; undefined as long as no listener is there for them. */
  get forTunnels(): ListenerRuntime | undefined {
    if (this.#entries.size > 0) {
      const cluster = this.#options.context.clusters.get(this.tunnelEntry?.cluster ?? "");
      return this.#serving.get(cluster?.internalListener ?? "")?.runtime;
    }
    const named = this.#serving.get("main_internal");
    if (named !== undefined) return named.runtime;
    return this.#serving.size === 1 ? [...this.#serving.values()][0]?.runtime : undefined;
  }

  /** For people: what serves where. */
  states(): readonly {
    readonly name: string;
    readonly bound: readonly string[];
    readonly listener: CompiledListener;
  }[] {
    return [...this.#serving].map(([name, { runtime, sockets }]) => ({
      name,
      bound: sockets.map(({ address, port }) => hostPort(address.ip, port)),
      listener: runtime.listener,
    }));
  }

  /** Ports of a listener's own sockets, in the order of its addresses. */
  portsOf(name: string): readonly number[] {
    return (this.#serving.get(name)?.sockets ?? []).map(({ port }) => port);
  }

  get connections(): number {
    return this.#runtimes().reduce((sum, { size }) => sum + size, 0);
  }

  /** New connections are still served, and told to go elsewhere with their first answer. */
  leave(): void {
    this.#isDraining = true;
    for (const runtime of this.#runtimes()) runtime.leave();
  }

  /** Ends what is open, each connection with what is under way. */
  async drain(deadlineMs: number): Promise<void> {
    this.#isDraining = true;
    await Promise.all(this.#runtimes().map((runtime) => runtime.drain(deadlineMs)));
  }

  stopAccepting(): void {
    for (const { sockets } of this.#serving.values()) closeAll(sockets);
  }

  close(): void {
    this.stopAccepting();
    for (const runtime of this.#runtimes()) runtime.close();
  }

  #runtimes(): readonly ListenerRuntime[] {
    return [...[...this.#serving.values()].map(({ runtime }) => runtime), ...this.#leaving];
  }

  /** @throws MeshError where an address cannot be had; then nothing has changed */
  #putIntoForce(name: string, compiled: CompiledListener): void {
    const serving = this.#serving.get(name);
    if (serving === undefined) {
      const runtime = new ListenerRuntime(compiled, this.#runtimeOptions);
      const sockets = this.#isDraining
        ? []
        : bindAll(compiled.bind, compiled.backlog, () => runtime, this.#options.log);
      this.#serving.set(name, { runtime, sockets });
      return;
    }
    const { runtime } = serving;
    const kept = serving.sockets.filter(({ address }) => compiled.bind.some((wanted) => sameAddress(wanted, address)));
    const added = compiled.bind.filter((wanted) => !kept.some(({ address }) => sameAddress(wanted, address)));
    const fresh = this.#isDraining ? [] : bindAll(added, compiled.backlog, () => runtime, this.#options.log);
    closeAll(serving.sockets.filter((socket) => !kept.includes(socket)));
    serving.sockets = [...kept, ...fresh];
    runtime.update(compiled);
  }
}

const sameAddress = (a: BoundSocket["address"], b: BoundSocket["address"]): boolean =>
  a.ip === b.ip && a.port === b.port;

/** A tunnel's answer has to be on its way before its stream is reset. */
function closeEnd(end: Socket | Http2Stream): void {
  if ("rstCode" in end) setImmediate(() => end.close(constants.NGHTTP2_CANCEL));
  else end.destroy();
}
