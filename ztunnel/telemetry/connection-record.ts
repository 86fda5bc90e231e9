/** What is reported of a connection: bytes as they pass, and once, on every way out, how it ended. */
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Service, Workload } from "#shared/workload/workload.ts";

/** What a peer says of itself in baggage: for reports only. Absent or empty means unknown. */
export interface PeerDescription {
  readonly clusterId?: string;
  readonly namespace?: string;
  readonly workloadName?: string;
  readonly serviceName?: string;
  readonly revision?: string;
  readonly region?: string;
  readonly zone?: string;
}

/** Istio's response flags. */
export type ConnectionFlag =
  | "-"
  | "DENY"
  | "CONNECT"
  | "TLS_FAILURE"
  | "H2_HANDSHAKE_FAILURE"
  | "NETWORK_POLICY"
  | "IDENTITY_ERROR"
  | "CERT_REVOKED";

export interface ConnectionFacts {
  /** `source`: outbound; `destination`: inbound. */
  readonly reporter: "source" | "destination";
  readonly source?: Workload;
  /** Overruled by `source`. */
  readonly sourceDescription?: PeerDescription;
  readonly destination?: Workload;
  /** Overrules `destination`: the inner peer of a double tunnel. */
  readonly destinationDescription?: PeerDescription;
  readonly service?: Service;
  /** Proven by mutual TLS only (outbound: our own). */
  readonly sourceIdentity?: SpiffeId;
  readonly destinationIdentity?: SpiffeId;
  readonly mutualTls: boolean;
  readonly sourceAddress: { readonly ip: Ip; readonly port: number };
  /** The next hop for outbound; where the tunnel or connection arrived for inbound. */
  readonly destinationAddress: { readonly ip: Ip; readonly port: number };
  /** CONNECT authority. */
  readonly hboneAddress?: string;
}

export interface ConnectionRecord extends Disposable {
  /** Bytes from the calling side to the called side (Istio's `received`). */
  requestBytes(bytes: number): void;
  /** Bytes from the called side back (Istio's `sent`). */
  responseBytes(bytes: number): void;
  /** Reports; later calls change nothing. Without it, leaving the scope reports a cancelled connection. */
  finish(flag: ConnectionFlag, error?: string): void;
}

/** For connections that ended before enough was known for a record: one warning line, no metrics. */
export interface EarlyFailure {
  readonly direction: "inbound" | "outbound";
  readonly sourceAddress: { readonly ip: Ip; readonly port: number };
  readonly destinationAddress: { readonly ip: Ip; readonly port: number };
  readonly error: string;
}

export interface ConnectionReporter {
  openRecord(facts: ConnectionFacts): ConnectionRecord;
  failEarly(failure: EarlyFailure): void;
  /** Counts an accepted socket until disposed of. */
  socketOpened(reporter: "source" | "destination"): void;
  socketClosed(reporter: "source" | "destination"): void;
}
