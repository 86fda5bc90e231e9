/**
 * What the mesh knows of workloads and services: our own readonly form of `istio.workload.Address`.
 * Protobuf stops at `from-proto.ts`; nothing past it checks these values again.
 */
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Cidr } from "#shared/net/cidr.ts";
import type { Ip } from "#shared/net/ip.ts";

/** An address within a network; the empty network is the default one. */
export interface NetworkIp {
  readonly network: string;
  readonly ip: Ip;
}

/** Where a waypoint or a network gateway is found. */
export interface GatewayAddress {
  readonly destination:
    | { readonly kind: "hostname"; readonly namespace: string; readonly hostname: string }
    | ({ readonly kind: "address" } & NetworkIp);
  readonly hboneMtlsPort: number;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** Service port → target port; 0 means the port is named and each endpoint maps it itself. */
export type PortMap = ReadonlyMap<number, number>;

export interface ApplicationTunnel {
  readonly protocol: "NONE" | "PROXY";
  /** undefined: the original port. */
  readonly port?: number;
}

export interface Workload {
  /** For example `Kubernetes//Pod/shop/cart-1`. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly addresses: readonly Ip[];
  /** Resolved on demand where there is no address; empty if none. */
  readonly hostname: string;
  readonly network: string;
  readonly protocol: "TCP" | "HBONE";
  readonly networkMode: "STANDARD" | "HOST_NETWORK";
  readonly trustDomain: string;
  readonly serviceAccount: string;
  /** Made of trust domain, namespace and service account. */
  readonly identity: SpiffeId;
  readonly waypoint?: GatewayAddress;
  readonly networkGateway?: GatewayAddress;
  readonly applicationTunnel?: ApplicationTunnel;
  readonly node: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  /** Lower case: deployment, cronjob, pod, job. */
  readonly workloadType: string;
  readonly workloadName: string;
  readonly nativeTunnel: boolean;
  /** Keys `namespace/hostname`. */
  readonly services: ReadonlyMap<string, PortMap>;
  /** Keys `namespace/name` of selector-scoped policies that apply here. */
  readonly authorizationPolicies: readonly string[];
  readonly healthy: boolean;
  readonly clusterId: string;
  readonly locality: Locality;
  /** Weight among endpoints; 0 is never picked. */
  readonly capacity: number;
}

export type RoutingScope = "REGION" | "ZONE" | "SUBZONE" | "NODE" | "CLUSTER" | "NETWORK";

export interface LoadBalancing {
  readonly mode: "STANDARD" | "STRICT" | "FAILOVER" | "PASSTHROUGH";
  readonly routingPreference: readonly RoutingScope[];
  readonly healthPolicy: "ONLY_HEALTHY" | "ALLOW_ALL";
}

export interface Service {
  readonly name: string;
  readonly namespace: string;
  /** May be a wildcard such as `*.example.com`. */
  readonly hostname: string;
  readonly vips: readonly NetworkIp[];
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[];
  readonly ports: PortMap;
  /** Further server identities to accept; entries that are no SPIFFE id were dropped. */
  readonly subjectAltNames: readonly SpiffeId[];
  readonly waypoint?: GatewayAddress;
  readonly weightedWaypoints: readonly { readonly destination: GatewayAddress; readonly weight: number }[];
  readonly loadBalancing?: LoadBalancing;
  readonly ipFamilies: "AUTOMATIC" | "IPV4_ONLY" | "IPV6_ONLY" | "DUAL";
  readonly canonical: boolean;
  readonly visibility: "PUBLIC" | "NAMESPACE";
}

/** `namespace/hostname`: the xDS name of a service. */
export const serviceKey = (service: { readonly namespace: string; readonly hostname: string }): string =>
  `${service.namespace}/${service.hostname}`;
