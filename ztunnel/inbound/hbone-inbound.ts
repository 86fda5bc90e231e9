/** Port 15008 of a pod: tunnels in, plain connections to the application out. */
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { WindowSizes } from "#shared/hbone/http2-settings.ts";
import { acceptConnect, HboneServer, refuseConnect, type IncomingConnect } from "#shared/hbone/hbone-server.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Workload } from "#shared/workload/workload.ts";
import { CaptureListener, type Accepted, type StopOptions } from "#ztunnel/listener/capture-listener.ts";
import { workloadBaggage } from "#ztunnel/listener/workload-baggage.ts";
import type { ConnectionFacts } from "#ztunnel/telemetry/connection-record.ts";
import type { ConnectRequest, InboundDecision } from "./decide-inbound.ts";
import { serveInbound, type Downstream, type InboundConnectionDeps } from "./inbound-connection.ts";
import { encodeProxyHeader } from "./proxy-header.ts";

export interface HboneInboundDeps extends InboundConnectionDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly windows: WindowSizes;
  /** Also accept TLS 1.2; 1.3 only otherwise. */
  readonly allowTls12?: boolean;
  /** Our network id. */
  readonly network: string;
  /** The pod's own workload, awaited if the control plane has not named it yet. Rejects when it does not in time. */
  readonly workload: () => Workload | Promise<Workload>;
  /** The pod's certificate. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  readonly decide: (request: ConnectRequest, workload: Workload) => InboundDecision;
  /** Who is known at an address of our network. */
  readonly workloadAt: (ip: Ip) => Workload | undefined;
  /** Describe ourselves in answers, and believe in reports what clients say of themselves (ENABLE_RESPONSE_BAGGAGE). */
  readonly usesBaggage: boolean;
}

export class HboneInbound {
  readonly #deps: HboneInboundDeps;
  readonly #listener: CaptureListener;
  readonly #server: HboneServer;

  private constructor(deps: HboneInboundDeps, listener: CaptureListener, server: HboneServer) {
    this.#deps = deps;
    this.#listener = listener;
    this.#server = server;
  }

  /** @param fd a listening socket in the pod's namespace, owned from here on */
  static async open(fd: number, deps: HboneInboundDeps): Promise<HboneInbound> {
    const { clock, log, reporter } = deps;
    const inbound: { current?: HboneInbound } = {};
    const server = new HboneServer({
      clock,
      windows: deps.windows,
      allowTls12: deps.allowTls12 ?? false,
      certificate: deps.certificate,
      onConnect: (connect) => inbound.current?.serve(connect),
      onRefused: ({ peer, local }, error) =>
        reporter.failEarly({ direction: "inbound", sourceAddress: peer, destinationAddress: local, error }),
      onClosed: () => reporter.socketClosed("destination"),
    });
    const onAccept = ({ socket, ...ends }: Accepted) => {
      reporter.socketOpened("destination");
      server.accept(socket, ends);
    };
    const listener = await CaptureListener.open({ fd, clock, log, paused: false, onAccept });
    return (inbound.current = new HboneInbound(deps, listener, server));
  }

  /** Stops accepting, tells clients to go elsewhere, waits for the open streams, then breaks what is left. */
  async stop(options: StopOptions): Promise<void> {
    if (options.deadlineMs > 0) {
      await this.#listener.stopAccepting();
      await this.#server.drain();
    }
    await this.#listener.stop(options);
    this.#server.close();
  }

  /** One CONNECT. Stays synchronous where the workload is known, which is nearly always. */
  serve(connect: IncomingConnect): void {
    connect.stream.on("error", () => {}); // the relay, or the stream's end, tells
    let known: Workload | Promise<Workload>;
    try {
      known = this.#deps.workload();
    } catch (error) {
      this.#refuse(connect, 503, explain(error));
      return;
    }
    if (!(known instanceof Promise)) {
      this.#serveFor(known, connect);
      return;
    }
    known.then(
      (workload) => this.#serveFor(workload, connect),
      (error: unknown) => this.#refuse(connect, 503, explain(error)),
    );
  }

  #serveFor(workload: Workload, connect: IncomingConnect): void {
    const { tunnel, stream } = connect;
    if (stream.destroyed) return; // gone while we waited for the workload
    const decision = this.#deps.decide(
      {
        method: connect.method,
        authority: connect.authority,
        ...(connect.forwardedHost !== undefined && { forwardedHost: connect.forwardedHost }),
        local: tunnel.local,
        peer: tunnel.peer,
      },
      workload,
    );
    if (decision.kind === "refuse") {
      this.#refuse(connect, decision.status, decision.why);
      return;
    }
    const downstream: Downstream = {
      end: stream,
      denied: () => refuseConnect(stream, 401),
      unreachable: () => refuseConnect(stream, 503),
      connected: (application) => {
        if (!acceptConnect(stream, this.#deps.usesBaggage ? workloadBaggage(workload) : undefined)) return false;
        const { proxyProtocolTarget } = decision;
        if (proxyProtocolTarget !== undefined) {
          application.write(encodeProxyHeader(tunnel.peer, proxyProtocolTarget, tunnel.identity));
        }
        return true;
      },
    };
    serveInbound(
      {
        destination: workload,
        decision,
        facts: this.#factsOf(connect, workload, decision),
        originalDestination: connect.forwardedHost,
        sourcePort: connect.forwardedPort,
      },
      downstream,
      this.#deps,
      this.#listener.connections,
    );
  }

  #factsOf(
    connect: IncomingConnect,
    destination: Workload,
    { service }: Extract<InboundDecision, { kind: "connect" }>,
  ): ConnectionFacts {
    const { tunnel, forwardedNetwork } = connect;
    const { network, usesBaggage, workloadAt } = this.#deps;
    // Behind a gateway the peer's address is the gateway's and says nothing about the caller.
    const fromGateway = forwardedNetwork !== undefined && forwardedNetwork.toLowerCase() !== network.toLowerCase();
    const source = fromGateway ? undefined : workloadAt(tunnel.peer.ip);
    return {
      reporter: "destination",
      ...(source !== undefined && { source }),
      ...(usesBaggage && source === undefined && { sourceDescription: connect.baggage() }),
      destination,
      ...(service !== undefined && { service }),
      sourceIdentity: tunnel.identity,
      destinationIdentity: destination.identity,
      mutualTls: true,
      sourceAddress: tunnel.peer,
      destinationAddress: tunnel.local,
      hboneAddress: connect.authority,
    };
  }

  #refuse({ stream, tunnel }: IncomingConnect, status: 400 | 503, why: string): void {
    refuseConnect(stream, status);
    this.#deps.reporter.failEarly({
      direction: "inbound",
      sourceAddress: tunnel.peer,
      destinationAddress: tunnel.local,
      error: why,
    });
  }
}
