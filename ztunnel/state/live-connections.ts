/** The connections of one pod: registered before the first policy check, re-checked when policies change. */
import type { PolicyConnection, Verdict } from "#shared/rbac/decide.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Workload } from "#shared/workload/workload.ts";

export interface InboundConnection {
  readonly policyConnection: PolicyConnection;
  readonly destination: Workload;
  readonly sourcePort: number;
  /** `host=` of Forwarded, for the dump. */
  readonly originalDestination?: string;
}

export interface OutboundConnection {
  readonly source: { readonly ip: Ip; readonly port: number };
  readonly originalDestination: { readonly ip: Ip; readonly port: number };
  readonly actualDestination: { readonly ip: Ip; readonly port: number };
  readonly protocol: "TCP" | "HBONE" | "DOUBLEHBONE";
}

/** Held for as long as the connection lives; disposing of it forgets the connection. */
export interface LiveHandle extends Disposable {
  /** The first check, made after registration so that no policy change can slip between. */
  readonly verdict: Verdict;
}

export interface LiveConnections {
  /** `close` is called at most once, with why, when a policy change forbids the connection or the pod is removed. */
  openInbound(connection: InboundConnection, close: (why: string) => void): LiveHandle;
  openOutbound(connection: OutboundConnection): Disposable;
}
