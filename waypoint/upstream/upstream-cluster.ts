/** One cluster as the request path uses it: its hosts, who of them is picked, its bounds and its connections. */
import type { Duplex } from "node:stream";
import type { JsonObject } from "@bufbuild/protobuf";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { RequestHead, ResponseReader, UpstreamStream } from "#waypoint/http/streams.ts";
import { LoadBalancer } from "./balancing/load-balancer.ts";
import { CircuitBreaker } from "./circuit-breaker.ts";
import { ClusterPools } from "./cluster-pools.ts";
import type { AttemptOutcome, Cluster, Permit, Pick, PickContext, RoutingPriority, SendOptions } from "./clusters.ts";
import type { ClusterConfig } from "./compile/compile-cluster.ts";
import { emptyAssignment, type Assignment } from "./compile/compile-endpoints.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Host } from "./host.ts";
import { HostRegistry } from "./host-registry.ts";
import { ConnectOverflow } from "./transport/connect-error.ts";
import { OutlierDetector } from "./outlier-detection.ts";
import type { ClusterTools } from "./cluster-tools.ts";
import { startSource, type HostSource } from "./host-source.ts";

const none = {
  empty: { kind: "none", why: "the cluster has no endpoints" },
  unhealthy: { kind: "none", why: "no endpoint is healthy" },
} as const satisfies Record<string, Pick>;

export class UpstreamCluster implements Cluster, Disposable {
  readonly name: string;
  readonly #tools: ClusterTools;
  readonly #registry = new HostRegistry();
  readonly #breakers: Readonly<Record<RoutingPriority, CircuitBreaker>>;
  #config: ClusterConfig;
  #pools: ClusterPools;
  #source: HostSource;
  #balancer: LoadBalancer<Endpoint> | undefined;
  #outlier: OutlierDetector<Endpoint> | undefined;
  /** Undefined once requests need not wait any more. */
  #warming: PromiseWithResolvers<void> | undefined;

  constructor(config: ClusterConfig, tools: ClusterTools) {
    this.name = config.name;
    this.#config = config;
    this.#tools = tools;
    this.#breakers = {
      default: new CircuitBreaker(config.breakers.default, tools.clock, () => this.#pools.gauge("default")),
      high: new CircuitBreaker(config.breakers.high, tools.clock, () => this.#pools.gauge("high")),
    };
    this.#pools = new ClusterPools(config, tools.makePool);
    this.#balancer = this.#makeBalancer();
    this.#outlier = this.#makeDetector();
    if (config.waitsForWarm) this.#warming = Promise.withResolvers();
    this.#source = this.#startSource();
  }

  get config(): ClusterConfig {
    return this.#config;
  }

  get metadata(): ReadonlyMap<string, JsonObject> {
    return this.#config.metadata;
  }

  get internalListener(): string | undefined {
    const { discovery } = this.#config;
    return discovery.kind === "internal" ? discovery.listener : undefined;
  }

  get hashes(): boolean {
    const { balancing } = this.#config;
    if (balancing === "cluster-provided") return false;
    return balancing.balancer.kind === "ring-hash" || balancing.balancer.kind === "maglev";
  }

  /** Whether its first hosts, or the word that there are none, have arrived or are no longer waited for. */
  get isWarm(): boolean {
    return this.#warming === undefined;
  }

  get hosts(): readonly Endpoint[] {
    return this.#source.hosts?.() ?? this.#registry.hosts;
  }

  get outlier(): OutlierDetector<Endpoint> | undefined {
    return this.#outlier;
  }

  get pools(): ClusterPools {
    return this.#pools;
  }

  breaker(priority: RoutingPriority): CircuitBreaker {
    return this.#breakers[priority];
  }

  /** Takes another configuration over at once; hosts, and what is in flight, stay. */
  reconfigure(config: ClusterConfig): void {
    const before = this.#config;
    this.#config = config;
    for (const priority of ["default", "high"] as const)
      this.#breakers[priority].thresholds = config.breakers[priority];
    const pools = this.#pools;
    this.#pools = new ClusterPools(config, this.#tools.makePool);
    pools.drain();
    this.#balancer = this.#makeBalancer();
    this.#outlier?.[Symbol.dispose]();
    this.#outlier = this.#makeDetector();
    if (config.outlier === undefined) this.#forgiveAll();
    if (isSameSource(before, config)) {
      this.#rebalance();
      return;
    }
    this.#source[Symbol.dispose]();
    if (config.waitsForWarm && this.#registry.hosts.length === 0) this.#warming ??= Promise.withResolvers();
    this.#rebalance();
    this.#source = this.#startSource();
  }

  /** For EDS. Undefined: the control plane says that there is none. */
  assign(assignment: Assignment | undefined): void {
    this.#assign(assignment ?? emptyAssignment);
    this.#warm();
  }

  pick(context: PickContext): Pick {
    if (this.#source.pick !== undefined) return this.#source.pick(context);
    const { overrideHost } = context;
    if (overrideHost !== undefined) {
      const host = this.#registry.find(overrideHost);
      if (host !== undefined && this.#allows(host)) return host.asPick;
    }
    const host = this.#balancer?.pick(context as PickContext & { readonly previousPriorities?: never });
    if (host !== undefined) return host.asPick;
    if (this.#warming !== undefined) return { kind: "wait", ready: this.#warming.promise };
    return this.#registry.hosts.length === 0 ? none.empty : none.unhealthy;
  }

  report(host: Host, outcome: AttemptOutcome): void {
    const endpoint = host as Endpoint;
    count(endpoint, outcome);
    this.#outlier?.report(endpoint, outcome);
  }

  admitRequest(priority: RoutingPriority = "default"): Permit | undefined {
    return this.#breakers[priority].admitRequest();
  }

  admitRetry(priority: RoutingPriority = "default"): Permit | undefined {
    return this.#breakers[priority].admitRetry();
  }

  send(
    host: Host,
    head: RequestHead,
    endsWithHead: boolean,
    reader: ResponseReader,
    options: SendOptions,
  ): UpstreamStream {
    const pool = this.#pools.forRequest(host as Endpoint, head, options.priority ?? "default");
    return pool.send(host, head, endsWithHead, reader, options);
  }

  async connect(host: Host, signal: AbortSignal, connection?: DownstreamConnection): Promise<Duplex> {
    try {
      const duplex = await this.#pools.forConnection(host as Endpoint).connect(host, signal, connection);
      this.report(host, { kind: "connected" });
      return duplex;
    } catch (error) {
      // Somebody who left, and a limit of our own, say nothing of the host.
      if (!signal.aborted && !(error instanceof ConnectOverflow)) this.report(host, { kind: "connect-failure" });
      throw error;
    }
  }

  /** Removed from the configuration: what is in flight ends in peace, nothing new begins. */
  drain(): void {
    this.#stop();
    this.#pools.drain();
  }

  [Symbol.dispose](): void {
    this.#stop();
    this.#pools[Symbol.dispose]();
  }

  #stop(): void {
    this.#source[Symbol.dispose]();
    this.#outlier?.[Symbol.dispose]();
    this.#warm();
  }

  #warm(): void {
    this.#warming?.resolve();
    this.#warming = undefined;
  }

  #startSource(): HostSource {
    return startSource(this.#config, this.#tools, {
      onHosts: (assignment) => this.#assign(assignment),
      onReady: () => this.#warm(),
      onRemoved: (host) => this.#pools.removeHost(host),
    });
  }

  #assign(assignment: Assignment): void {
    const isLogical = this.#config.discovery.kind === "logical-dns";
    const { added, removed } = this.#registry.assign(assignment, this.#tools.clock.now(), isLogical);
    for (const host of removed) this.#pools.removeHost(host);
    if (this.#config.closesOnHostChange && added.length + removed.length > 0) {
      for (const host of this.#registry.hosts) this.#pools.removeHost(host);
    }
    this.#rebalance();
  }

  #rebalance(): void {
    this.#balancer?.update(this.#registry.levels);
  }

  #makeBalancer(): LoadBalancer<Endpoint> | undefined {
    const { balancing } = this.#config;
    if (balancing === "cluster-provided") return undefined;
    const { clock, random } = this.#tools;
    const breakers = this.#breakers;
    return new LoadBalancer<Endpoint>(balancing, {
      clock,
      random,
      totalActive: () => breakers.default.requests + breakers.high.requests,
    });
  }

  #makeDetector(): OutlierDetector<Endpoint> | undefined {
    const { outlier: config } = this.#config;
    if (config === undefined) return undefined;
    const { clock, random, log } = this.#tools;
    return new OutlierDetector<Endpoint>({
      config,
      clock,
      random,
      hosts: () => this.hosts,
      onChange: (host, change) => {
        const event = change === "returned" ? "returned" : "ejected";
        const reason = change === "returned" ? undefined : change.ejected;
        log.debug({ cluster: this.name, host: host.key, event, reason }, "outlier detection");
        if (event === "ejected" && this.#config.closesOnHealthFailure) this.#pools.removeHost(host);
        this.#rebalance();
      },
    });
  }

  #forgiveAll(): void {
    for (const { outlier } of this.hosts) outlier.isEjected = false;
  }

  #allows(host: Endpoint): boolean {
    return !host.outlier.isEjected && this.#config.overrideStatuses.has(host.status);
  }
}

function count({ stats }: Endpoint, outcome: AttemptOutcome): void {
  stats.requests++;
  switch (outcome.kind) {
    case "connected":
      stats.succeeded++;
      break;
    case "answered":
      if (outcome.status >= 500) stats.failed++;
      else stats.succeeded++;
      break;
    case "timeout":
      stats.timeouts++;
      stats.failed++;
      break;
    case "connect-failure":
      stats.connectFailures++;
      stats.failed++;
      break;
    case "reset":
      stats.failed++;
      break;
  }
}

/** Endpoints by EDS stay whatever else changes; the others are cheap to find again. */
const isSameSource = ({ discovery: a }: ClusterConfig, { discovery: b }: ClusterConfig): boolean =>
  a.kind === "eds" && b.kind === "eds" && a.assignmentName === b.assignmentName;
