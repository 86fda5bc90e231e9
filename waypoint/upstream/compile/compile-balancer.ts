/** Which balancer a cluster has: by `lb_policy` with its options, or by a list of policies of which the first known one counts. */
import {
  Cluster_LbPolicy,
  Cluster_CommonLbConfigSchema,
  Cluster_CommonLbConfig_ConsistentHashingLbConfigSchema,
  Cluster_CommonLbConfig_ZoneAwareLbConfigSchema,
  Cluster_RingHashLbConfig_HashFunction,
  type Cluster,
  type Cluster_CommonLbConfig,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { LoadBalancerConfig } from "../balancing/load-balancer.ts";
import type { BalancerConfig, HashingConfig } from "../balancing/picker.ts";
import { compileHashing, compileSlowStart, leastRequest, maglev, readPercent, ringHash } from "./balancer-settings.ts";
import { compilePolicies } from "./compile-lb-policies.ts";
import { checkFields } from "./set-fields.ts";

/** `cluster-provided`: the kind of cluster knows the one host there is. */
export type CompiledBalancing = LoadBalancerConfig | "cluster-provided";

const panicThresholdDefault = 50;

export function compileBalancing(cluster: Cluster, problem: Problem): CompiledBalancing {
  const common = compileCommon(cluster.commonLbConfig, problem);
  if (cluster.loadBalancingPolicy !== undefined) {
    const compiled = compilePolicies(cluster.loadBalancingPolicy, "load_balancing_policy", problem);
    if (compiled === "cluster-provided") return compiled;
    return { ...common, ...compiled };
  }
  const compile = byPolicy[cluster.lbPolicy];
  if (compile === undefined) {
    problem("lb_policy", `${cluster.lbPolicy} is not a policy that this proxy knows`);
    return { ...common, balancer: { kind: "random" } };
  }
  const balancer = compile(cluster, problem);
  return balancer === "cluster-provided" ? balancer : { ...common, balancer };
}

type Compile = (cluster: Cluster, problem: Problem) => BalancerConfig | "cluster-provided";

const byPolicy: Readonly<Record<number, Compile>> = {
  [Cluster_LbPolicy.ROUND_ROBIN]: ({ lbConfig }, problem) => {
    const config = lbConfig.case === "roundRobinLbConfig" ? lbConfig.value : undefined;
    return {
      kind: "round-robin",
      slowStart: compileSlowStart(config?.slowStartConfig, "round_robin_lb_config.slow_start_config", problem),
    };
  },
  [Cluster_LbPolicy.LEAST_REQUEST]: ({ lbConfig }, problem) => {
    const config = lbConfig.case === "leastRequestLbConfig" ? lbConfig.value : undefined;
    return leastRequest(
      {
        choiceCount: config?.choiceCount,
        bias: config?.activeRequestBias,
        scansAll: false,
        slowStart: compileSlowStart(config?.slowStartConfig, "least_request_lb_config.slow_start_config", problem),
      },
      "least_request_lb_config",
      problem,
    );
  },
  [Cluster_LbPolicy.RANDOM]: () => ({ kind: "random" }),
  [Cluster_LbPolicy.RING_HASH]: ({ lbConfig, commonLbConfig }, problem) => {
    const config = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
    return ringHash(
      {
        min: config?.minimumRingSize,
        max: config?.maximumRingSize,
        usesMurmur: config?.hashFunction === Cluster_RingHashLbConfig_HashFunction.MURMUR_HASH_2,
        hashing: hashingOf(commonLbConfig, problem),
      },
      "ring_hash_lb_config",
      problem,
    );
  },
  [Cluster_LbPolicy.MAGLEV]: ({ lbConfig, commonLbConfig }, problem) => {
    const size = lbConfig.case === "maglevLbConfig" ? lbConfig.value.tableSize : undefined;
    return maglev(size, hashingOf(commonLbConfig, problem), "maglev_lb_config", problem);
  },
  [Cluster_LbPolicy.CLUSTER_PROVIDED]: () => "cluster-provided",
};

function compileCommon(
  config: Cluster_CommonLbConfig | undefined,
  problem: Problem,
): Omit<LoadBalancerConfig, "balancer"> {
  const path = "common_lb_config";
  if (config !== undefined) {
    const supported = [
      "healthyPanicThreshold",
      "zoneAwareLbConfig",
      "localityWeightedLbConfig",
      // How long updates are gathered; they are applied at once here.
      "updateMergeWindow",
      "closeConnectionsOnHostSetChange",
      "consistentHashingLbConfig",
      "overrideHostStatus",
    ];
    checkFields(Cluster_CommonLbConfigSchema, config, supported, path, problem);
  }
  const locality = config?.localityConfigSpecifier;
  const zoneAware = locality?.case === "zoneAwareLbConfig" ? locality.value : undefined;
  if (zoneAware !== undefined) {
    // Needs to know where all instances of this proxy are: without that, Envoy leaves it out as well.
    const supported = ["routingEnabled", "minClusterSize", "failTrafficOnPanic"];
    checkFields(
      Cluster_CommonLbConfig_ZoneAwareLbConfigSchema,
      zoneAware,
      supported,
      `${path}.zone_aware_lb_config`,
      problem,
    );
  }
  return {
    panicThreshold:
      readPercent(config?.healthyPanicThreshold, `${path}.healthy_panic_threshold`, problem) ?? panicThresholdDefault,
    failsTrafficOnPanic: zoneAware?.failTrafficOnPanic === true,
    weighsLocalities: locality?.case === "localityWeightedLbConfig",
  };
}

function hashingOf(common: Cluster_CommonLbConfig | undefined, problem: Problem): HashingConfig {
  return compileHashing(
    Cluster_CommonLbConfig_ConsistentHashingLbConfigSchema,
    common?.consistentHashingLbConfig,
    "common_lb_config.consistent_hashing_lb_config",
    problem,
  );
}
