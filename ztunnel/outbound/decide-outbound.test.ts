import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { parseSpiffeId } from "#shared/identity/spiffe-id.ts";
import { gatewayAt, ip, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import type { Service, Workload } from "#shared/workload/workload.ts";
import { serviceKey } from "#shared/workload/workload.ts";
import { WorkloadStore } from "#shared/workload/workload-store.ts";
import { decideOutbound, type OutboundDecision } from "./decide-outbound.ts";
import { resolveDecision } from "./decide-with-resolver.ts";

const source = workloadOf("client", { addresses: ["10.0.0.100"], serviceAccount: "client" });

interface World {
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly from?: Workload;
  readonly peer?: string;
  readonly random?: () => number;
}

function ask(
  target: string,
  { workloads = [], services = [], from = source, peer = "10.0.0.100", random = () => 0 }: World,
) {
  const store = new WorkloadStore({ clock: new FakeClock() });
  store.apply({ workloads: [from, ...workloads], services });
  const colon = target.lastIndexOf(":");
  const to = { ip: ip(target.slice(0, colon).replace(/[[\]]/g, "")), port: Number(target.slice(colon + 1)) };
  const settings = { network: "", illegalPorts: new Set([15001, 15006, 15008]), random };
  return decideOutbound({ source: from, peerIp: ip(peer), target: to }, store, settings);
}

/** One line per decision, so that a table reads at a glance. */
function sketch(decision: ReturnType<typeof ask>): string {
  switch (decision.kind) {
    case "passthrough":
      return `tcp ${decision.target.ip}:${decision.target.port}${decision.service ? ` of ${decision.service.name}` : ""}`;
    case "hbone":
      return `hbone ${decision.hop.ip}:${decision.hop.port} ${decision.authority}${decision.service ? ` of ${decision.service.name}` : ""}${decision.via === "waypoint" ? " via waypoint" : ""}`;
    case "double-hbone":
      return `double ${decision.gateway.ip}:${decision.gateway.port} ${decision.authority}`;
    case "refuse":
      return "refuse";
    case "resolve":
      return `resolve ${decision.hostname}`;
  }
}

const svc = serviceOf("svc", { vips: ["/10.10.0.1"] });
const inSvc = { services: { [serviceKey(svc)]: { 80: 8080 } } };
const far = { network: "far" };
const gatewayByIp = gatewayAt("far/192.168.0.1", 15_009);
const gateway = workloadOf("gateway", { addresses: ["192.168.0.1"], ...far, serviceAccount: "gateway" });

const wp = serviceOf("wp", { vips: ["/10.10.0.9"], ports: { 15008: 15008 } });
const wpPod = workloadOf("wp-pod", {
  addresses: ["10.0.0.9"],
  serviceAccount: "wp",
  services: { [serviceKey(wp)]: { 15008: 15008 } },
});
const byWpName = gatewayAt(serviceKey(wp));
const byWpVip = gatewayAt("/10.10.0.9");
const byWpIp = gatewayAt("/10.0.0.9");
const passThrough = { mode: "PASSTHROUGH", routingPreference: [], healthPolicy: "ALLOW_ALL" } as const;
const networkFirst = {
  mode: "FAILOVER",
  routingPreference: ["NETWORK"],
  healthPolicy: "ONLY_HEALTHY",
} as const;
const local = workloadOf("local", { addresses: ["10.0.0.1"], ...inSvc });
const remote = workloadOf("remote", { ...far, networkGateway: gatewayByIp, ...inSvc });

describe("where a connection goes", () => {
  // prettier-ignore
  test.each([
    ["1.2.3.4:80",     {},                                                                    "tcp 1.2.3.4:80", "O1 unknown to the mesh"],
    ["127.0.0.1:15001", {},                                                                   "refuse", "our own port on loopback"],
    ["127.0.0.1:80",   {},                                                                    "tcp 127.0.0.1:80", "any other port on loopback"],
    ["1.2.3.4:15008",  {},                                                                    "tcp 1.2.3.4:15008", "our ports elsewhere are theirs to refuse"],
    ["10.10.0.1:80",   { services: [svc], workloads: [workloadOf("r", { ...far, ...inSvc })] }, "refuse", "O2 another network without gateway"],
    ["10.10.0.1:80",   { services: [svc], workloads: [remote, gateway] },                     "double 192.168.0.1:15009 svc.ns.svc.cluster.local:80", "O3 gateway by address"],
    ["10.10.0.1:80",   { services: [svc], workloads: [remote] },                              "refuse", "gateway unknown"],
    ["10.10.0.1:80",   { services: [svc, serviceOf("gw", { ports: { 15009: 15008 } })], workloads: [
      workloadOf("remote", { ...far, networkGateway: gatewayAt("ns/gw.ns.svc.cluster.local", 15_009), ...inSvc }),
      workloadOf("gw-pod", { ...far, addresses: ["192.168.0.2"], services: { "ns/gw.ns.svc.cluster.local": { 15009: 15008 } } }),
    ] },                                                                                      "double 192.168.0.2:15008 svc.ns.svc.cluster.local:80", "O4 gateway by hostname, its port mapped"],
    ["10.10.0.1:80",   { services: [{ ...svc, loadBalancing: networkFirst }], workloads: [local, remote, gateway] }, "hbone 10.0.0.1:15008 10.0.0.1:8080 of svc", "O6 the healthy local one"],
    ["10.10.0.1:80",   { services: [{ ...svc, loadBalancing: networkFirst }], workloads: [{ ...local, healthy: false }, remote, gateway] }, "double 192.168.0.1:15009 svc.ns.svc.cluster.local:80", "O6 else across"],
    ["10.0.0.1:80",    { workloads: [workloadOf("w", { addresses: ["10.0.0.1"], protocol: "TCP" })] }, "tcp 10.0.0.1:80", "O7 a workload that takes no tunnels"],
    ["10.0.0.1:80",    { workloads: [workloadOf("w", { addresses: ["10.0.0.1"], node: "elsewhere" })] }, "hbone 10.0.0.1:15008 10.0.0.1:80", "O7 one that does"],
    ["10.0.0.1:80",    { workloads: [local], from: workloadOf("client", { addresses: ["10.0.0.100"], waypoint: byWpName }) }, "hbone 10.0.0.1:15008 10.0.0.1:80", "O8 our own waypoint is for what comes to us"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpName }] }, "hbone 10.0.0.9:15008 10.0.0.1:80 via waypoint", "O9 workload waypoint by name"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpVip }] }, "hbone 10.0.0.9:15008 10.0.0.1:80 via waypoint", "O9 by VIP"],
    ["10.0.0.1:80",    { workloads: [wpPod, { ...local, waypoint: byWpIp }] },                "hbone 10.0.0.9:15008 10.0.0.1:80 via waypoint", "O9 by address"],
    ["10.0.0.1:80",    { workloads: [{ ...local, waypoint: byWpIp }] },                       "refuse", "a waypoint that is not there is never bypassed"],
    ["10.0.0.1:80",    { services: [wp], workloads: [{ ...local, waypoint: byWpName }] },     "refuse", "nor one without endpoints"],
    ["[fd00::1]:80",   { workloads: [wpPod, workloadOf("v6", { addresses: ["fd00::1"], waypoint: byWpIp })] }, "hbone 10.0.0.9:15008 [fd00::1]:80 via waypoint", "O9 the waypoint's family, the call's authority"],
    ["10.10.0.1:80",   { services: [{ ...svc, waypoint: byWpName }, wp], workloads: [wpPod, local] }, "hbone 10.0.0.9:15008 10.10.0.1:80 of svc via waypoint", "O10 service waypoint keeps the VIP"],
    ["10.0.0.1:8080",  { services: [{ ...svc, waypoint: byWpName }, wp], workloads: [wpPod, local] }, "hbone 10.0.0.1:15008 10.0.0.1:8080", "workload-addressed traffic skips the service's"],
    ["10.10.0.1:80",   { services: [svc, wp], workloads: [wpPod, { ...local, waypoint: byWpName }] }, "hbone 10.0.0.1:15008 10.0.0.1:8080 of svc", "service-addressed traffic skips the workload's"],
    ["10.10.0.1:80",   { services: [{ ...svc, waypoint: gatewayAt("ns/none.ns") }], workloads: [local] }, "refuse", "service waypoint unknown"],
    ["10.10.0.1:80",   { services: [svc] },                                                   "refuse", "O11 no endpoints is no passthrough"],
    ["10.10.0.1:81",   { services: [svc], workloads: [local] },                               "refuse", "nor is an undeclared port"],
    ["10.10.0.1:80",   { services: [{ ...svc, ports: new Map([[80, 0]]) }], workloads: [workloadOf("unmapped", { addresses: ["10.0.0.2"], services: { [serviceKey(svc)]: {} } }), local] }, "hbone 10.0.0.1:15008 10.0.0.1:8080 of svc", "O12 named port: who maps it"],
    ["10.10.0.1:80",   { services: [svc], workloads: [workloadOf("h", { addresses: ["10.9.0.1"], networkMode: "HOST_NETWORK", ...inSvc })] }, "hbone 10.9.0.1:15008 10.9.0.1:8080 of svc", "O13 host-network pod through its service"],
    ["10.9.0.1:8080",  { services: [svc], workloads: [workloadOf("h", { addresses: ["10.9.0.1"], networkMode: "HOST_NETWORK", ...inSvc })] }, "tcp 10.9.0.1:8080", "O13 the node itself is not the pod"],
    ["10.0.0.5:80",    { workloads: [workloadOf("dual", { addresses: ["fd00::5", "10.0.0.5"] })] }, "hbone 10.0.0.5:15008 10.0.0.5:80", "O14 IPv4 stays"],
    ["[fd00::5]:80",   { workloads: [workloadOf("dual", { addresses: ["10.0.0.5", "fd00::5"] })] }, "hbone fd00::5:15008 [fd00::5]:80", "O14 IPv6 stays"],
    ["10.10.0.1:80",   { services: [{ ...svc, ipFamilies: "IPV6_ONLY" }], workloads: [workloadOf("dual", { addresses: ["10.0.0.5", "fd00::5"], ...inSvc })] }, "hbone fd00::5:15008 [fd00::5]:8080 of svc", "O15 the service allows IPv6 only"],
    ["10.10.0.1:80",   { services: [{ ...svc, ipFamilies: "IPV4_ONLY" }], workloads: [workloadOf("dual", { addresses: ["fd00::5", "10.0.0.5"], ...inSvc })] }, "hbone 10.0.0.5:15008 10.0.0.5:8080 of svc", "O15 IPv4 only"],
    ["10.10.0.1:80",   { services: [{ ...svc, ipFamilies: "DUAL" }], workloads: [workloadOf("dual", { addresses: ["fd00::5", "10.0.0.5"], ...inSvc })] }, "hbone 10.0.0.5:15008 10.0.0.5:8080 of svc", "O15 dual follows the call"],
    ["10.10.0.1:80",   { services: [{ ...svc, ipFamilies: "IPV6_ONLY" }], workloads: [local] }, "refuse", "no address of an allowed family"],
    ["10.10.0.1:80",   { services: [{ ...svc, loadBalancing: passThrough }], workloads: [local] }, "tcp 10.10.0.1:80", "O16 passthrough service"],
    ["10.0.0.1:80",    { services: [serviceOf("p", { vips: ["/10.0.0.1"], loadBalancing: passThrough })], workloads: [local] }, "tcp 10.0.0.1:80", "O16 even if a workload owns the address"],
    ["10.10.0.1:80",   { services: [{ ...svc, loadBalancing: passThrough, waypoint: byWpName }, wp], workloads: [wpPod] }, "hbone 10.0.0.9:15008 10.10.0.1:80 of svc via waypoint", "O16 with waypoint"],
    ["10.10.0.1:80",   { services: [svc], workloads: [workloadOf("t", { addresses: ["10.0.0.3"], protocol: "TCP", ...inSvc })] }, "tcp 10.0.0.3:8080 of svc", "an endpoint that takes no tunnels"],
    ["10.10.0.1:80",   { services: [svc], workloads: [workloadOf("vm", { hostname: "vm.example.com", ...inSvc })] }, "resolve vm.example.com", "an endpoint known by name"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpName }], from: wpPod, peer: "10.0.0.9" }, "hbone 10.0.0.1:15008 10.0.0.1:80", "what comes from the waypoint is not sent back to it"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpVip }], from: wpPod, peer: "10.0.0.9" }, "hbone 10.0.0.1:15008 10.0.0.1:80", "by VIP too"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpIp }], from: wpPod, peer: "10.0.0.9" }, "hbone 10.0.0.1:15008 10.0.0.1:80", "by address too"],
    ["10.0.0.1:80",    { services: [wp], workloads: [wpPod, { ...local, waypoint: byWpName }], from: wpPod, peer: "10.0.0.77" }, "hbone 10.0.0.9:15008 10.0.0.1:80 via waypoint", "from the waypoint's account, but not its address"],
  ] as [string, World, string, string][])("%s (%#): %4$s", (target, world, expected) => {
    expect(sketch(ask(target, world))).toBe(expected);
  });

  test("O5 a service waypoint on another network is reached as the service itself", () => {
    const farWaypoint = workloadOf("far-wp", {
      ...far,
      networkGateway: gatewayByIp,
      services: { [serviceKey(wp)]: { 15008: 15008 } },
    });
    const san = parseSpiffeId("spiffe://cluster.local/ns/ns/sa/svc");
    const service = { ...svc, waypoint: byWpName, subjectAltNames: [san] };
    const decision = ask("10.10.0.1:80", { services: [service, wp], workloads: [farWaypoint, gateway] });
    expect(decision).toMatchObject({
      kind: "double-hbone",
      gateway: { ip: "192.168.0.1", port: 15_009 },
      gatewayExpected: ["spiffe://cluster.local/ns/ns/sa/gateway"],
      authority: "svc.ns.svc.cluster.local:80",
      expected: [san],
    });
  });

  test("servers must prove the service's names or the workload's identity", () => {
    const san = parseSpiffeId("spiffe://other/ns/x/sa/y");
    const decision = ask("10.10.0.1:80", { services: [{ ...svc, subjectAltNames: [san] }], workloads: [local] });
    expect(decision).toMatchObject({ kind: "hbone", expected: [san, local.identity] });
  });

  test("the client's namespace chooses between two services of one address", () => {
    const [a, b] = ["a", "b"].map((namespace) => serviceOf("svc", { namespace, vips: ["/10.10.0.1"] }));
    if (a === undefined || b === undefined) throw new TypeError("unreachable");
    const workloads = [a, b].map((service, index) =>
      workloadOf(`w${index}`, { addresses: [`10.0.1.${index}`], services: { [serviceKey(service)]: { 80: 80 } } }),
    );
    const from = workloadOf("client", { namespace: "b" });
    expect(sketch(ask("10.10.0.1:80", { services: [a, b], workloads, from }))).toBe(
      "hbone 10.0.1.1:15008 10.0.1.1:80 of svc",
    );
  });
});

describe("weighted waypoints", () => {
  const names = ["one", "two"];
  const services = names.map((name, index) =>
    serviceOf(name, { vips: [`/10.20.0.${index}`], ports: { 15008: 15008 } }),
  );
  const workloads = names.map((name, index) =>
    workloadOf(name, {
      addresses: [`10.2.0.${index}`],
      services: { [`ns/${name}.ns.svc.cluster.local`]: { 15008: 15008 } },
    }),
  );
  const hopFor = (weights: readonly number[], random: number): string => {
    const weightedWaypoints = weights.map((weight, index) => ({
      destination: gatewayAt(`ns/${names[index]}.ns.svc.cluster.local`),
      weight,
    }));
    const service = { ...svc, weightedWaypoints, waypoint: byWpName };
    const world = { services: [service, wp, ...services], workloads: [wpPod, ...workloads], random: () => random };
    const decision = ask("10.10.0.1:80", world);
    return decision.kind === "hbone" ? decision.destination.name : decision.kind;
  };

  // prettier-ignore
  test.each([
    [[],       0.5,   "wp-pod", "none: the single waypoint"],
    [[0, 0],   0.5,   "wp-pod", "all zero: the single waypoint"],
    [[100, 0], 0.999, "one",    "weight 0 is never picked"],
    [[0, 100], 0,     "two",    "nor at the edge"],
    [[75, 25], 0.749, "one",    "75 of 100"],
    [[75, 25], 0.75,  "two",    "and the rest"],
  ])("%j at %d: %s (%s)", (weights, random, expected) => {
    expect(hopFor(weights, random)).toBe(expected);
  });
});

describe("workloads known by hostname", () => {
  const vm = workloadOf("vm", { hostname: "vm.example.com", ...inSvc });
  const waiting = (target: string) => {
    const decision = ask(target, {
      services: [{ ...svc, vips: [...svc.vips, { network: "", ip: ip("fd10::1") }] }],
      workloads: [vm],
    });
    if (decision.kind !== "resolve") throw new TypeError(`not waiting: ${decision.kind}`);
    return decision;
  };

  // prettier-ignore
  test.each([
    ["10.10.0.1:80",  ["fd00::9", "10.9.9.9"], "hbone 10.9.9.9:15008 10.9.9.9:8080 of svc", "the call's family"],
    ["[fd10::1]:80",  ["fd00::9", "10.9.9.9"], "hbone fd00::9:15008 [fd00::9]:8080 of svc", "IPv6"],
    ["10.10.0.1:80",  ["fd00::9"],             "hbone fd00::9:15008 [fd00::9]:8080 of svc", "else the other"],
    ["10.10.0.1:80",  [],                      "refuse",                                    "no answer"],
  ])("%s with %j is %s: %s", async (target, answers, expected) => {
    const decision = await resolveDecision(waiting(target), () => Promise.resolve(answers.map(ip)), () => 0);
    expect(sketch(decision)).toBe(expected);
  });

  test("a failing resolver refuses and says why", async () => {
    const fail = () => Promise.reject(new Error("NXDOMAIN"));
    const decision: OutboundDecision = await resolveDecision(waiting("10.10.0.1:80"), fail, () => 0);
    expect(decision).toEqual({ kind: "refuse", why: 'cannot resolve "vm.example.com": NXDOMAIN' });
  });
});
