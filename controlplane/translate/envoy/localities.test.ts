import { describe, expect, test } from "@jest/globals";
import { LoadBalancing_Mode as Mode, LoadBalancing_Scope as Scope } from "#shared/proto/gen/workload/workload_pb.js";
import type { LocalitySetting, OutlierDetection } from "#controlplane/mesh/destination-rule.ts";
import { defaultMeshConfig, type MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { EnvoyContext, ProxyFacts } from "./context.ts";
import { noPolicy } from "./destination-rules.ts";
import { balanceLocalities, type Placed } from "./localities.ts";

const proxy: ProxyFacts = {
  node: "n1",
  network: "net",
  region: "r1",
  zone: "z1",
  subzone: "s1",
  labels: new Map([["rack", "a"]]),
  ips: [],
  acceptsHttp10: false,
  idleTimeoutMs: undefined,
  mayHoldKeys: false,
  isEnvoy: false,
};

/** `region/zone/subzone@node`, with labels and a network besides. */
function at(place: string, { weight = 1, network = "net", rack = "a" } = {}): Placed & { readonly place: string } {
  const [locality = "", node = ""] = place.split("@");
  const [region = "", zone = "", subzone = ""] = locality.split("/");
  return { place, region, zone, subzone, node, network, weight, labels: new Map([["rack", rack]]) };
}

const setting = (more: Partial<LocalitySetting>): LocalitySetting => ({
  enabled: true,
  distribute: [],
  failover: [],
  failoverPriority: [],
  ...more,
});

const detecting = { errorCodes: [] } as unknown as OutlierDetection;

interface Case {
  readonly endpoints: readonly ReturnType<typeof at>[];
  readonly locality?: LocalitySetting;
  readonly zoneAware?: LocalitySetting;
  readonly detects?: boolean;
  readonly preference?: Scope[];
  readonly mesh?: Partial<MeshConfig>;
}

/** `priority: place, place` of each group, with the weight where it is not the number of endpoints. */
function answer({ endpoints, locality, zoneAware, detects = true, preference, mesh }: Case): readonly string[] {
  const context = { meshConfig: { ...defaultMeshConfig, ...mesh }, proxy } as EnvoyContext;
  const service = {
    message: preference === undefined ? {} : { loadBalancing: { mode: Mode.FAILOVER, routingPreference: preference } },
  } as ServiceInfo;
  const loadBalancer =
    locality === undefined && zoneAware === undefined
      ? undefined
      : { simple: undefined, consistentHash: undefined, warmup: undefined, locality, zoneAware };
  const policy = { ...noPolicy, loadBalancer, outlierDetection: detects ? detecting : undefined };
  return balanceLocalities(context, service, policy, endpoints).map(
    (group) =>
      `${group.priority}: ${group.endpoints.map(({ place }) => place).join(", ")}${group.weight === group.endpoints.length ? "" : ` ×${group.weight}`}`,
  );
}

const everywhere = [at("r1/z1/s1"), at("r1/z1/s2"), at("r1/z2/s1"), at("r2/z1/s1"), at("r3/z1/s1")];
const flat = ["0: r1/z1/s1", "0: r1/z1/s2", "0: r1/z2/s1", "0: r2/z1/s1", "0: r3/z1/s1"];
const byRegion = ["0: r1/z1/s1", "1: r1/z1/s2", "2: r1/z2/s1", "3: r2/z1/s1", "3: r3/z1/s1"];

describe("priorities", () => {
  test.each<[string, Case, readonly string[]]>([
    ["by distance where outliers are detected", { endpoints: everywhere }, byRegion],
    ["none without detection", { endpoints: everywhere, detects: false }, flat],
    ["none where the rule switches them off", { endpoints: everywhere, locality: setting({ enabled: false }) }, flat],
    ["none where the mesh does", { endpoints: everywhere, mesh: { locality: setting({ enabled: false }) } }, flat],
    ["without gaps", { endpoints: [at("r9/z1/s1"), at("r1/z2/s1")] }, ["0: r1/z2/s1", "1: r9/z1/s1"]],
    [
      "the region to fail over to before others",
      { endpoints: everywhere, locality: setting({ failover: [{ from: "r1", to: "r3" }] }) },
      ["0: r1/z1/s1", "1: r1/z1/s2", "2: r1/z2/s1", "3: r3/z1/s1", "4: r2/z1/s1"],
    ],
    [
      "another region's failover says nothing",
      { endpoints: everywhere, locality: setting({ failover: [{ from: "r7", to: "r3" }] }) },
      byRegion,
    ],
    [
      "a service's preference holds without detection",
      { endpoints: everywhere, detects: false, preference: [Scope.NETWORK, Scope.REGION, Scope.ZONE] },
      ["0: r1/z1/s1", "0: r1/z1/s2", "1: r1/z2/s1", "2: r2/z1/s1", "2: r3/z1/s1"],
    ],
    [
      "the same node first",
      {
        endpoints: [at("r1/z1/s1@n1"), at("r1/z1/s1@n2")],
        detects: false,
        preference: [Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE],
      },
      ["0: r1/z1/s1@n1", "1: r1/z1/s1@n2"],
    ],
    [
      "another network is behind all of this one",
      {
        endpoints: [at("r1/z1/s1", { network: "far" }), at("r2/z1/s1")],
        detects: false,
        preference: [Scope.NETWORK, Scope.REGION, Scope.ZONE],
      },
      ["0: r2/z1/s1", "1: r1/z1/s1"],
    ],
    [
      "within another network the nearer first",
      {
        endpoints: [at("r2/z1/s1", { network: "far" }), at("r1/z1/s1", { network: "far" }), at("r2/z1/s1@n3")],
        detects: false,
        preference: [Scope.NETWORK, Scope.REGION, Scope.ZONE],
      },
      ["0: r2/z1/s1@n3", "1: r1/z1/s1", "2: r2/z1/s1"],
    ],
    [
      "the network like any label where it is not the first",
      {
        endpoints: [at("r1/z1/s1", { rack: "b" }), at("r1/z1/s2", { network: "far" }), at("r9/z1/s1")],
        locality: setting({ failoverPriority: ["rack", "topology.istio.io/network"] }),
      },
      ["0: r9/z1/s1", "1: r1/z1/s2", "2: r1/z1/s1"],
    ],
    [
      "by labels, of the proxy and as written",
      {
        endpoints: [at("r2/z1/s1", { rack: "a" }), at("r1/z1/s1", { rack: "b" })],
        locality: setting({ failoverPriority: ["rack"] }),
      },
      ["0: r2/z1/s1", "1: r1/z1/s1"],
    ],
    [
      "a label with a value",
      {
        endpoints: [at("r2/z1/s1", { rack: "a" }), at("r1/z1/s1", { rack: "b" })],
        locality: setting({ failoverPriority: ["rack=b"] }),
      },
      ["0: r1/z1/s1", "1: r2/z1/s1"],
    ],
    [
      "labels before regions",
      {
        endpoints: [at("r2/z1/s1"), at("r3/z1/s1"), at("r1/z1/s1", { rack: "b" })],
        locality: setting({ failoverPriority: ["rack"], failover: [{ from: "r1", to: "r3" }] }),
      },
      ["0: r3/z1/s1", "1: r2/z1/s1", "2: r1/z1/s1"],
    ],
    [
      "what is zone aware elsewhere is failover at waypoints, detection or not",
      { endpoints: everywhere, detects: false, zoneAware: setting({}) },
      byRegion,
    ],
  ])("%s", (_what, input, expected) => {
    expect(answer(input)).toEqual(expected);
  });
});

describe("shares", () => {
  const distribute = (from: string, to: Readonly<Record<string, number>>): LocalitySetting =>
    setting({ distribute: [{ from, to: new Map(Object.entries(to)) }] });
  test.each<[string, Case, readonly string[]]>([
    [
      "by weight of the endpoints, rounded up",
      {
        endpoints: [at("r1/z1/s1", { weight: 2 }), at("r1/z1/s2"), at("r2/z1/s1")],
        locality: distribute("r1/z1/*", { "r1/*": 80, "r2/*": 20 }),
      },
      ["0: r1/z1/s1 ×54", "0: r1/z1/s2 ×27", "0: r2/z1/s1 ×20"],
    ],
    [
      "nothing for places without one",
      { endpoints: everywhere, locality: distribute("*", { "r1/z1/s1": 100 }) },
      ["0: r1/z1/s1 ×100"],
    ],
    ["as before where no rule is for us", { endpoints: everywhere, locality: distribute("r5", { r5: 100 }) }, flat],
  ])("%s", (_what, input, expected) => {
    expect(answer(input)).toEqual(expected);
  });
});
