/** The ways to the control plane: who signs our certificate, and who tells our configuration. */
import { CaClient } from "#shared/ca/ca-client.ts";
import type { CertificateSource } from "#shared/ca/certificate-manager.ts";
import type { Clock } from "#shared/clock/clock.ts";
import {
  parseEndpoint,
  parseRootSource,
  parseTokenSource,
  type CallSettings,
  type ChannelSettings,
} from "#shared/grpc/control-plane-channel.ts";
import type { Logging } from "#shared/observe/logging.ts";
import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import { xdsMetrics } from "#shared/observe/process-metrics.ts";
import { DeltaClient } from "#shared/xds/delta-client.ts";
import { waypointNode } from "#shared/xds/node.ts";
import type { ControlPlaneConfig, WaypointConfig } from "./config.ts";
import type { WaypointState } from "./xds/waypoint-state.ts";

/** Where the pod's token is mounted. */
const defaultTokenPath = "/var/run/secrets/tokens/istio-token";

/** Undefined where certificates are not wanted. */
export function openCa(
  config: WaypointConfig,
  logging: Logging,
  stack: AsyncDisposableStack,
): CertificateSource | undefined {
  if (config.ca === undefined) return undefined;
  return stack.use(
    new CaClient(
      {
        ...channelOf(config.ca, parseEndpoint(config.ca.address)),
        ...callOf(config, config.ca),
        ttlSeconds: Math.round(config.secretTtlMs / 1_000),
        impersonate: false,
      },
      logging.scope("ca"),
    ),
  );
}

/** Asks for configuration once it is run. */
export function openXds(
  config: WaypointConfig,
  logging: Logging,
  state: WaypointState,
  registry: MetricsRegistry,
  clock: Clock,
): DeltaClient {
  const log = logging.scope("xds");
  const { node, unreadable } = waypointNode({
    instanceIp: config.instanceIps.join(","),
    podName: config.podName,
    podNamespace: config.podNamespace,
    nodeName: config.nodeName,
    serviceAccount: config.serviceAccount,
    labels: config.labels,
    annotations: config.annotations,
    metadata: { ...config.metadata, CLUSTER_ID: config.clusterId, NETWORK: config.network },
    jsonMetadata: config.jsonMetadata,
  });
  if (unreadable.length > 0) log.warn({ unreadable }, "ISTIO_METAJSON_ variables are no JSON and were left out");
  const endpoint = parseEndpoint(config.xds.address, { allowsLocalPlaintext: true });
  return new DeltaClient({
    channel: channelOf(config.xds, endpoint),
    call: callOf(config, config.xds, endpoint.plaintext),
    node,
    subscriptions: state.subscriptions(),
    clock,
    log,
    onEvent: xdsMetrics(registry),
  });
}

const channelOf = (
  { roots, alternativeHostname }: ControlPlaneConfig,
  endpoint: ChannelSettings["endpoint"],
): ChannelSettings => ({
  endpoint,
  roots: endpoint.plaintext === true ? { from: "system" } : parseRootSource(roots),
  ...(alternativeHostname !== undefined && { alternativeHostname }),
});

const callOf = (
  { authToken, clusterId }: WaypointConfig,
  { headers }: ControlPlaneConfig,
  plaintext = false,
): CallSettings => ({
  token: plaintext ? { from: "nowhere" } : parseTokenSource(authToken, defaultTokenPath),
  clusterId,
  headers,
});
