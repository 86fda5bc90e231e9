/** The one listener of a waypoint: a chain for every port of every service that it stands before, and direct ones. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ipFromBytes } from "#shared/net/ip.ts";
import { TrafficDirection } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { ListenerSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_pb.js";
import type {
  FilterChainSchema,
  ListenerFilterChainMatchPredicateSchema,
  ListenerFilterSchema,
} from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { HttpInspectorSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js";
import { OriginalDstSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js";
import { TlsInspectorSchema } from "#shared/proto/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js";
import { inspection } from "#controlplane/translate/protocol.ts";
import type { PortInfo, ServiceInfo } from "#controlplane/translate/services.ts";
import { clusterOf, encapCluster } from "./cluster-names.ts";
import { protocolsOf } from "./clusters.ts";
import type { Destination, EnvoyContext } from "./context.ts";
import { defaultRoute, defaultRoutes } from "./default-route.ts";
import { connectionManager } from "./http-chain.ts";
import { pack } from "./messages.ts";
import { rateLimitDestinations } from "./rate-limits/rate-limit-filters.ts";
import { httpRoutesFor } from "./routes/routes-for.ts";
import { namedTcpRoutesFor, tcpRoutesFor } from "./routes/tcp-routes.ts";
import { securityDestinations } from "./security/security-filters.ts";
import { tcpFilters } from "./tcp-chain.ts";
import { telemetryFor } from "./telemetry.ts";

export type ListenerInit = Exclude<MessageInitShape<typeof ListenerSchema>, { $typeName: string }>;
type ChainInit = MessageInitShape<typeof FilterChainSchema>;
interface Range {
  readonly addressPrefix: string;
  readonly prefixLen: number;
}
type ListenerFilterInit = MessageInitShape<typeof ListenerFilterSchema>;

export const listenerName = "main_internal";
const listenerAddress = { address: "127.0.0.1", port: 15_006 };
const sniffedProtocols = ["http/1.0", "http/1.1", "h2c"];

export interface BuiltListener {
  readonly listener: ListenerInit;
  /** What its chains send to. */
  readonly destinations: readonly Destination[];
  readonly problems: readonly string[];
}

export function mainListener(context: EnvoyContext): BuiltListener {
  const builder = new ChainBuilder(context);
  for (const service of context.served) builder.addService(service);
  builder.addDirect();
  return {
    listener: {
      name: listenerName,
      address: {
        address: {
          case: "socketAddress",
          value: {
            address: listenerAddress.address,
            portSpecifier: { case: "portValue", value: listenerAddress.port },
          },
        },
      },
      trafficDirection: TrafficDirection.INBOUND,
      listenerFilters: listenerFilters(context, builder),
      filterChains: builder.chains,
    },
    destinations: builder.destinations,
    problems: builder.problems,
  };
}

class ChainBuilder {
  readonly chains: ChainInit[] = [];
  readonly destinations: Destination[] = [];
  readonly problems: string[] = [];
  readonly sniffedPorts = new Set<number>();
  readonly ports = new Set<number>();
  readonly tlsPorts = new Set<number>();
  readonly #context: EnvoyContext;
  /** Addresses and ports that have a chain: of two services that share one, the older keeps it. */
  readonly #taken = new Map<string, ServiceInfo>();

  /** Names of clusters and chains are made of hostnames: of services with one name, the oldest has it. */
  readonly #hostnames = new Map<string, ServiceInfo>();

  constructor(context: EnvoyContext) {
    this.#context = context;
  }

  addService(service: ServiceInfo): void {
    const ranges = serviceRanges(this.#context, service);
    // Reached by no address of its own.
    if (ranges.length === 0) return;
    const namesake = this.#hostnames.get(service.hostname);
    if (namesake !== undefined) {
      this.problems.push(`${service.key}: its name belongs to the older ${namesake.key}; it stays without traffic`);
      return;
    }
    this.#hostnames.set(service.hostname, service);
    this.destinations.push(
      ...securityDestinations(this.#context, { service }),
      ...rateLimitDestinations(this.#context, service),
    );
    this.#observe(service);
    for (const port of service.ports) {
      const protocols = protocolsOf(port);
      if (protocols.length === 0 || this.#isSkipped(service, port)) continue;
      const free = this.#claim(service, port, ranges);
      if (free.length === 0) continue;
      this.ports.add(port.port);
      if (protocols.length > 1) this.sniffedPorts.add(port.port);
      if (protocols.includes("http")) this.#addHttp(service, port, free, protocols.length > 1);
      if (protocols.includes("tcp")) this.#addTcp(service, port, free);
    }
  }

  /** Names are looked up by Host or SNI, so other protocols have nothing to go by. */
  #isSkipped(service: ServiceInfo, port: PortInfo): boolean {
    if (!isDynamic(this.#context, service)) return false;
    return inspection(port.protocol) !== "http" && port.protocol !== "tls" && port.protocol !== "https";
  }

  #claim(service: ServiceInfo, { port }: PortInfo, ranges: readonly Range[]): readonly Range[] {
    return ranges.filter((each) => {
      const key = `${textOf(each)}|${port}`;
      const owner = this.#taken.get(key);
      if (owner === undefined) {
        this.#taken.set(key, service);
        return true;
      }
      // A port that is declared twice, for TCP and UDP for example, is one port.
      if (owner !== service) {
        this.problems.push(
          `${service.key}: port ${port} at ${each.addressPrefix} belongs to the older ${owner.key}; it stays without traffic`,
        );
      }
      return false;
    });
  }

  #addHttp(service: ServiceInfo, port: PortInfo, prefixRanges: readonly Range[], isSniffed: boolean): void {
    const context = this.#context;
    const own: Destination = { service, port, subset: "", protocol: "http" };
    const { routes, leavesRest, destinations } = httpRoutesFor(context, service, port);
    this.destinations.push(...destinations);
    const name = clusterOf(context, service, port, "http", "");
    const forwardsByName = isDynamic(context, service);
    this.chains.push({
      name,
      filterChainMatch: {
        prefixRanges: [...prefixRanges],
        destinationPort: port.port,
        applicationProtocols: isSniffed ? sniffedProtocols : [],
      },
      filters: [
        connectionManager(context, {
          name,
          service,
          port: port.port,
          protocol: port.protocol,
          routes: leavesRest ? [...routes, ...defaultRoutes(context, own)] : routes,
          virtualHost: `inbound|http|${port.port}`,
          domains: [forwardsByName ? service.hostname : "*"],
          forwardsByName,
        }),
      ],
    });
  }

  #observe(service: ServiceInfo | undefined): void {
    const { destinations, problems } = telemetryFor(this.#context, service);
    this.destinations.push(...destinations);
    this.problems.push(...problems);
  }

  #addTcp(service: ServiceInfo, port: PortInfo, prefixRanges: readonly Range[]): void {
    const context = this.#context;
    const own: Destination = { service, port, subset: "", protocol: "tcp" };
    const { clusters, destinations } = tcpRoutesFor(context, service, port);
    this.destinations.push(...destinations);
    const name = clusterOf(context, service, port, "tcp", "");
    const forwardsByName = isDynamic(context, service);
    if (port.protocol === "tls" || port.protocol === "https") this.tlsPorts.add(port.port);
    this.chains.push({
      name,
      filterChainMatch: { prefixRanges: [...prefixRanges], destinationPort: port.port },
      ...chainMetadata(context, service),
      filters: tcpFilters(context, {
        name,
        service,
        clusters: clusters.length > 0 ? clusters : [{ name, weight: 1 }],
        destination: clusters.length > 0 ? destinations[0] : own,
        sniPort: forwardsByName ? port.port : undefined,
      }),
    });
    for (const named of namedTcpRoutesFor(context, service, port)) {
      this.destinations.push(...named.destinations);
      const serverNames = [...named.serverNames];
      this.chains.push({
        name: `${name}|${serverNames.join()}`,
        filterChainMatch: { prefixRanges: [...prefixRanges], destinationPort: port.port, serverNames },
        filters: tcpFilters(context, {
          name,
          service,
          clusters: named.clusters,
          destination: named.destinations[0],
          sniPort: undefined,
        }),
      });
    }
  }

  /**
   * Workloads take any port. A chain with a port hides those without from connections to that port, so there is one for
   * each port of a service, too.
   */
  addDirect(): void {
    const context = this.#context;
    // Pods in a node's network share its address, and Envoy takes no two chains for one.
    const ranges = new Map(
      context.attached
        .flatMap(({ workload }) => workload.addresses.flatMap((bytes) => range(bytes)))
        .map((each) => [textOf(each), each]),
    );
    if (ranges.size === 0) return;
    this.destinations.push(
      ...securityDestinations(context, { service: undefined }),
      ...rateLimitDestinations(context, undefined),
    );
    this.#observe(undefined);
    const routes = [defaultRoute(context, encapCluster)];
    for (const port of [undefined, ...this.ports]) {
      const suffix = port === undefined ? "" : `|${port}`;
      // What is a service's too is the service's.
      const prefixRanges = [...ranges].flatMap(([text, each]) =>
        port !== undefined && this.#taken.has(`${text}|${port}`) ? [] : [each],
      );
      if (prefixRanges.length === 0) continue;
      const match = { prefixRanges, ...(port === undefined ? {} : { destinationPort: port }) };
      const http = `direct-http${suffix}`;
      const tcp = `direct-tcp${suffix}`;
      this.chains.push(
        {
          name: http,
          filterChainMatch: { ...match, applicationProtocols: sniffedProtocols },
          filters: [
            connectionManager(context, {
              name: http,
              service: undefined,
              port,
              protocol: "unsupported",
              routes,
              virtualHost: "direct|http",
              domains: ["*"],
              forwardsByName: false,
            }),
          ],
        },
        {
          name: tcp,
          filterChainMatch: match,
          ...chainMetadata(context, undefined),
          filters: tcpFilters(context, {
            name: tcp,
            service: undefined,
            clusters: [{ name: encapCluster, weight: 1 }],
            destination: undefined,
            sniPort: undefined,
          }),
        },
      );
    }
  }
}

const chainMetadata = (context: EnvoyContext, service: ServiceInfo | undefined): Pick<ChainInit, "metadata"> => {
  const facts = telemetryFor(context, service).chainMetadata;
  return facts === undefined ? {} : { metadata: { filterMetadata: { ...facts } } };
};

function isDynamic({ world }: EnvoyContext, { source, meta }: ServiceInfo): boolean {
  return (
    source === "ServiceEntry" && world.get("ServiceEntry", meta.namespace, meta.name)?.resolution === "DYNAMIC_DNS"
  );
}

function serviceRanges({ collected }: EnvoyContext, { message }: ServiceInfo): readonly Range[] {
  return (message.addresses ?? []).flatMap(({ address, network, length }) =>
    address === undefined || (network ?? "") !== collected.network ? [] : range(address, length),
  );
}

const textOf = ({ addressPrefix, prefixLen }: Range): string => `${addressPrefix}/${prefixLen}`;

function range(bytes: Uint8Array, length?: number): Range[] {
  const addressPrefix = ipFromBytes(bytes);
  return addressPrefix === undefined ? [] : [{ addressPrefix, prefixLen: length ?? bytes.length * 8 }];
}

/** Bytes are looked at only where it matters: who waits for the server to speak first must not wait for the client. */
function listenerFilters({ attached }: EnvoyContext, { sniffedPorts, tlsPorts }: ChainBuilder): ListenerFilterInit[] {
  const filter = (name: string, value: ReturnType<typeof pack>, ports?: ReadonlySet<number>): ListenerFilterInit => ({
    name,
    configType: { case: "typedConfig", value },
    ...(ports === undefined ? {} : { filterDisabled: otherPorts(ports) }),
  });
  const filters = [filter("envoy.filters.listener.original_dst", pack(OriginalDstSchema))];
  if (tlsPorts.size > 0) {
    filters.push(filter("envoy.filters.listener.tls_inspector", pack(TlsInspectorSchema), tlsPorts));
  }
  // Any port of a workload may speak anything.
  const sniffed = attached.length > 0 ? undefined : sniffedPorts;
  if (sniffed === undefined || sniffed.size > 0) {
    filters.push(filter("envoy.filters.listener.http_inspector", pack(HttpInspectorSchema), sniffed));
  }
  return filters;
}

type PredicateInit = MessageInitShape<typeof ListenerFilterChainMatchPredicateSchema>;

/** Every port but these. */
function otherPorts(ports: ReadonlySet<number>): PredicateInit {
  const rules = [...ports]
    .sort((a, b) => a - b)
    .map((port): PredicateInit => ({ rule: { case: "destinationPortRange", value: { start: port, end: port + 1 } } }));
  const [first, ...others] = rules;
  const any: PredicateInit =
    first !== undefined && others.length === 0 ? first : { rule: { case: "orMatch", value: { rules } } };
  return { rule: { case: "notMatch", value: any } };
}
