/** Port 15006 of a pod: plain connections, captured on their way in, still have to pass policy. */
import type { Socket } from "node:net";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { Endpoint } from "#shared/sockets/socket-address.ts";
import { CaptureListener, type Accepted, type StopOptions } from "#ztunnel/listener/capture-listener.ts";
import type { InboundDecision, PlaintextRequest } from "./decide-inbound.ts";
import { serveInbound, type InboundConnectionDeps } from "./inbound-connection.ts";

export interface PassthroughInboundDeps extends InboundConnectionDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** The pod's own workload, awaited if the control plane has not named it yet. Rejects when it does not in time. */
  readonly workload: () => Workload | Promise<Workload>;
  readonly decide: (request: PlaintextRequest, workload: Workload) => InboundDecision;
  /** Who is known at an address of our network. */
  readonly workloadAt: (ip: Ip) => Workload | undefined;
  /** Where the connection was going before it was redirected to us; undefined where the socket is gone. */
  readonly originalDestination: (socket: Socket) => Endpoint | undefined;
}

export class PassthroughInbound {
  readonly #deps: PassthroughInboundDeps;
  readonly #listener: CaptureListener;

  private constructor(deps: PassthroughInboundDeps, listener: CaptureListener) {
    this.#deps = deps;
    this.#listener = listener;
  }

  /** @param fd a listening socket in the pod's namespace, owned from here on */
  static async open(fd: number, deps: PassthroughInboundDeps): Promise<PassthroughInbound> {
    const { clock, log } = deps;
    const inbound: { current?: PassthroughInbound } = {};
    const onAccept = (accepted: Accepted) => inbound.current?.serve(accepted);
    const listener = await CaptureListener.open({ fd, clock, log, paused: true, onAccept });
    return (inbound.current = new PassthroughInbound(deps, listener));
  }

  /** Stops accepting, waits for what is open, then breaks it. */
  async stop(options: StopOptions): Promise<void> {
    await this.#listener.stop(options);
  }

  serve({ socket, peer, local }: Accepted): void {
    const { originalDestination, reporter } = this.#deps;
    reporter.socketOpened("destination");
    socket.once("close", () => reporter.socketClosed("destination"));
    socket.on("error", () => {}); // the relay, or the socket's end, tells
    const target = originalDestination(socket) ?? local;
    const refuse = (why: string) => {
      socket.resetAndDestroy();
      reporter.failEarly({ direction: "inbound", sourceAddress: peer, destinationAddress: target, error: why });
    };
    let known: Workload | Promise<Workload>;
    try {
      known = this.#deps.workload();
    } catch (error) {
      refuse(explain(error));
      return;
    }
    const serve = (workload: Workload) => this.#serveFor(workload, { socket, peer, local: target }, refuse);
    if (!(known instanceof Promise)) serve(known);
    else known.then(serve, (error: unknown) => refuse(explain(error)));
  }

  #serveFor(workload: Workload, { socket, peer, local: target }: Accepted, refuse: (why: string) => void): void {
    if (socket.destroyed) return; // gone while we waited for the workload
    const decision = this.#deps.decide({ originalDestination: target, peer }, workload);
    if (decision.kind === "refuse") {
      refuse(decision.why);
      return;
    }
    const source = this.#deps.workloadAt(peer.ip);
    const { service } = decision;
    serveInbound(
      {
        destination: workload,
        decision,
        facts: {
          reporter: "destination",
          ...(source !== undefined && { source }),
          destination: workload,
          ...(service !== undefined && { service }),
          mutualTls: false,
          sourceAddress: peer,
          destinationAddress: target,
        },
      },
      {
        end: socket,
        denied: () => void socket.resetAndDestroy(),
        unreachable: () => void socket.resetAndDestroy(),
        connected: () => !socket.destroyed,
      },
      this.#deps,
      this.#listener.connections,
    );
  }
}
