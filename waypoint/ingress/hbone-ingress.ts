/** Port 15008: tunnels in. What is inside goes to the listener that the control plane made for it. */
import { createServer, type Server } from "node:net";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { acceptConnect, HboneServer, refuseConnect, type IncomingConnect } from "#shared/hbone/hbone-server.ts";
import { windowSizesDefault } from "#shared/hbone/http2-settings.ts";
import { identityOf } from "#shared/identity/spiffe-id.ts";
import { hostPort, parseIp, splitHostPort, tryIp, type Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { listenAt } from "#shared/sockets/listen.ts";
import { endsOf } from "#shared/sockets/socket-ends.ts";
import type { SocketAddress } from "#waypoint/http/exchange.ts";
import type { ListenerRuntime } from "./listener-runtime.ts";
import type { TunnelEntry } from "./tunnel-entry.ts";

export interface HboneIngressOptions {
  /** `::` takes IPv4 too. */
  readonly address: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Our own, now in force. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  /** Further names of our trust domain. */
  readonly trustDomainAliases: readonly string[];
  /** SPIFFE id of ourselves. */
  readonly identity: string;
  readonly listener: () => ListenerRuntime | undefined;
  /** The address of a service of the mesh; undefined where the name is none. */
  readonly addressOf: (hostname: string) => Ip | undefined;
  /** What the control plane says of clients; undefined: all of the mesh may come. */
  readonly entry: () => TunnelEntry | undefined;
}

interface Refusal {
  readonly status: Parameters<typeof refuseConnect>[1];
  readonly why: string;
}

/** As Istio's waypoints. */
const maxStreamsDefault = 100;

export class HboneIngress {
  readonly port: number;
  readonly #options: HboneIngressOptions;
  readonly #server: Server;
  readonly #hbone: HboneServer;
  #onEmpty: (() => void) | undefined;

  /** @throws MeshError SYSTEM_CALL_FAILED where the port is taken */
  constructor(options: HboneIngressOptions) {
    this.#options = options;
    const { address, clock, log, certificate, trustDomainAliases, entry } = options;
    this.#hbone = new HboneServer({
      clock,
      windows: windowSizesDefault,
      get maxStreams() {
        return entry()?.maxStreams ?? maxStreamsDefault;
      },
      certificate,
      isMember: (client) =>
        entry()?.expects(client) ?? trustDomainAliases.includes(identityOf(client)?.trustDomain ?? ""),
      onConnect: (connect) => this.#serve(connect),
      onRefused: ({ peer }, why) => log.info({ peer: hostPort(peer.ip, peer.port), why }, "tunnel refused"),
      onClosed: () => this.#hbone.size === 0 && this.#onEmpty?.(),
    });
    const { fd, port } = listen(address, options.port);
    this.port = port;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const ends = endsOf(socket);
      if (ends === undefined) socket.destroy();
      else this.#hbone.accept(socket, ends);
    });
    this.#server.on("error", (error) => log.warn({ error: explain(error) }, "cannot accept a tunnel"));
    this.#server.listen({ fd });
  }

  get size(): number {
    return this.#hbone.size;
  }

  /** Asks clients to take new connections elsewhere; those that are open go on. */
  drain(): void {
    void this.#hbone.drain();
  }

  /** Resolves when no client is connected. */
  async empty(): Promise<void> {
    if (this.#hbone.size > 0) await new Promise<void>((resolve) => (this.#onEmpty = resolve));
  }

  stopAccepting(): void {
    this.#server.close();
  }

  close(): void {
    this.stopAccepting();
    this.#hbone.close();
  }

  #serve(connect: IncomingConnect): void {
    const { stream, tunnel, method, authority } = connect;
    const { clock, log, identity, listener, entry } = this.#options;
    stream.on("error", onLateError);
    const runtime = listener();
    const takesNames = runtime?.listener.takesNames === true;
    const target = method === "CONNECT" ? this.#destinationOf(authority, takesNames) : undefined;
    const connection = {
      source: tunnel.peer,
      destination: target ?? tunnel.local,
      peerPrincipal: tunnel.identity,
      localPrincipal: identity,
    };
    const asked = { ...connection, id: 0, serverName: undefined };
    const refuse = ({ status, why }: Refusal) => {
      log.info({ method, authority, status, why, peer: tunnel.identity }, "request to the tunnel port refused");
      entry()?.log({ connection: asked, method, authority, status, details: why, atMs: clock.now() });
      refuseConnect(stream, status);
    };
    if (method !== "CONNECT") return refuse({ status: 404, why: "route_not_found" });
    if (runtime === undefined) return refuse({ status: 503, why: "no_listener" });
    if (target === undefined) return refuse({ status: 400, why: "no_address" });
    const refusal = entry()?.refusal(asked);
    if (refusal !== undefined) return refuse(refusal);
    if (!acceptConnect(stream, undefined)) return undefined;
    runtime.accept({ ...connection, end: stream, authority });
    return undefined;
  }

  /** An address and a port; or a service by its name, as clients in other networks know it. */
  #destinationOf(authority: string, takesNames: boolean): SocketAddress | undefined {
    const split = splitHostPort(authority);
    if (split === undefined) return undefined;
    const ip = tryIp(split.host) ?? (takesNames ? this.#options.addressOf(split.host) : undefined);
    return ip === undefined ? undefined : { ip, port: split.port };
  }
}

/** Machines without IPv6 have no `::`. */
function listen(address: string, port: number) {
  try {
    return listenAt(parseIp(address), port);
  } catch (error) {
    const { errno } = error as { readonly errno?: string };
    if (address !== "::" || (errno !== "EAFNOSUPPORT" && errno !== "EADDRNOTAVAIL")) throw error;
    return listenAt(parseIp("0.0.0.0"), port);
  }
}

const onLateError = () => {};
