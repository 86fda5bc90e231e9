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

/** How a policy's refusal reads in access logs. */
export const policyRejection = (why: string): string => `connection closed due to policy rejection: ${why}`;

/** How a connection that was allowed before reads in access logs when a change of policy ends it. */
export const latePolicyRejection = (why: string): string => `connection closed due to policy change: ${why}`;

/** Connections checked without a pause: 10 000 take some milliseconds, which the data path should not wait for. */
const checkedAtOnce = 1_000;

interface LiveInbound {
  readonly connection: InboundConnection;
  readonly close: (why: string) => void;
}

/** The live connections of one pod. */
export class ConnectionTable implements LiveConnections, Disposable {
  readonly #check: (connection: InboundConnection) => Verdict;
  readonly #inbound = new Set<LiveInbound>();
  readonly #outbound = new Set<OutboundConnection>();
  #recheckDue = false;

  /** @param check asks the policies in force, for the destination as the mesh knows it now */
  constructor(check: (connection: InboundConnection) => Verdict) {
    this.#check = check;
  }

  openInbound(connection: InboundConnection, close: (why: string) => void): LiveHandle {
    const live: LiveInbound = { connection, close };
    this.#inbound.add(live);
    const verdict = this.#check(connection);
    return { verdict, [Symbol.dispose]: () => void this.#inbound.delete(live) };
  }

  openOutbound(connection: OutboundConnection): Disposable {
    this.#outbound.add(connection);
    return { [Symbol.dispose]: () => void this.#outbound.delete(connection) };
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
    return this.#outbound;
  }

  /** Ends every inbound connection: the pod is gone. */
  [Symbol.dispose](): void {
    const all = [...this.#inbound];
    this.#inbound.clear();
    for (const { close } of all) close("the pod was removed");
  }

  #recheckFrom(all: readonly LiveInbound[], start: number): void {
    const end = Math.min(start + checkedAtOnce, all.length);
    for (const live of all.slice(start, end)) {
      if (!this.#inbound.has(live)) continue;
      const verdict = this.#check(live.connection);
      if (verdict.allowed) continue;
      this.#inbound.delete(live);
      live.close(verdict.why);
    }
    if (end < all.length) setImmediate(() => this.#recheckFrom(all, end));
  }
}
