/** Makes connections to hosts. One for the process. */
import type { Duplex } from "node:stream";
import type { Clock } from "#shared/clock/clock.ts";
import { hostPort } from "#shared/net/ip.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import { ConnectTimeout } from "./connect-error.ts";
import { connectTcp } from "./connect-tcp.ts";
import { proxyHeader } from "./proxy-header.ts";
import { materialFor, originateTls } from "./tls-origination.ts";
import type { OnBehalfOf, Transport } from "./transport.ts";
import { Secrets, type SecretLookup } from "../secrets.ts";
import { Tunnels, type TunnelOptions } from "./tunnels.ts";

export interface ConnectorOptions extends TunnelOptions {
  /** What configurations of TLS name. Default: our own certificate and roots, and nothing else. */
  readonly secrets?: SecretLookup;
}

export interface ConnectOptions {
  readonly onBehalfOf?: OnBehalfOf | undefined;
  /** What to offer in TLS instead of what the transport says. */
  readonly alpn?: readonly string[] | undefined;
  /** The bytes go to one of our HTTP codecs, which need no stream to read from. */
  readonly isForCodec?: boolean | undefined;
}

export interface Connector extends Disposable {
  readonly clock: Clock;
  /**
   * Destroys what it has begun when the signal aborts.
   *
   * @throws MeshError UPSTREAM_CONNECT_FAILED, PEER_UNVERIFIED and the codes of tunnels, or the signal's reason
   */
  connectHost(host: Host, transport: Transport, signal: AbortSignal, options?: ConnectOptions): Promise<Duplex>;
}

export const createConnector = (options: ConnectorOptions): Connector => new HostConnector(options);

class HostConnector implements Connector {
  readonly clock: Clock;
  readonly #tunnels: Tunnels;
  readonly #secrets: SecretLookup;

  constructor(options: ConnectorOptions) {
    this.clock = options.clock;
    this.#secrets = options.secrets ?? new Secrets(options.certificate);
    this.#tunnels = new Tunnels(options);
  }

  async connectHost(
    host: Host,
    transport: Transport,
    signal: AbortSignal,
    options: ConnectOptions = {},
  ): Promise<Duplex> {
    const { connectTimeoutMs } = transport;
    const attempt = new AbortController();
    const onAbort = () => attempt.abort(signal.reason);
    const cancel = this.clock.schedule(connectTimeoutMs, () => {
      attempt.abort(new ConnectTimeout(hostPort(host.address.ip, host.address.port), connectTimeoutMs));
    });
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort);
    try {
      return await this.#connect(host, transport, attempt.signal, options);
    } finally {
      cancel();
      signal.removeEventListener("abort", onAbort);
    }
  }

  [Symbol.dispose](): void {
    this.#tunnels[Symbol.dispose]();
  }

  async #connect(
    { address, hostname }: Host,
    transport: Transport,
    signal: AbortSignal,
    { onBehalfOf, alpn, isForCodec = false }: ConnectOptions,
  ): Promise<Duplex> {
    const { tls, proxyProtocol } = transport;
    const carrier =
      address.kind === "hbone"
        ? await this.#tunnels.open(address, signal, onBehalfOf)
        : await connectTcp(address, transport, signal, isForCodec && tls === undefined);
    if (proxyProtocol !== undefined) carrier.write(proxyHeader(proxyProtocol, onBehalfOf));
    if (tls === undefined) return carrier;
    try {
      const material = await materialFor(tls, this.#secrets, signal);
      return await originateTls(carrier, tls, { hostName: hostname, alpn: alpn ?? tls.alpn, signal, material });
    } catch (error) {
      carrier.destroy();
      throw error;
    }
  }
}
