/**
 * The connections of a cluster: one pool for each routing priority and transport, and, where TLS takes its server name
 * from the request, for each of those names. Made at first use.
 */
import { isIP } from "node:net";
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { PoolGauge } from "./circuit-breaker.ts";
import type { RoutingPriority } from "./routing-priority.ts";
import { sanFor } from "./compile/compile-tls.ts";
import { transportFor } from "./compile/compile-transport.ts";
import type { ClusterConfig } from "./compile/compile-cluster.ts";
import type { Endpoint } from "./endpoint.ts";
import type { HttpPool } from "./transport/http-pool.ts";
import { noCounts, type HttpPoolOptions, type PoolCounts, type PoolLimits } from "./transport/pool-options.ts";
import type { Transport } from "./transport/transport.ts";

export type MakePool = (options: HttpPoolOptions) => HttpPool;

type Config = Pick<ClusterConfig, "name" | "http" | "transports" | "breakers">;

/** Names come from clients; the pool of the one that was longest unused closes. */
const maxNamesDefault = 256;
const priorities: readonly RoutingPriority[] = ["default", "high"];

export class ClusterPools implements Disposable {
  readonly #config: Config;
  readonly #makePool: MakePool;
  readonly #maxNames: number;
  /** By priority and transport. */
  readonly #pools: Readonly<Record<RoutingPriority, Map<Transport, Map<string, HttpPool>>>> = {
    default: new Map(),
    high: new Map(),
  };
  /** The one pool that nearly every cluster has, found without a look at anything. */
  #only: HttpPool | undefined;

  constructor(config: Config, makePool: MakePool, maxNames = maxNamesDefault) {
    this.#config = config;
    this.#makePool = makePool;
    this.#maxNames = maxNames;
  }

  /** For a request. */
  forRequest(host: Endpoint, head: RequestHead, priority: RoutingPriority): HttpPool {
    if (this.#only !== undefined && priority === "default") return this.#only;
    const { transports, http } = this.#config;
    const transport = transportFor(transports, host.metadata);
    if (transport.tls === undefined || http.autoSni === undefined) return this.#pool(priority, transport, "");
    return this.#pool(priority, transport, serverNameOf(head, http.autoSni.header));
  }

  /** For bytes: there is no request that would name a server, but the host may. */
  forConnection(host: Endpoint): HttpPool {
    const transport = transportFor(this.#config.transports, host.metadata);
    const usesName = transport.tls?.serverName === "" && this.#config.http.autoSni !== undefined;
    return this.#pool("default", transport, usesName && isIP(host.hostname) === 0 ? host.hostname : "");
  }

  gauge(priority: RoutingPriority): PoolGauge {
    if (this.#only !== undefined && priority === "default") return this.#only.counts;
    return this.#sum(priority);
  }

  /** Of every pool together. */
  counts(priority: RoutingPriority): PoolCounts {
    return this.#sum(priority);
  }

  removeHost(host: Endpoint): void {
    for (const pool of this.#all()) pool.removeHost(host);
  }

  /** What is in flight ends in peace. */
  drain(): void {
    for (const pool of this.#all()) pool.drain();
  }

  [Symbol.dispose](): void {
    for (const pool of this.#all()) pool[Symbol.dispose]();
  }

  *#all(priority?: RoutingPriority): Generator<HttpPool> {
    for (const each of priority === undefined ? priorities : [priority]) {
      for (const byName of this.#pools[each].values()) yield* byName.values();
    }
  }

  #sum(priority: RoutingPriority): PoolCounts {
    const sum = noCounts();
    for (const { counts } of this.#all(priority)) {
      for (const name of Object.keys(sum) as (keyof PoolCounts)[]) sum[name] += counts[name];
    }
    return sum;
  }

  #pool(priority: RoutingPriority, transport: Transport, serverName: string): HttpPool {
    const byName = this.#pools[priority].get(transport) ?? new Map<string, HttpPool>();
    this.#pools[priority].set(transport, byName);
    const known = byName.get(serverName);
    if (known !== undefined) {
      if (byName.size > 1) {
        byName.delete(serverName);
        byName.set(serverName, known);
      }
      return known;
    }
    if (byName.size >= this.#maxNames) {
      const [oldest] = byName;
      if (oldest !== undefined) {
        byName.delete(oldest[0]);
        oldest[1].drain();
      }
    }
    return this.#make(priority, transport, serverName, byName);
  }

  #make(priority: RoutingPriority, transport: Transport, serverName: string, byName: Map<string, HttpPool>): HttpPool {
    const { name, http, transports } = this.#config;
    const limits = this.#limits(priority, () => pool);
    const named = serverName === "" ? transport : this.#named(transport, serverName);
    const pool: HttpPool = this.#makePool({ name, transport: named, protocol: http.protocol, limits });
    byName.set(serverName, pool);
    const isOnly = transports.matches.length === 0 && (transport.tls === undefined || http.autoSni === undefined);
    if (priority === "default" && isOnly) this.#only = pool;
    return pool;
  }

  #named(transport: Transport, serverName: string): Transport {
    if (transport.tls === undefined) return transport;
    const { tls } = transport;
    const subjectAltNames = this.#config.http.verifiesAutoSni ? [sanFor(serverName)] : tls.subjectAltNames;
    // An address cannot be a server name (RFC 6066 §3); the certificate may still have to be for it.
    const sni = isIP(serverName) === 0 ? serverName : tls.serverName;
    return { ...transport, tls: { ...tls, serverName: sni, subjectAltNames } };
  }

  /** The bounds on connections hold for all pools of a priority together. */
  #limits(priority: RoutingPriority, own: () => HttpPool): PoolLimits {
    const { http, breakers } = this.#config;
    const others = (name: "connections" | "pending"): number =>
      this.#only === undefined ? this.#sum(priority)[name] - own().counts[name] : 0;
    const { maxConnections, maxPendingRequests } = breakers[priority];
    return {
      ...http.limits,
      get maxConnections() {
        return Math.max(0, maxConnections - others("connections"));
      },
      get maxPendingRequests() {
        return Math.max(0, maxPendingRequests - others("pending"));
      },
    };
  }
}

/** The host part, without port and brackets. Empty where there is none. */
function serverNameOf(head: RequestHead, header: string | undefined): string {
  const text = (header === undefined ? head.authority : head.headers.get(header)) ?? "";
  if (text.startsWith("[")) return text.slice(1, Math.max(text.indexOf("]"), 1));
  const colon = text.lastIndexOf(":");
  return (colon < 0 ? text : text.slice(0, colon)).toLowerCase();
}
