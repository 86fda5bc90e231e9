/** Brings a cluster its hosts, by the kind of the cluster. */
import { explain } from "#shared/errors/mesh-error.ts";
import type { Pick, PickContext } from "./clusters.ts";
import type { ClusterConfig } from "./compile/compile-cluster.ts";
import type { Assignment } from "./compile/compile-endpoints.ts";
import type { Discovery } from "./compile/compile-discovery.ts";
import { DnsHosts } from "./dns/dns-hosts.ts";
import { DynamicHosts } from "./dns/dynamic-hosts.ts";
import type { Endpoint } from "./endpoint.ts";
import { OriginalDestination } from "./original-destination.ts";
import type { ClusterTools } from "./cluster-tools.ts";

export interface HostSource extends Disposable {
  /** Where the source itself knows the one host of a request. */
  readonly pick?: (context: PickContext) => Pick;
  readonly hosts?: () => readonly Endpoint[];
}

export interface SourceEvents {
  readonly onHosts: (assignment: Assignment) => void;
  /** The first hosts are there, or are no longer waited for. */
  readonly onReady: () => void;
  readonly onRemoved: (host: Endpoint) => void;
}

type DiscoveryOf<Kind extends Discovery["kind"]> = Extract<Discovery, { readonly kind: Kind }>;

export function startSource(config: ClusterConfig, tools: ClusterTools, events: SourceEvents): HostSource {
  const { discovery } = config;
  switch (discovery.kind) {
    case "static":
      events.onHosts(discovery.assignment);
      events.onReady();
      return { [Symbol.dispose]: () => {} };
    case "eds":
      return { [Symbol.dispose]: tools.clock.schedule(discovery.warmTimeoutMs, events.onReady) };
    case "strict-dns":
    case "logical-dns":
      return dnsSource(discovery, config.name, tools, events);
    case "original-dst":
      return originalSource(discovery, tools, events);
    case "internal":
      events.onReady();
      return {
        pick: () => ({ kind: "none", why: `the internal listener "${discovery.listener}" takes tunnels only` }),
        [Symbol.dispose]: () => {},
      };
    case "dynamic":
      return dynamicSource(discovery, config, tools, events);
  }
}

function dnsSource(
  { kind, assignment, dns }: DiscoveryOf<"strict-dns" | "logical-dns">,
  cluster: string,
  { clock, random, log, makeResolver }: ClusterTools,
  { onHosts, onReady }: SourceEvents,
): HostSource {
  const onFailure = (name: string, error: unknown) => {
    log.warn({ cluster, name, error: explain(error) }, "name of an endpoint cannot be resolved");
  };
  const resolver = makeResolver(dns.servers);
  return new DnsHosts({ kind, assignment, dns, resolver, clock, random, onHosts, onReady, onFailure });
}

function originalSource(
  config: DiscoveryOf<"original-dst">,
  { clock, isTunnelled }: ClusterTools,
  { onReady, onRemoved }: SourceEvents,
): HostSource {
  const source = new OriginalDestination({ config, clock, isTunnelled, onRemoved });
  onReady();
  return {
    hosts: () => source.hosts,
    pick: (context) => {
      const picked = source.pick(context);
      return typeof picked === "string" ? { kind: "none", why: picked } : picked.asPick;
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

function dynamicSource(
  { cache }: DiscoveryOf<"dynamic">,
  { transports }: ClusterConfig,
  { clock, random, makeResolver }: ClusterTools,
  { onReady, onRemoved }: SourceEvents,
): HostSource {
  const source = new DynamicHosts({
    settings: cache,
    resolver: makeResolver(cache.servers),
    clock,
    random,
    defaultPort: transports.byDefault.tls === undefined ? 80 : 443,
    onRemoved,
  });
  onReady();
  return {
    hosts: () => source.hosts,
    pick: (context) => {
      const picked = source.pick(context);
      if (typeof picked === "string") return { kind: "none", why: picked };
      return picked instanceof Promise ? { kind: "wait", ready: picked } : picked.asPick;
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}
