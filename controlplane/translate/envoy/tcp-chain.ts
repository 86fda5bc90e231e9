/** The filters of a chain whose bytes are passed on as they are. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import { FilterConfigSchema as SniForwardProxySchema } from "#shared/proto/gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.js";
import { TcpProxySchema } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { dnsCache } from "./clusters.ts";
import type { Destination, EnvoyContext } from "./context.ts";
import { effectivePolicy, ruleFor } from "./destination-rules.ts";
import { tcpHashPoliciesFor } from "./hash-policies.ts";
import { optionalDuration, pack } from "./messages.ts";
import { networkSecurityFilters } from "./security/security-filters.ts";
import { telemetryFor } from "./telemetry.ts";

type FilterInit = MessageInitShape<typeof FilterSchema>;

export interface TcpChain {
  readonly name: string;
  /** undefined: for workloads that are addressed themselves. */
  readonly service: ServiceInfo | undefined;
  /** Where connections go, by weight. */
  readonly clusters: readonly { readonly name: string; readonly weight: number }[];
  /** Whose DestinationRule says how connections are proxied. */
  readonly destination: Destination | undefined;
  /** The port that the name in the TLS handshake is resolved with; undefined: the endpoints are known. */
  readonly sniPort: number | undefined;
}

export function tcpFilters(context: EnvoyContext, chain: TcpChain): FilterInit[] {
  const telemetry = telemetryFor(context, chain.service);
  return [
    ...networkSecurityFilters(context, { service: chain.service }),
    ...(chain.sniPort === undefined ? [] : [sniForwardProxy(chain.sniPort)]),
    tcpProxy(context, chain, telemetry.accessLog),
  ];
}

const sniForwardProxy = (port: number): FilterInit => ({
  name: "envoy.filters.network.sni_dynamic_forward_proxy",
  configType: {
    case: "typedConfig",
    value: pack(SniForwardProxySchema, {
      dnsCacheConfig: dnsCache,
      portSpecifier: { case: "portValue", value: port },
    }),
  },
});

function tcpProxy(
  context: EnvoyContext,
  { name, clusters, destination }: TcpChain,
  accessLog: ReturnType<typeof telemetryFor>["accessLog"],
): FilterInit {
  const policy =
    destination === undefined
      ? undefined
      : effectivePolicy(ruleFor(context, destination.service), destination.port.port, destination.subset);
  const pool = policy?.connectionPool?.tcp;
  const [first, ...others] = clusters;
  const config = pack(TcpProxySchema, {
    statPrefix: name,
    clusterSpecifier:
      first !== undefined && others.length === 0
        ? { case: "cluster", value: first.name }
        : {
            case: "weightedClusters",
            value: { clusters: clusters.map((each) => ({ name: each.name, weight: each.weight })) },
          },
    ...optionalDuration("idleTimeout", pool?.idleTimeoutMs ?? context.proxy.idleTimeoutMs),
    ...optionalDuration("maxDownstreamConnectionDuration", pool?.maxConnectionDurationMs),
    hashPolicy: destination === undefined ? [] : [...tcpHashPoliciesFor(context, destination)],
    ...(policy?.tunnel === undefined
      ? {}
      : {
          tunnelingConfig: {
            hostname: hostPort(policy.tunnel.targetHost, policy.tunnel.targetPort),
            usePost: policy.tunnel.usePost,
          },
        }),
    accessLog: [...accessLog],
  });
  return { name: "envoy.filters.network.tcp_proxy", configType: { case: "typedConfig", value: config } };
}

const hostPort = (host: string, port: number): string => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
