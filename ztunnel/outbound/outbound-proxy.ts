/** Port 15001 of a pod: what its application opens, captured, goes on in a tunnel or as it is. */
import type { Socket } from "node:net";
import type { Http2Stream } from "node:http2";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { codeOf, explain, MeshError, type FailureCode } from "#shared/errors/mesh-error.ts";
import { readBaggage, type Baggage } from "#shared/hbone/baggage.ts";
import { encodeForwarded } from "#shared/hbone/forwarded.ts";
import { HboneConnection, type ConnectHeaders, type Tunnel } from "#shared/hbone/hbone-client.ts";
import { HbonePool, type TunnelKey } from "#shared/hbone/hbone-pool.ts";
import type { WindowSizes } from "#shared/hbone/http2-settings.ts";
import { relay } from "#shared/hbone/relay.ts";
import { newTraceparent } from "#shared/hbone/traceparent.ts";
import type { ExpectedPeer } from "#shared/tls/verify-peer.ts";
import { hostPort } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { Endpoint } from "#shared/sockets/socket-address.ts";
import { CaptureListener, type Accepted, type StopOptions } from "#ztunnel/listener/capture-listener.ts";
import { workloadBaggage } from "#ztunnel/listener/workload-baggage.ts";
import type { LiveConnections } from "#ztunnel/state/live-connections.ts";
import type {
  ConnectionFacts,
  ConnectionFlag,
  ConnectionRecord,
  ConnectionReporter,
} from "#ztunnel/telemetry/connection-record.ts";
import type { OutboundDecision, OutboundRequest } from "./decide-outbound.ts";

export interface OutboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly windows: WindowSizes;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
  /** Our network id. */
  readonly network: string;
  readonly pool: { readonly maxStreams: number; readonly idleMs: number };
  /** The pod's own workload, awaited if the control plane has not named it yet. Rejects when it does not in time. */
  readonly workload: () => Workload | Promise<Workload>;
  /** The pod's certificate. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  readonly decide: (request: OutboundRequest) => OutboundDecision | Promise<OutboundDecision>;
  readonly live: LiveConnections;
  readonly reporter: ConnectionReporter;
  /** A connecting socket, made in the pod's namespace, that fails by itself after its deadline. */
  readonly dial: (target: Endpoint) => Socket;
  /** Where the application meant to connect; undefined where the socket is gone. */
  readonly originalDestination: (socket: Socket) => Endpoint | undefined;
}

/** One captured connection, known and decided. */
interface Captured {
  readonly socket: Socket;
  readonly peer: Endpoint;
  readonly target: Endpoint;
  readonly workload: Workload;
}

type Hbone = Extract<OutboundDecision, { kind: "hbone" }>;
type DoubleHbone = Extract<OutboundDecision, { kind: "double-hbone" }>;
type Passthrough = Extract<OutboundDecision, { kind: "passthrough" }>;

const protocols = { passthrough: "TCP", hbone: "HBONE", "double-hbone": "DOUBLEHBONE" } as const;

export class OutboundProxy {
  readonly #deps: OutboundDeps;
  readonly #listener: CaptureListener;
  readonly #pool: HbonePool;

  private constructor(deps: OutboundDeps, listener: CaptureListener) {
    this.#deps = deps;
    this.#listener = listener;
    this.#pool = new HbonePool({ clock: deps.clock, ...deps.pool, dial: (key) => this.#dialTunnel(key) });
  }

  /** @param fd a listening socket in the pod's namespace, owned from here on */
  static async open(fd: number, deps: OutboundDeps): Promise<OutboundProxy> {
    const { clock, log } = deps;
    const proxy: { current?: OutboundProxy } = {};
    const onAccept = (accepted: Accepted) => proxy.current?.serve(accepted);
    const listener = await CaptureListener.open({ fd, clock, log, paused: true, onAccept });
    return (proxy.current = new OutboundProxy(deps, listener));
  }

  /** Tunnels that stand. */
  get tunnels(): number {
    return this.#pool.size;
  }

  /** Stops accepting, waits for what is open, then breaks it and all tunnels. */
  async stop(options: StopOptions): Promise<void> {
    await this.#listener.stop(options);
    this.#pool.close();
  }

  /** One captured connection. Stays synchronous up to the dial where all is known, which is nearly always. */
  serve({ socket, peer, local }: Accepted): void {
    const { originalDestination, reporter } = this.#deps;
    reporter.socketOpened("source");
    socket.once("close", () => reporter.socketClosed("source"));
    socket.on("error", () => {}); // the relay, or the socket's end, tells
    const target = originalDestination(socket) ?? local;
    const refuse = (why: string) => {
      socket.resetAndDestroy();
      reporter.failEarly({ direction: "outbound", sourceAddress: peer, destinationAddress: target, error: why });
    };
    const fail = (error: unknown) => refuse(explain(error));
    const decide = (workload: Workload) => {
      const run = (decision: OutboundDecision) => {
        if (decision.kind === "refuse") refuse(decision.why);
        else this.#run(decision, { socket, peer, target, workload });
      };
      const decision = this.#deps.decide({ source: workload, peerIp: peer.ip, target });
      if (decision instanceof Promise) decision.then(run).catch(fail);
      else run(decision);
    };
    try {
      const workload = this.#deps.workload();
      if (workload instanceof Promise) workload.then(decide).catch(fail);
      else decide(workload);
    } catch (error) {
      fail(error);
    }
  }

  #run(decision: Exclude<OutboundDecision, { kind: "refuse" }>, captured: Captured): void {
    const { live } = this.#deps;
    const registration = live.openOutbound(
      {
        source: captured.peer,
        originalDestination: captured.target,
        actualDestination: nextHop(decision),
        protocol: protocols[decision.kind],
      },
      (why) => connection.abort(new Error(why)),
    );
    const connection = new OutboundConnection(captured.socket, () => {
      this.#listener.connections.delete(connection);
      registration[Symbol.dispose]();
    });
    this.#listener.connections.add(connection);
    switch (decision.kind) {
      case "passthrough":
        this.#passThrough(decision, captured, connection);
        return;
      case "hbone":
        void this.#tunnel(decision, captured, connection);
        return;
      case "double-hbone":
        void this.#tunnelTwice(decision, captured, connection);
        return;
    }
  }

  #passThrough(
    { target, destination, service }: Passthrough,
    captured: Captured,
    connection: OutboundConnection,
  ): void {
    const { reporter, dial } = this.#deps;
    connection.record = reporter.openRecord({
      reporter: "source",
      source: captured.workload,
      ...(destination !== undefined && { destination }),
      ...(service !== undefined && { service }),
      mutualTls: false,
      sourceAddress: captured.peer,
      destinationAddress: target,
    });
    let upstream: Socket;
    try {
      upstream = dial(target);
    } catch (error) {
      connection.fail(error);
      return;
    }
    const onError = (error: Error) => connection.fail(error);
    connection.onAbort = (error) => upstream.destroy(error);
    upstream.once("error", onError);
    upstream.once("connect", () => {
      upstream.off("error", onError);
      connection.join(upstream);
    });
  }

  async #tunnel(decision: Hbone, captured: Captured, connection: OutboundConnection): Promise<void> {
    const { hop, destination, service, authority } = decision;
    const { workload, peer } = captured;
    connection.record = this.#deps.reporter.openRecord({
      reporter: "source",
      source: workload,
      destination,
      ...(service !== undefined && { service }),
      sourceIdentity: workload.identity,
      destinationIdentity: destination.identity,
      mutualTls: true,
      sourceAddress: peer,
      destinationAddress: hop,
      hboneAddress: authority,
    });
    try {
      const key = { source: workload.identity, expected: decision.expected, address: hop, sourceIp: peer.ip };
      const { stream } = await this.#pool.open(key, headersOf(authority, captured, service?.hostname));
      connection.join(stream);
    } catch (error) {
      connection.fail(error);
    }
  }

  /** A tunnel to the gateway, and inside of it one to the far end, made for this connection alone. */
  async #tunnelTwice(decision: DoubleHbone, captured: Captured, connection: OutboundConnection): Promise<void> {
    const { gateway, authority, service } = decision;
    const { workload, peer } = captured;
    const headers = headersOf(authority, captured, service?.hostname);
    let outer: Tunnel | undefined;
    let inner: HboneConnection | undefined;
    let answer: Tunnel | undefined;
    let failure: unknown;
    try {
      const key = {
        source: workload.identity,
        expected: decision.gatewayExpected,
        address: gateway,
        sourceIp: peer.ip,
      };
      outer = await this.#pool.open(key, headers);
      inner = await this.#openSession(outer.stream, decision.expected, 1);
      inner.reserve();
      answer = await inner.connect({ ...headers, forwardedNetwork: this.#deps.network });
    } catch (error) {
      failure = error;
    }
    connection.record = this.#deps.reporter.openRecord(twiceFacts(decision, captured, answer));
    if (answer === undefined) {
      inner?.destroy();
      outer?.stream.destroy();
      connection.fail(failure);
      return;
    }
    connection.join(answer.stream, () => inner?.retire());
  }

  async #dialTunnel({ address, expected }: TunnelKey): Promise<HboneConnection> {
    const socket = this.#deps.dial(address);
    try {
      await connected(socket);
    } catch (error) {
      throw dialError(address, error);
    }
    return this.#openSession(socket, expected, this.#deps.pool.maxStreams);
  }

  async #openSession(
    transport: Socket | Http2Stream,
    expected: ExpectedPeer,
    maxStreams: number,
  ): Promise<HboneConnection> {
    const { clock, windows, allowTls12 = false } = this.#deps;
    try {
      const certificate = await this.#deps.certificate();
      return await HboneConnection.open(transport, { certificate, expected, clock, windows, maxStreams, allowTls12 });
    } catch (error) {
      transport.destroy();
      throw error;
    }
  }
}

/** What becomes of one captured connection, from the decision to its single report. */
class OutboundConnection {
  record: ConnectionRecord | undefined;
  /** While dialling a plain connection. */
  onAbort: ((error: Error) => void) | undefined;
  readonly #socket: Socket;
  readonly #release: () => void;
  #aborted: Error | undefined;
  #isDone = false;

  constructor(socket: Socket, release: () => void) {
    this.#socket = socket;
    this.#release = release;
  }

  abort(error: Error): void {
    this.#aborted ??= error;
    if (this.onAbort !== undefined) this.onAbort(error);
    else this.fail(error);
  }

  /** Before the relay: the application learns it by a reset. */
  fail(error: unknown): void {
    this.#socket.resetAndDestroy();
    this.#finish(flagOf(error), explain(error));
  }

  /** The upstream stands: moves bytes until both sides are closed. */
  join(upstream: Socket | Http2Stream, onEnded?: () => void): void {
    if (this.#isDone || this.#aborted !== undefined) {
      upstream.destroy();
      onEnded?.();
      return;
    }
    const { record } = this;
    const pair = relay(
      { downstream: this.#socket, upstream },
      {
        requestBytes: (bytes) => record?.requestBytes(bytes),
        responseBytes: (bytes) => record?.responseBytes(bytes),
        ended: (error) => {
          onEnded?.();
          this.#finish(error === undefined ? "-" : "CONNECT", error && explain(error));
        },
      },
    );
    this.onAbort = (error) => pair.abort(error);
  }

  #finish(flag: ConnectionFlag, error: string | undefined): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#release();
    this.record?.finish(flag, error);
  }
}

function nextHop(decision: Exclude<OutboundDecision, { kind: "refuse" }>): Endpoint {
  switch (decision.kind) {
    case "passthrough":
      return decision.target;
    case "hbone":
      return decision.hop;
    case "double-hbone":
      return decision.gateway;
  }
}

function headersOf(authority: string, { peer, workload }: Captured, serviceHostname?: string): ConnectHeaders {
  return {
    authority,
    baggage: workloadBaggage(workload),
    forwarded: encodeForwarded(peer, serviceHostname),
    traceparent: newTraceparent(),
  };
}

/** Beyond a gateway only the far end itself can say who it is. */
function twiceFacts(
  { gateway, authority, destination, service }: DoubleHbone,
  { workload, peer }: Captured,
  inner: Tunnel | undefined,
): ConnectionFacts {
  const described: Baggage | undefined = inner && readBaggage(inner.baggage);
  const identity = inner?.identity ?? destination?.identity;
  return {
    reporter: "source",
    source: workload,
    ...(destination !== undefined && { destination }),
    ...(described !== undefined && { destinationDescription: described }),
    ...(service !== undefined && { service }),
    sourceIdentity: workload.identity,
    ...(identity !== undefined && { destinationIdentity: identity }),
    mutualTls: true,
    sourceAddress: peer,
    destinationAddress: gateway,
    hboneAddress: authority,
  };
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve();
    });
  });
}

function dialError({ ip, port }: Endpoint, error: unknown): MeshError {
  const timedOut =
    (error instanceof MeshError && error.code === "UPSTREAM_CONNECT_FAILED") || codeOf(error) === "ETIMEDOUT";
  const where = hostPort(ip, port);
  return timedOut
    ? new MeshError(
        "HBONE_CONNECT_TIMEOUT",
        `Cannot reach "${where}" in time, maybe a NetworkPolicy blocks the HBONE port 15008`,
        error,
      )
    : new MeshError("HBONE_CONNECT_FAILED", `Cannot reach "${where}"`, error);
}

const flags: Partial<Record<FailureCode, ConnectionFlag>> = {
  CERTIFICATE_UNAVAILABLE: "IDENTITY_ERROR",
  HBONE_CONNECT_TIMEOUT: "NETWORK_POLICY",
  HBONE_PROTOCOL: "H2_HANDSHAKE_FAILURE",
};

const flagOf = (error: unknown): ConnectionFlag =>
  (error instanceof MeshError ? flags[error.code] : undefined) ?? "CONNECT";
