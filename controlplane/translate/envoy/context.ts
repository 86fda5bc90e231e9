/** What one waypoint's configuration is made from: the whole of the mesh, and which part of it this waypoint serves. */
import type { Labels } from "#controlplane/mesh/objects.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { Collected, CollectedWorkload } from "#controlplane/translate/collected.ts";
import type { TranslateOptions } from "#controlplane/translate/options.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import type { Waypoint } from "#controlplane/translate/waypoints.ts";

/** The instance that asks: balancing by locality and node-local services differ by where it runs. */
export interface ProxyFacts {
  readonly node: string;
  readonly network: string;
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
  /** Of its pod. */
  readonly labels: Labels;
  readonly ips: readonly string[];
  /** What it says of itself: its option for old clients, and when connections count as forgotten. */
  readonly acceptsHttp10: boolean;
  readonly idleTimeoutMs: number | undefined;
  /** It has proven that it runs as the waypoint: private keys may be told to it. */
  readonly mayHoldKeys: boolean;
  /** It is Envoy itself, which leaves some of its own settings unread. */
  readonly isEnvoy: boolean;
}

export interface EnvoyContext {
  readonly world: WorldView;
  readonly options: TranslateOptions;
  readonly meshConfig: MeshConfig;
  readonly collected: Collected;
  /** Of the Gateway. */
  readonly waypoint: Waypoint;
  readonly proxy: ProxyFacts;
  /** The services that it stands before, oldest first. */
  readonly served: readonly ServiceInfo[];
  /** The workloads that it stands before when they are addressed themselves. */
  readonly attached: readonly CollectedWorkload[];
  serves(service: ServiceInfo): boolean;
  /**
   * The service that a hostname means for an object of `namespace`: one of that namespace first, then what the whole mesh
   * means by it.
   */
  findService(hostname: string, namespace: string): ServiceInfo | undefined;
}

/** How a cluster is talked to; a sniffed port has one of each. */
export type ClusterProtocol = "http" | "tcp";

/** One place that a route sends to; a cluster is made for each. */
export interface Destination {
  readonly service: ServiceInfo;
  readonly port: PortInfo;
  /** Empty: every endpoint of the service. */
  readonly subset: string;
  readonly protocol: ClusterProtocol;
}
