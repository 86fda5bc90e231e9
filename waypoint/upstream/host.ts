/** One endpoint of a cluster. Identity (`===`) is stable across updates that leave its address as it is. */
import type { JsonObject } from "@bufbuild/protobuf";

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

/** How bytes get to a host. */
export type HostAddress =
  /** TCP. */
  | { readonly kind: "socket"; readonly ip: string; readonly port: number }
  /** CONNECT `ip:port` in a tunnel to `ip:15008`, with our own identity. */
  | { readonly kind: "hbone"; readonly ip: string; readonly port: number };

export interface Host {
  /**
   * Unique in its cluster; what hashing and logs use. As Envoy writes addresses: `10.0.0.1:8080`, and for one that is
   * reached in a tunnel `envoy://connect_originate/10.0.0.1:8080`.
   */
  readonly key: string;
  readonly address: HostAddress;
  /** Name from DNS or configuration; for hashing by name and for automatic host rewrite. */
  readonly hostname: string;
  readonly locality: Locality;
  /** `filter_metadata` of the endpoint. */
  readonly metadata: ReadonlyMap<string, JsonObject>;
  /** Requests now in flight. Kept by the router. */
  active: number;
}
