/** What a DestinationRule makes of a cluster: balancing, limits, outliers, protocol. */
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { anyPack, DurationSchema } from "@bufbuild/protobuf/wkt";
import {
  largestRing,
  type ConnectionPool,
  type Keepalive,
  type LoadBalancer,
  type OutlierDetection,
  type RetryBudget,
} from "#controlplane/mesh/destination-rule.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import { CircuitBreakers_Thresholds_RetryBudgetSchema as RetryBudgetSchema } from "#shared/proto/gen/envoy/config/cluster/v3/circuit_breaker_pb.js";
import {
  Cluster_LbPolicy as LbPolicy,
  type Cluster_SlowStartConfigSchema,
  type ClusterSchema,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { encodeErrorStatuses, errorStatusesField } from "#shared/xds/error-statuses.ts";
import { HttpProtocolOptionsSchema } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import type { PortProtocol } from "#controlplane/translate/protocol.ts";
import type { EffectivePolicy } from "./destination-rules.ts";
import { duration, newerField, optionalDuration } from "./messages.ts";

export type ClusterInit = Exclude<MessageInitShape<typeof ClusterSchema>, { $typeName: string }>;

const unlimited = 0xffff_ffff;

/** Without a rule the one with the fewest requests of two is taken. */
export function balancing(balancer: LoadBalancer | undefined): Pick<ClusterInit, "lbPolicy" | "lbConfig"> {
  const hash = balancer?.consistentHash;
  if (hash?.algorithm.kind === "maglev") {
    return {
      lbPolicy: LbPolicy.MAGLEV,
      lbConfig: { case: "maglevLbConfig", value: { tableSize: BigInt(hash.algorithm.tableSize) } },
    };
  }
  if (hash !== undefined) {
    const wanted = hash.algorithm.kind === "ring" ? (hash.algorithm.minimumRingSize ?? 1024) : 1024;
    const minimumRingSize = BigInt(Math.min(wanted, largestRing));
    return { lbPolicy: LbPolicy.RING_HASH, lbConfig: { case: "ringHashLbConfig", value: { minimumRingSize } } };
  }
  const slowStartConfig = slowStart(balancer);
  switch (balancer?.simple) {
    case "RANDOM":
      return { lbPolicy: LbPolicy.RANDOM };
    case "PASSTHROUGH":
      return { lbPolicy: LbPolicy.CLUSTER_PROVIDED };
    case "ROUND_ROBIN":
      return {
        lbPolicy: LbPolicy.ROUND_ROBIN,
        ...(slowStartConfig === undefined
          ? {}
          : { lbConfig: { case: "roundRobinLbConfig", value: { slowStartConfig } } as const }),
      };
    case "LEAST_REQUEST":
    case undefined:
      return {
        lbPolicy: LbPolicy.LEAST_REQUEST,
        ...(slowStartConfig === undefined
          ? {}
          : { lbConfig: { case: "leastRequestLbConfig", value: { slowStartConfig } } as const }),
      };
  }
}

function slowStart(
  balancer: LoadBalancer | undefined,
): MessageInitShape<typeof Cluster_SlowStartConfigSchema> | undefined {
  const warmup = balancer?.warmup;
  if (warmup === undefined) return undefined;
  return {
    slowStartWindow: duration(warmup.durationMs),
    aggression: { defaultValue: warmup.aggression, runtimeKey: "" },
    minWeightPercent: { value: warmup.minimumPercent },
  };
}

export function limits({ connectionPool, retryBudget }: EffectivePolicy): ClusterInit["circuitBreakers"] {
  const { tcp, http } = connectionPool ?? {};
  return {
    thresholds: [
      {
        maxConnections: tcp?.maxConnections || unlimited,
        maxPendingRequests: http?.maxPendingRequests || unlimited,
        maxRequests: http?.maxRequests || unlimited,
        trackRemaining: true,
        ...(retryBudget === undefined
          ? { maxRetries: http?.maxRetries || unlimited }
          : { retryBudget: emitBudget(retryBudget) }),
      },
    ],
  };
}

/** `budget_interval`, newer than the schema. */
const budgetIntervalField = 3;

function emitBudget({ percent, minRetryConcurrency, intervalMs }: RetryBudget) {
  const budget = create(RetryBudgetSchema, { budgetPercent: { value: percent }, minRetryConcurrency });
  if (intervalMs > 0)
    budget.$unknown = [newerField(budgetIntervalField, toBinary(DurationSchema, duration(intervalMs)))];
  return budget;
}

export function connecting(pool: ConnectionPool | undefined, meshConfig: MeshConfig): Partial<ClusterInit> {
  const keepalives = [meshConfig.tcpKeepalive, pool?.tcp?.keepalive].filter((each) => each !== undefined);
  return {
    connectTimeout: duration(pool?.tcp?.connectTimeoutMs ?? meshConfig.connectTimeoutMs),
    ...(keepalives.length === 0
      ? {}
      : // What the rule leaves out is as in the mesh.
        { upstreamConnectionOptions: { tcpKeepalive: Object.assign({}, ...keepalives.map(tcpKeepalive)) } }),
  };
}

const tcpKeepalive = ({ probes, timeMs, intervalMs }: Keepalive) => ({
  ...(probes === 0 ? {} : { keepaliveProbes: probes }),
  ...(timeMs === undefined ? {} : { keepaliveTime: Math.max(1, Math.round(timeMs / 1000)) }),
  ...(intervalMs === undefined ? {} : { keepaliveInterval: Math.max(1, Math.round(intervalMs / 1000)) }),
});

/** Hosts are judged by failures in a row only, never by comparing them with each other. */
export function outliers(detection: OutlierDetection | undefined): Partial<ClusterInit> {
  if (detection === undefined) return {};
  const {
    consecutive5xxErrors: errors,
    consecutiveGatewayErrors: gateway,
    consecutiveLocalFailures: local,
  } = detection;
  const outlierDetection: NonNullable<ClusterInit["outlierDetection"]> = {
    enforcingSuccessRate: 0,
    ...(errors === undefined ? {} : enforced("consecutive5xx", "enforcingConsecutive5xx", errors)),
    ...(gateway === undefined
      ? {}
      : enforced("consecutiveGatewayFailure", "enforcingConsecutiveGatewayFailure", gateway)),
    ...optionalDuration("interval", detection.intervalMs),
    ...optionalDuration("baseEjectionTime", detection.baseEjectionMs),
    ...(detection.maxEjectionPercent === 0 ? {} : { maxEjectionPercent: detection.maxEjectionPercent }),
    ...(detection.splitLocalErrors
      ? {
          splitExternalLocalOriginErrors: true,
          enforcingLocalOriginSuccessRate: 0,
          ...(local === undefined
            ? {}
            : enforced("consecutiveLocalOriginFailure", "enforcingConsecutiveLocalOriginFailure", local)),
        }
      : {}),
  };
  return { outlierDetection };
}

/** A threshold of 0 turns the check off. */
const enforced = <A extends string, B extends string>(threshold: A, enforcing: B, value: number) =>
  ({ ...(value === 0 ? {} : { [threshold]: value }), [enforcing]: value === 0 ? 0 : 100 }) as { [_ in A | B]?: number };

export function shared(policy: EffectivePolicy, isDistributed: boolean): Partial<ClusterInit> {
  const { outlierDetection } = policy;
  if (outlierDetection === undefined && !isDistributed) return {};
  return {
    commonLbConfig: {
      // So few healthy hosts that the unhealthy are used too: with outlier detection that is asked for in numbers.
      ...(outlierDetection === undefined
        ? {}
        : { healthyPanicThreshold: { value: outlierDetection.minHealthPercent } }),
      ...(isDistributed ? { localityConfigSpecifier: { case: "localityWeightedLbConfig", value: {} } as const } : {}),
    },
  };
}

const httpOptionsName = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** `sni`: how the server's name is found where TLS is originated and none is written. */
export function httpProtocol(
  protocol: PortProtocol,
  { connectionPool, outlierDetection }: EffectivePolicy,
  meshConfig: MeshConfig,
  sni: { readonly isAutomatic: boolean; readonly verifiesHost: boolean },
): Partial<ClusterInit> {
  const { tcp, http } = connectionPool ?? {};
  const idleTimeoutMs = http?.idleTimeoutMs ?? tcp?.idleTimeoutMs;
  const common = {
    ...optionalDuration("idleTimeout", idleTimeoutMs),
    ...optionalDuration("maxConnectionDuration", tcp?.maxConnectionDurationMs),
    ...((http?.maxRequestsPerConnection ?? 0) === 0
      ? {}
      : { maxRequestsPerConnection: http?.maxRequestsPerConnection ?? 0 }),
  };
  const http2ProtocolOptions = {
    ...((http?.maxConcurrentStreams ?? 0) === 0 ? {} : { maxConcurrentStreams: http?.maxConcurrentStreams ?? 0 }),
    ...(http?.keepalive === undefined
      ? {}
      : {
          connectionKeepalive: {
            interval: duration(http.keepalive.intervalMs),
            timeout: duration(http.keepalive.timeoutMs),
          },
        }),
  };
  const version = upstreamVersion(protocol, connectionPool, meshConfig);
  const options = create(HttpProtocolOptionsSchema, {
    ...(Object.keys(common).length === 0 ? {} : { commonHttpProtocolOptions: common }),
    ...(sni.isAutomatic ? { upstreamHttpProtocolOptions: { autoSni: true, autoSanValidation: sni.verifiesHost } } : {}),
    upstreamProtocolOptions:
      version === "downstream"
        ? { case: "useDownstreamProtocolConfig", value: { httpProtocolOptions: {}, http2ProtocolOptions } }
        : {
            case: "explicitHttpConfig",
            value: {
              protocolConfig:
                version === "http2"
                  ? { case: "http2ProtocolOptions", value: http2ProtocolOptions }
                  : { case: "httpProtocolOptions", value: {} },
            },
          },
  });
  const errors = outlierDetection?.errorCodes ?? [];
  if (errors.length > 0) options.$unknown = [newerField(errorStatusesField, encodeErrorStatuses(errors))];
  return { typedExtensionProtocolOptions: { [httpOptionsName]: anyPack(HttpProtocolOptionsSchema, options) } };
}

/** What is spoken to the endpoints of an HTTP cluster. */
export function upstreamVersion(
  protocol: PortProtocol,
  pool: ConnectionPool | undefined,
  meshConfig: MeshConfig,
): "http1" | "http2" | "downstream" {
  if (pool?.http?.useClientProtocol === true) return "downstream";
  if (protocol === "http2" || protocol === "grpc" || protocol === "grpc-web") return "http2";
  const upgrade = pool?.http?.h2UpgradePolicy ?? "DEFAULT";
  if (upgrade === "UPGRADE") return "http2";
  // Of a port that nothing is known of, the mesh cannot say that it speaks HTTP/2.
  if (protocol === "unsupported") return "downstream";
  return upgrade === "DEFAULT" && meshConfig.h2Upgrade ? "http2" : "http1";
}
