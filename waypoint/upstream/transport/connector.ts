/** Makes connections to hosts. One for the process. */
import type { Duplex } from "node:stream";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Host } from "#waypoint/upstream/host.ts";
import type { OnBehalfOf, Transport } from "./transport.ts";

export interface ConnectorOptions {
  readonly clock: Clock;
  /** Who we are in tunnels: the certificate in force now. Rejects where the CA has none. */
  readonly certificate: () => WorkloadCertificate | Promise<WorkloadCertificate>;
  /** Of the mesh, aliases included: a tunnel's peer has to prove an identity in one of them. */
  readonly trustDomains: readonly string[];
  /** The identity to expect at an address, from the workload index; undefined: any of the trust domains. */
  readonly expectedIdentity?: ((ip: Ip) => SpiffeId | undefined) | undefined;
  /** Where tunnels are taken. Default 15008. */
  readonly hbonePort?: number;
}

export interface Connector extends Disposable {
  readonly clock: Clock;
  /**
   * @param alpn what to offer in TLS instead of what the transport says
   * @throws MeshError UPSTREAM_CONNECT_FAILED and the codes of tunnels
   */
  connectHost(
    host: Host,
    transport: Transport,
    signal: AbortSignal,
    onBehalfOf?: OnBehalfOf,
    alpn?: readonly string[],
  ): Promise<Duplex>;
}

export declare function createConnector(options: ConnectorOptions): Connector;
