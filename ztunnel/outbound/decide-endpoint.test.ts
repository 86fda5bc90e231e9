import { describe, expect, test } from "@jest/globals";
import { gatewayAt, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import type { ServiceEntry } from "#shared/workload/lookup.ts";
import type { LoadBalancing, Workload } from "#shared/workload/workload.ts";
import { chooseEndpoint, pickWeighted } from "./decide-endpoint.ts";

const here = { region: "r", zone: "z", subzone: "" };
const source = workloadOf("client", { network: "n", locality: here });

const at = (name: string, network: string, region: string, zone: string, wish: Partial<Workload> = {}): Workload => ({
  ...workloadOf(name, { addresses: ["10.0.0.1"] }),
  network,
  networkGateway: gatewayAt("n/10.0.0.2"),
  locality: { region, zone, subzone: "" },
  ...wish,
});

const entryOf = (workloads: readonly Workload[], service = serviceOf("svc")): ServiceEntry => ({
  service,
  endpoints: new Map(workloads.map((workload) => [workload.uid, { workload, ports: new Map([[80, 8080]]) }])),
});

/** Names of all endpoints that can be chosen. */
function reachable(entry: ServiceEntry, mode: "normal" | "waypoint" = "normal", port = 80): readonly string[] {
  const names = new Set<string>();
  for (let point = 0; point < 1; point += 0.01) {
    const chosen = chooseEndpoint(entry, { source, port, mode }, () => point);
    if (chosen !== undefined) names.add(chosen.workload.name);
  }
  return [...names].sort();
}

const policy = (mode: LoadBalancing["mode"]): LoadBalancing => ({
  mode,
  routingPreference: ["NETWORK", "REGION", "ZONE"],
  healthPolicy: "ONLY_HEALTHY",
});

const all = at("all", "n", "r", "z");
const region = at("region", "n", "r", "other");
const region2 = at("region2", "n", "r", "another");
const network = at("network", "n", "other", "other");
const network2 = at("network2", "n", "other", "z");
const offRegionZone = at("off-region-zone", "m", "r", "z");
const offRegion = at("off-region", "m", "r", "other");
const nothing = at("nothing", "m", "other", "other");

describe("which endpoints take a connection", () => {
  // prettier-ignore
  test.each([
    ["STANDARD", [all, nothing],                                  ["all", "nothing"],       "no preference: all"],
    ["STRICT",   [region, network, nothing],                      [],                       "L1 strict without a full match"],
    ["STRICT",   [all, region, network],                          ["all"],                  "L1 strict with one"],
    ["FAILOVER", [nothing, at("n2", "m", "x", "z")],              ["n2", "nothing"],        "L2 nothing matches: any"],
    ["FAILOVER", [all, region, network, offRegionZone, nothing],  ["all"],                  "L2 the full match"],
    ["FAILOVER", [region, region2, network, offRegionZone],       ["region", "region2"],    "L2 network and region"],
    ["FAILOVER", [network, network2, offRegionZone, nothing],     ["network", "network2"],  "L2 the network beats any locality"],
    ["FAILOVER", [offRegionZone, offRegion, nothing],             ["off-region-zone"],      "L2 elsewhere, the nearest"],
    ["FAILOVER", [offRegion, nothing],                            ["off-region"],           "region alone"],
  ] as [LoadBalancing["mode"], Workload[], string[], string][])("%s %#: %4$s", (mode, workloads, expected) => {
    expect(reachable(entryOf(workloads, serviceOf("svc", { loadBalancing: policy(mode) })))).toEqual(expected);
  });

  test("L3 none without address, unless behind another network's gateway or known by name", () => {
    const bare = (name: string, net: string, wish: Partial<Workload> = {}) =>
      at(name, net, "r", "z", { ...wish, addresses: [] });
    const noGateway = bare("lost", "m");
    const { networkGateway: _, ...lost } = noGateway;
    const workloads = [bare("here", "n"), lost, bare("gated", "m"), bare("named", "n", { hostname: "vm" })];
    expect(reachable(entryOf(workloads))).toEqual(["gated", "named"]);
  });

  test("weights decide how often, and 0 never", () => {
    const workloads = [
      at("heavy", "n", "r", "z", { capacity: 3 }),
      at("light", "n", "r", "z"),
      at("off", "n", "r", "z", { capacity: 0 }),
    ];
    const entry = entryOf(workloads);
    const pick = (point: number) =>
      chooseEndpoint(entry, { source, port: 80, mode: "normal" }, () => point)?.workload.name;
    expect([0, 0.74, 0.75, 0.999].map(pick)).toEqual(["heavy", "heavy", "light", "light"]);
    expect(reachable(entryOf([at("off", "n", "r", "z", { capacity: 0 })]))).toEqual([]);
  });
});

describe("L4 the port dialled", () => {
  const tunnel = { protocol: "PROXY", port: 15_088 } as const;
  const endpoint = (ports: Readonly<Record<number, number>>, wish: Partial<Workload> = {}) => ({
    workload: at("w", "n", "r", "z", wish),
    ports: new Map(Object.entries(ports).map(([port, target]) => [Number(port), target])),
  });

  // prettier-ignore
  test.each([ // service ports   endpoint                                      mode        port   dialled
    [{ 80: 1000 },  endpoint({ 80: 2000 }),                       "normal",   80,    2000,      "the endpoint's mapping first"],
    [{ 80: 1000 },  endpoint({}),                                 "normal",   80,    1000,      "then the service's"],
    [{ 80: 0 },     endpoint({}),                                 "normal",   80,    undefined, "a named port must be mapped"],
    [{ 80: 0 },     endpoint({ 80: 2000 }),                       "normal",   80,    2000,      "and is"],
    [{ 80: 1000 },  endpoint({ 81: 2000 }),                       "normal",   81,    undefined, "a port that the service lacks"],
    [{ 80: 1000 },  endpoint({}, { applicationTunnel: tunnel }),  "normal",   15008, undefined, "also behind a tunnel"],
    [{ 80: 1000 },  endpoint({}, { applicationTunnel: tunnel }),  "waypoint", 15008, 15008,     "unless it is looked up as a waypoint"],
    [{ 80: 1000 },  endpoint({ 15008: 1 }),                       "waypoint", 15008, undefined, "which needs the tunnel"],
    [{ 80: 1000 },  endpoint({}, { applicationTunnel: { protocol: "NONE" } }), "waypoint", 15008, undefined, "and its port"],
  ] as [Record<number, number>, ReturnType<typeof endpoint>, "normal" | "waypoint", number, number | undefined, string][])(
    "%#: %6$s", (ports, one, mode, port, expected) => {
      const entry = { service: serviceOf("svc", { ports }), endpoints: new Map([[one.workload.uid, one]]) };
      expect(chooseEndpoint(entry, { source, port, mode }, () => 0)?.port).toBe(expected);
    },
  );
});

test("pickWeighted over everything follows the weights", () => {
  const items = [{ weight: 3 }, { weight: 0 }, { weight: 1 }];
  const picked = Array.from({ length: 100 }, (_, index) => pickWeighted(items, () => index / 100));
  expect(picked.map((item) => item?.weight).filter((weight) => weight === 3)).toHaveLength(75);
  expect(picked).not.toContain(items[1]);
});
