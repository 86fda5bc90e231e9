import type { Ip } from "#shared/net/ip.ts";
import type { PortMap, Service, Workload } from "./workload.ts";

/** One workload behind a service. */
export interface Endpoint {
  readonly workload: Workload;
  /** Service port → target port as this workload maps them. */
  readonly ports: PortMap;
}

/** A service with what stands behind it, as of the last batch; replaced whole when either changes. */
export interface ServiceEntry {
  readonly service: Service;
  /** By workload uid. */
  readonly endpoints: ReadonlyMap<string, Endpoint>;
}

/** What a decision may ask of the mesh's state. All are map look-ups. */
export interface WorkloadLookup {
  workloadByUid(uid: string): Workload | undefined;
  /** Host-network workloads are never found by address. */
  workloadByAddress(network: string, ip: Ip): Workload | undefined;
  workloadByHostname(namespace: string, hostname: string): Workload | undefined;
  /** The best service for an address, as a client in `clientNamespace` sees it. */
  serviceByAddress(network: string, ip: Ip, clientNamespace?: string): ServiceEntry | undefined;
  /** The best service for a hostname, as a client in `clientNamespace` sees it. */
  serviceByHostname(hostname: string, clientNamespace?: string): ServiceEntry | undefined;
  /** Exactly this one: `namespace/hostname`. */
  serviceByKey(key: string): ServiceEntry | undefined;
}
