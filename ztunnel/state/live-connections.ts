/**
 * The connections of one pod: registered before the first policy check, re-checked when policies change. Those that left
 * in clear are ended when their destination joins the mesh.
 */
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
  /** `close` is called at most once, with why, when the connection ought to be in a tunnel now. */
  openOutbound(connection: OutboundConnection, close: (why: string) => void): Disposable;
}

/** How a policy's refusal reads in access logs. */
export const policyRejection = (why: string): string => `connection closed due to policy rejection: ${why}`;

/** How a connection that was allowed before reads in access logs when a change of policy ends it. */
export const latePolicyRejection = (why: string): string => `connection closed due to policy change: ${why}`;

/** Connections checked without a pause: 10 000 take some milliseconds, which the data path should not wait for. */
const checkedAtOnce = 1_000;

/** How the end of a connection in clear reads in access logs when its destination can be reached in a tunnel. */
export const destinationJoined =
  "connection closed as its destination has joined the mesh: the next one takes a tunnel";

interface Live<Connection> {
  readonly connection: Connection;
  readonly close: (why: string) => void;
}

/** What is asked of the mesh as it is known now. */
export interface ConnectionChecks {
  /** The policies in force. */
  readonly inbound: (connection: InboundConnection) => Verdict;
  /** Whether a connection to the same destination would take a tunnel. */
  readonly takesTunnel: (connection: OutboundConnection) => boolean;
}

/** The live connections of one pod. */
export class ConnectionTable implements LiveConnections, Disposable {
  readonly #checks: ConnectionChecks;
  readonly #inbound = new Set<Live<InboundConnection>>();
  readonly #outbound = new Set<Live<OutboundConnection>>();
  #recheckDue = false;

  constructor(checks: ConnectionChecks) {
    this.#checks = checks;
  }

  openInbound(connection: InboundConnection, close: (why: string) => void): LiveHandle {
    const live = { connection, close };
    this.#inbound.add(live);
    const verdict = this.#checks.inbound(connection);
    return { verdict, [Symbol.dispose]: () => void this.#inbound.delete(live) };
  }

  openOutbound(connection: OutboundConnection, close: (why: string) => void): Disposable {
    const live = { connection, close };
    this.#outbound.add(live);
    return { [Symbol.dispose]: () => void this.#outbound.delete(live) };
  }

  /**
   * Call when workloads at these addresses can be reached in tunnels now and could not before. Who connects between the
   * capture of two pods and the moment in which both ends know of it would else speak in clear for as long as it likes.
   */
  joined(addresses: ReadonlySet<Ip>): void {
    for (const live of this.#outbound) {
      const { protocol, actualDestination } = live.connection;
      if (protocol !== "TCP" || !addresses.has(actualDestination.ip)) continue;
      if (!this.#checks.takesTunnel(live.connection)) continue;
      this.#outbound.delete(live);
      live.close(destinationJoined);
    }
  }

  /** Call after each change of policies, or of a local workload's list of them: closes what is no longer allowed. */
  recheck(): void {
    if (this.#recheckDue) return;
    this.#recheckDue = true;
    setImmediate(() => {
      this.#recheckDue = false;
      // What opens from now on is checked against the new policies as it opens.
      this.#recheckFrom([...this.#inbound], 0);
    });
  }

  get inbound(): Iterable<InboundConnection> {
    return this.#inbound.values().map(({ connection }) => connection);
  }

  get outbound(): Iterable<OutboundConnection> {
    return this.#outbound.values().map(({ connection }) => connection);
  }

  /** Ends every inbound connection: the pod is gone. */
  [Symbol.dispose](): void {
    const all = [...this.#inbound];
    this.#inbound.clear();
    for (const { close } of all) close("the pod was removed");
  }

  #recheckFrom(all: readonly Live<InboundConnection>[], start: number): void {
    const end = Math.min(start + checkedAtOnce, all.length);
    for (const live of all.slice(start, end)) {
      if (!this.#inbound.has(live)) continue;
      const verdict = this.#checks.inbound(live.connection);
      if (verdict.allowed) continue;
      this.#inbound.delete(live);
      live.close(verdict.why);
    }
    if (end < all.length) setImmediate(() => this.#recheckFrom(all, end));
  }
}
