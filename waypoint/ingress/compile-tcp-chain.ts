/** TcpProxy → what a connection of its chain runs on. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Metadata } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import type { TcpProxy } from "#shared/proto/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js";
import type { HashPolicy } from "#shared/proto/gen/envoy/type/v3/hash_policy_pb.js";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import type { NetworkLayer } from "#waypoint/layers/network-layer.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { hash64 } from "#waypoint/upstream/hash.ts";
import type { ListenerContext } from "./compile-context.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";
import type { TcpChain, TcpTarget } from "./tcp-chain.ts";

/** As Envoy. Milliseconds. */
const idleTimeoutMsDefault = 3_600_000;

export interface TcpChainParts {
  readonly name: string;
  readonly networkLayers: readonly NetworkLayer[];
  /** What users change about its metrics. */
  readonly stats: JsonObject | undefined;
}

export function compileTcpChain(
  config: TcpProxy,
  { name, networkLayers, stats }: TcpChainParts,
  context: ListenerContext,
): TcpChain {
  const { problem, clusters, clock, log } = context;
  refuseUnsupported(fieldTables.tcpProxy, config, "", problem);
  const attempts = config.maxConnectAttempts ?? 1;
  if (attempts === 0) problem("max_connect_attempts", "has to be above zero");
  return {
    kind: "tcp",
    name,
    networkLayers,
    pickCluster: compileTarget(config, context),
    hash: compileHash(config.hashPolicy, context),
    connectAttempts: attempts,
    idleTimeoutMs: readMs(config.idleTimeout, "idle_timeout", problem) ?? idleTimeoutMsDefault,
    maxDurationMs: readMs(config.maxDownstreamConnectionDuration, "max_downstream_connection_duration", problem) ?? 0,
    observers: context.telemetry.tcp({ accessLog: config.accessLog, stats }, name, context),
    clusters,
    clock,
    log,
  };
}

function compileTarget({ clusterSpecifier, metadataMatch }: TcpProxy, context: ListenerContext): () => TcpTarget {
  const { problem, random } = context;
  const common = criteriaOf(metadataMatch);
  switch (clusterSpecifier.case) {
    case "cluster": {
      if (clusterSpecifier.value === "") problem("cluster", "is empty");
      const target: TcpTarget = { cluster: clusterSpecifier.value, metadataMatch: common };
      return () => target;
    }
    case "weightedClusters": {
      const weighted = clusterSpecifier.value.clusters.map(({ name, weight, metadataMatch: own }) => ({
        weight,
        target: { cluster: name, metadataMatch: own === undefined ? common : { ...common, ...criteriaOf(own) } },
      }));
      const total = weighted.reduce((sum, { weight }) => sum + weight, 0);
      if (total === 0) problem("weighted_clusters", "needs a cluster with a weight above zero");
      return () => draw(weighted, random() * total);
    }
    case undefined:
      problem("cluster", "is missing");
      return () => ({ cluster: "", metadataMatch: undefined });
  }
}

interface Weighted {
  readonly weight: number;
  readonly target: TcpTarget;
}

function draw(weighted: readonly Weighted[], at: number): TcpTarget {
  let rest = at;
  for (const { weight, target } of weighted) {
    rest -= weight;
    if (rest < 0) return target;
  }
  return (weighted.at(-1) as Weighted).target; // rounding
}

/** What Envoy's subset balancing looks at. */
const criteriaOf = (metadata: Metadata | undefined): Readonly<Record<string, unknown>> | undefined =>
  metadata?.filterMetadata["envoy.lb"];

type Hash = (connection: DownstreamConnection) => bigint | undefined;

/** At most one policy, as in Envoy. */
function compileHash([policy, ...more]: readonly HashPolicy[], { problem }: ListenerContext): Hash {
  if (more.length > 0) problem("hash_policy", "has more than one entry");
  const specifier = policy?.policySpecifier;
  switch (specifier?.case) {
    case undefined:
      return () => undefined;
    case "sourceIp":
      return ({ source }) => hash64(source.ip);
    case "filterState":
      if (specifier.value.key !== "io.istio.peer_principal") {
        problem("hash_policy[0].filter_state.key", `"${specifier.value.key}" is not known here`);
      }
      return ({ peerPrincipal }) => (peerPrincipal === undefined ? undefined : hash64(peerPrincipal));
  }
}
