/** `load_balancing_policy`: a list of policies as extensions, of which the first that is known is used. */
import type { Any } from "@bufbuild/protobuf/wkt";
import type { LoadBalancingPolicy } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import {
  ConsistentHashingLbConfigSchema,
  type LocalityLbConfig,
} from "#shared/proto/gen/envoy/extensions/load_balancing_policies/common/v3/common_pb.js";
import {
  LeastRequestSchema,
  LeastRequest_SelectionMethod,
} from "#shared/proto/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js";
import { MaglevSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js";
import { PickFirstSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/pick_first/v3/pick_first_pb.js";
import { RandomSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js";
import {
  RingHashSchema,
  RingHash_HashFunction,
} from "#shared/proto/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js";
import { RoundRobinSchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js";
import { WrrLocalitySchema } from "#shared/proto/gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { LoadBalancerConfig } from "../balancing/load-balancer.ts";
import { typeNameOf, unpack } from "./any.ts";
import { compileHashing, compileSlowStart, leastRequest, maglev, ringHash } from "./balancer-settings.ts";
import { checkFields } from "./set-fields.ts";

/** What a policy decides; the panic threshold stays with the cluster. */
type Compiled = Pick<LoadBalancerConfig, "balancer"> & Partial<LoadBalancerConfig>;
type Compile = (config: Any, path: string, problem: Problem) => Compiled | "cluster-provided" | undefined;

const prefix = "envoy.extensions.load_balancing_policies.";
/** Policies in policies come to an end. */
const deepest = 4;

export function compilePolicies(
  { policies }: LoadBalancingPolicy,
  path: string,
  problem: Problem,
  depth = 0,
): Compiled | "cluster-provided" {
  const unusable: Compiled = { balancer: { kind: "random" } };
  const unknown: string[] = [];
  for (const [index, { typedExtensionConfig }] of policies.entries()) {
    const config = typedExtensionConfig?.typedConfig;
    const type = typeNameOf(config);
    const here = `${path}.policies[${index}]`;
    if (config !== undefined && type === `${prefix}wrr_locality.v3.WrrLocality` && depth < deepest) {
      const inner = unpack(WrrLocalitySchema, config, here, problem)?.endpointPickingPolicy;
      if (inner === undefined) {
        problem(`${here}.endpoint_picking_policy`, "is missing");
        return unusable;
      }
      const compiled = compilePolicies(inner, `${here}.endpoint_picking_policy`, problem, depth + 1);
      return compiled === "cluster-provided" ? compiled : { ...compiled, weighsLocalities: true };
    }
    const compile = byType[type];
    if (config !== undefined && compile !== undefined) return compile(config, here, problem) ?? unusable;
    unknown.push(type === "" ? (typedExtensionConfig?.name ?? "") : type);
  }
  problem(path, `has no policy that this proxy knows: ${unknown.join(", ") || "it is empty"}`);
  return unusable;
}

const byType: Readonly<Record<string, Compile>> = {
  [`${prefix}round_robin.v3.RoundRobin`]: (any, path, problem) => {
    const config = unpack(RoundRobinSchema, any, path, problem);
    if (config === undefined) return undefined;
    checkFields(RoundRobinSchema, config, ["slowStartConfig", "localityLbConfig"], path, problem);
    const slowStart = compileSlowStart(config.slowStartConfig, `${path}.slow_start_config`, problem);
    return { balancer: { kind: "round-robin", slowStart }, ...localityOf(config.localityLbConfig) };
  },
  [`${prefix}least_request.v3.LeastRequest`]: (any, path, problem) => {
    const config = unpack(LeastRequestSchema, any, path, problem);
    if (config === undefined) return undefined;
    const supported = [
      "choiceCount",
      "activeRequestBias",
      "slowStartConfig",
      "localityLbConfig",
      "enableFullScan",
      "selectionMethod",
    ];
    checkFields(LeastRequestSchema, config, supported, path, problem);
    const balancer = leastRequest(
      {
        choiceCount: config.choiceCount,
        bias: config.activeRequestBias,
        scansAll: config.enableFullScan === true || config.selectionMethod === LeastRequest_SelectionMethod.FULL_SCAN,
        slowStart: compileSlowStart(config.slowStartConfig, `${path}.slow_start_config`, problem),
      },
      path,
      problem,
    );
    return { balancer, ...localityOf(config.localityLbConfig) };
  },
  [`${prefix}random.v3.Random`]: (any, path, problem) => {
    const config = unpack(RandomSchema, any, path, problem);
    if (config === undefined) return undefined;
    checkFields(RandomSchema, config, ["localityLbConfig"], path, problem);
    return { balancer: { kind: "random" }, ...localityOf(config.localityLbConfig) };
  },
  [`${prefix}pick_first.v3.PickFirst`]: (any, path, problem) => {
    const config = unpack(PickFirstSchema, any, path, problem);
    if (config === undefined) return undefined;
    checkFields(PickFirstSchema, config, ["shuffleAddressList"], path, problem);
    return { balancer: { kind: "pick-first", shuffles: config.shuffleAddressList } };
  },
  [`${prefix}ring_hash.v3.RingHash`]: (any, path, problem) => {
    const config = unpack(RingHashSchema, any, path, problem);
    if (config === undefined) return undefined;
    const supported = RingHashSchema.fields.map(({ localName }) => localName);
    checkFields(RingHashSchema, config, supported, path, problem);
    const hashing =
      config.consistentHashingLbConfig === undefined
        ? { usesHostname: config.useHostnameForHashing, balanceFactor: config.hashBalanceFactor ?? 0 }
        : hashingOf(config.consistentHashingLbConfig, path, problem);
    const balancer = ringHash(
      {
        min: config.minimumRingSize,
        max: config.maximumRingSize,
        usesMurmur: config.hashFunction === RingHash_HashFunction.MURMUR_HASH_2,
        hashing,
      },
      path,
      problem,
    );
    return { balancer, weighsLocalities: config.localityWeightedLbConfig !== undefined };
  },
  [`${prefix}maglev.v3.Maglev`]: (any, path, problem) => {
    const config = unpack(MaglevSchema, any, path, problem);
    if (config === undefined) return undefined;
    const supported = ["tableSize", "consistentHashingLbConfig", "localityWeightedLbConfig"];
    checkFields(MaglevSchema, config, supported, path, problem);
    const hashing = hashingOf(config.consistentHashingLbConfig, path, problem);
    return {
      balancer: maglev(config.tableSize, hashing, path, problem),
      weighsLocalities: config.localityWeightedLbConfig !== undefined,
    };
  },
  [`${prefix}cluster_provided.v3.ClusterProvided`]: () => "cluster-provided",
};

const hashingOf = (config: Parameters<typeof compileHashing>[1], path: string, problem: Problem) =>
  compileHashing(ConsistentHashingLbConfigSchema, config, `${path}.consistent_hashing_lb_config`, problem);

function localityOf(config: LocalityLbConfig | undefined): Partial<LoadBalancerConfig> {
  const locality = config?.localityConfigSpecifier;
  return {
    weighsLocalities: locality?.case === "localityWeightedLbConfig",
    failsTrafficOnPanic: locality?.case === "zoneAwareLbConfig" && locality.value.failTrafficOnPanic,
  };
}
