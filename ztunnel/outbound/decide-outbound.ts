/** Where a captured connection goes: no I/O, no clock; randomness is a parameter. */
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Service, Workload } from "#shared/workload/workload.ts";

export interface SocketTarget {
  readonly ip: Ip;
  readonly port: number;
}

export interface OutboundRequest {
  /** The workload whose pod the connection was captured in. */
  readonly source: Workload;
  /** The application's end of the captured connection. */
  readonly peerIp: Ip;
  /** Where the application meant to go. */
  readonly target: SocketTarget;
}

export type OutboundDecision =
  | {
      /** Plain TCP. */
      readonly kind: "passthrough";
      readonly why: string;
      readonly target: SocketTarget;
      readonly destination?: Workload;
      readonly service?: Service;
    }
  | {
      /** One tunnel to `hop`, CONNECT `authority`. */
      readonly kind: "hbone";
      readonly why: string;
      readonly via: "workload" | "waypoint";
      readonly hop: SocketTarget;
      readonly authority: string;
      /** The server must prove one of these. */
      readonly expected: readonly SpiffeId[];
      /** The workload at `hop`. */
      readonly destination: Workload;
      /** The service that the application meant. */
      readonly service?: Service;
    }
  | {
      /** A tunnel inside a tunnel through another network's gateway; both CONNECT `authority`. */
      readonly kind: "double-hbone";
      readonly why: string;
      readonly gateway: SocketTarget;
      readonly gatewayExpected: readonly SpiffeId[];
      readonly authority: string;
      /** What the far end of the inner tunnel must prove. */
      readonly expected: readonly SpiffeId[];
      /** The gateway's workload; the inner peer's baggage replaces it in reports. */
      readonly destination?: Workload;
      readonly service?: Service;
    }
  | { readonly kind: "refuse"; readonly why: string };

/** A decision that waits for the address of a workload known by hostname only. */
export interface Unresolved {
  readonly kind: "resolve";
  readonly hostname: string;
  /** Family that the application used: preferred among the answers. */
  readonly family: 4 | 6;
  /** The decision once the address is known. */
  readonly complete: (ip: Ip) => OutboundDecision;
}
