/** Serves the connections of one listener, from wherever they come, by its configuration now in force. */
import type { Http2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Clock } from "#shared/clock/clock.ts";
import { hostPort, type Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { DownstreamConnection, ResponseFlag, SocketAddress } from "#waypoint/http/exchange.ts";
import type { Sweeper } from "#waypoint/http/sweeper.ts";
import type { TcpConnectionFacts } from "#waypoint/telemetry/observers.ts";
import type { ChainFacts } from "./chain-match.ts";
import type { CompiledListener } from "./compiled-listener.ts";
import { filterStateOf } from "./filter-state.ts";
import { HttpConnection, type HttpProtocol } from "./http-connection.ts";
import { inspect, type Inspection } from "./inspect.ts";
import { peek } from "./peek.ts";
import type { ServedConnection } from "./served-connection.ts";
import { TcpConnection } from "./tcp-connection.ts";

/** A connection before a chain is chosen. */
export interface Arrival {
  readonly end: Socket | Http2Stream;
  readonly source: SocketAddress;
  /** Where the client was going. */
  readonly destination: SocketAddress;
  /** Of the CONNECT, as the client wrote it; undefined outside of tunnels. */
  readonly authority?: string | undefined;
  readonly peerPrincipal?: string | undefined;
  readonly localPrincipal?: string | undefined;
}

export interface ListenerRuntimeOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Of codecs, and of TCP connections. */
  readonly sweepers: { readonly http: Sweeper; readonly tcp: Sweeper };
  /** How long connections of a chain that is gone may go on. Milliseconds. */
  readonly drainMs: number;
  /** No chain wants the connection, or it said too little: it is closed. */
  readonly close: (end: Socket | Http2Stream) => void;
  /** `namespace/name` of the workload at an address. */
  readonly sourceWorkload: ((ip: Ip) => string | undefined) | undefined;
}

let lastConnectionId = 0;

export class ListenerRuntime {
  #listener: CompiledListener;
  readonly #options: ListenerRuntimeOptions;
  readonly #connections = new Set<ServedConnection>();
  /** Connections that are being looked at. */
  readonly #undecided = new Set<Socket | Http2Stream>();
  #isDraining = false;
  #onEmpty: (() => void) | undefined;

  constructor(listener: CompiledListener, options: ListenerRuntimeOptions) {
    this.#listener = listener;
    this.#options = options;
  }

  get listener(): CompiledListener {
    return this.#listener;
  }

  get size(): number {
    return this.#connections.size + this.#undecided.size;
  }

  accept(arrival: Arrival): void {
    const { end, destination } = arrival;
    end.on("error", onLateError);
    const { inspectsHttp, inspectsTls, inspectionMs, continuesAfterDeadline } = this.#listener;
    const inspectors = { http: inspectsHttp(destination.port), tls: inspectsTls(destination.port) };
    if (!inspectors.http && !inspectors.tls) {
      this.#dispatch(arrival, undefined);
      return;
    }
    this.#undecided.add(end);
    const decided = () => this.#undecided.delete(end);
    peek<Inspection>(end, {
      clock: this.#options.clock,
      look: (bytes, isEnd) => {
        const found = inspect(bytes, inspectors, isEnd);
        return found.kind === "more" ? undefined : found;
      },
      deadlineMs: inspectionMs,
      onDeadline: () => {
        decided();
        if (continuesAfterDeadline) this.#dispatch(arrival, undefined);
        else this.#refuse(arrival, "it has not said what it speaks");
      },
      onSeen: (found) => {
        decided();
        this.#dispatch(arrival, found);
      },
      onGone: () => {
        decided();
        end.destroy();
        this.#checkEmpty();
      },
    });
  }

  /** New connections, and new requests of those that are open, go by `listener` from now on. */
  update(listener: CompiledListener): void {
    this.#listener = listener;
    const left: ServedConnection[] = [];
    for (const served of this.#connections) {
      const name = listener.matcher.match(served.facts);
      const chain = name === undefined || name !== served.chain ? undefined : listener.chains.get(name);
      if (chain === undefined || !served.adopt(chain)) left.push(served);
    }
    this.#letGo(left, "its filter chain is gone");
  }

  /** Clients learn, each with its next answer, that there is nothing to stay for. */
  leave(): void {
    this.#isDraining = true;
    for (const served of this.#connections) served.leave();
  }

  /** Connections end with what is under way; those that do not within `deadlineMs` are broken. Resolves when none is left. */
  async drain(deadlineMs: number): Promise<void> {
    this.#isDraining = true;
    for (const served of this.#connections) served.drain();
    const cancel = this.#options.clock.schedule(deadlineMs, () => this.close());
    if (this.size > 0) await new Promise<void>((resolve) => (this.#onEmpty = resolve));
    cancel();
  }

  close(): void {
    for (const end of this.#undecided) end.destroy();
    this.#undecided.clear();
    for (const served of this.#connections) served.abort("the proxy is shutting down");
    this.#checkEmpty();
  }

  #letGo(all: readonly ServedConnection[], why: string): void {
    if (all.length === 0) return;
    for (const served of all) served.drain();
    this.#options.clock.schedule(this.#options.drainMs, () => {
      for (const served of all) if (this.#connections.has(served)) served.abort(why);
    });
  }

  #dispatch(arrival: Arrival, found: Inspection | undefined): void {
    const { source, destination, end } = arrival;
    const facts: ChainFacts = {
      source,
      destination,
      serverName: found?.kind === "tls" ? found.serverName : "",
      transportProtocol: found?.kind === "tls" ? "tls" : "raw_buffer",
      applicationProtocols: applicationProtocolsOf(found),
      filterState: arrival.authority === undefined ? undefined : (key) => filterStateOf(arrival, key),
    };
    const name = this.#listener.matcher.match(facts);
    const chain = name === undefined ? undefined : this.#listener.chains.get(name);
    if (chain === undefined) {
      this.#refuse(arrival, name === undefined ? "no filter chain matches" : "its filter chain cannot be used");
      return;
    }
    const { sweepers } = this.#options;
    const connection = this.#connectionOf(arrival, facts.serverName);
    if (chain.kind === "tcp") {
      const run = new TcpConnection(chain, facts, connection, end, { sweeper: sweepers.tcp, onClosed: this.#onClosed });
      this.#connections.add(run);
      run.start();
      return;
    }
    const served = new HttpConnection(chain, facts, connection, end, {
      sweeper: sweepers.http,
      onClosed: this.#onClosed,
    });
    this.#connections.add(served);
    if (this.#isDraining) served.leave();
    served.start(protocolOf(found));
  }

  #refuse(arrival: Arrival, why: string): void {
    const { end, source, destination } = arrival;
    this.#options.log.debug(
      {
        listener: this.#listener.name,
        source: hostPort(source.ip, source.port),
        destination: hostPort(destination.ip, destination.port),
        why,
      },
      "connection refused",
    );
    const { refusals } = this.#listener;
    if (refusals.length > 0) {
      const facts = refusedFacts(this.#connectionOf(arrival, ""), this.#options.clock.now());
      for (const observer of refusals) observer.onEnd(facts, 0);
    }
    this.#options.close(end);
    this.#checkEmpty();
  }

  #connectionOf(arrival: Arrival, serverName: string): DownstreamConnection {
    const { source, destination, peerPrincipal, localPrincipal } = arrival;
    const { sourceWorkload } = this.#options;
    return {
      id: ++lastConnectionId,
      source,
      destination,
      peerPrincipal,
      localPrincipal,
      serverName: serverName === "" ? undefined : serverName,
      sourceWorkload: sourceWorkload && (() => sourceWorkload(source.ip)),
    };
  }

  readonly #onClosed = (served: ServedConnection): void => {
    this.#connections.delete(served);
    this.#checkEmpty();
  };

  #checkEmpty(): void {
    if (this.size === 0) this.#onEmpty?.();
  }
}

/** A connection for which there is no filter chain. */
const refusedFacts = (connection: DownstreamConnection, startedAtMs: number): TcpConnectionFacts => ({
  connection,
  chain: "",
  startedAtMs,
  cluster: "",
  host: undefined,
  flags: noRoute,
  terminationDetails: "filter_chain_not_found",
  upstreamFailure: "",
  bytesReceived: 0,
  bytesSent: 0,
});

const noRoute: ReadonlySet<ResponseFlag> = new Set(["NR"]);

function applicationProtocolsOf(found: Inspection | undefined): readonly string[] {
  if (found?.kind === "http") return [found.protocol];
  return found?.kind === "tls" ? found.alpn : [];
}

function protocolOf(found: Inspection | undefined): HttpProtocol | undefined {
  if (found?.kind !== "http") return undefined;
  return found.protocol === "h2c" ? "HTTP/2" : "HTTP/1";
}

const onLateError = () => {};
