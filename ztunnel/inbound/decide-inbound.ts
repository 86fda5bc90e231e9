/** Where a CONNECT that reached a pod goes: no I/O, no clock. Policy is asked afterwards, with `policyTarget`. */
import type { Ip } from "#shared/net/ip.ts";
import type { Service, Workload } from "#shared/workload/workload.ts";

export interface ConnectRequest {
  readonly method: string;
  readonly authority: string;
  /** `host=` of the Forwarded header: chooses only among the workload's own services. */
  readonly forwardedHost?: string;
  /** Ends of the tunnel's socket. */
  readonly local: { readonly ip: Ip; readonly port: number };
  readonly peer: { readonly ip: Ip; readonly port: number };
}

/** Who we answer for. */
export interface InboundSelf {
  readonly workload: Workload;
  /** Our network id. */
  readonly network: string;
  /** Ports of our own listeners, never dialled: 15001, 15006, 15008, and 15080 with SOCKS5. */
  readonly illegalPorts: ReadonlySet<number>;
  /** Whether PROXY-protocol applications are dialled on loopback. */
  readonly localhostAppTunnel: boolean;
}

export type InboundDecision =
  | {
      readonly kind: "connect";
      /** What to dial. */
      readonly target: { readonly ip: Ip; readonly port: number };
      /** What policy sees as the destination: the pod's address, the application's port. */
      readonly policyTarget: { readonly ip: Ip; readonly port: number };
      /** False where the application is dialled on loopback, or the peer's address is the target's own. */
      readonly keepSource: boolean;
      /** Set where the application wants a PROXY v2 header: the destination to write in it. */
      readonly proxyProtocolTarget?: { readonly ip: Ip; readonly port: number };
      /** Best guess of the service meant, for metrics. */
      readonly service?: Service;
    }
  | { readonly kind: "refuse"; readonly status: 400 | 503; readonly why: string };
