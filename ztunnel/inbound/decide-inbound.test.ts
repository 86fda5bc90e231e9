import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { gatewayAt, ip, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { serviceKey, type Service, type Workload } from "#shared/workload/workload.ts";
import { WorkloadStore } from "#shared/workload/workload-store.ts";
import {
  decideConnect,
  decidePlaintext,
  type ConnectRequest,
  type InboundDecision,
  type InboundSelf,
} from "./decide-inbound.ts";

interface World {
  readonly self?: Workload;
  readonly others?: readonly Workload[];
  readonly services?: readonly Service[];
  readonly localhostAppTunnel?: boolean;
}

const web = serviceOf("web", {
  vips: ["other/10.9.0.1", "/fd10::1", "/10.10.0.1"],
  ports: { 80: 8080, 81: 0, 82: 8082 },
});
const server = workloadOf("server", {
  addresses: ["10.0.0.1"],
  services: { [serviceKey(web)]: { 80: 9090, 81: 9191 } },
});

function open({ self = server, others = [], services = [web], localhostAppTunnel = true }: World) {
  const store = new WorkloadStore({ clock: new FakeClock() });
  store.apply({ workloads: [self, ...others], services });
  const inboundSelf: InboundSelf = {
    workload: self,
    network: "",
    illegalPorts: new Set([15_001, 15_006, 15_008]),
    localhostAppTunnel,
  };
  return { store, inboundSelf };
}

function connect(authority: string, world: World = {}, wish: Partial<ConnectRequest> = {}): InboundDecision {
  const { store, inboundSelf } = open(world);
  const request: ConnectRequest = {
    method: "CONNECT",
    authority,
    local: { ip: ip("10.0.0.1"), port: 15_008 },
    peer: { ip: ip("10.0.0.7"), port: 40_000 },
    ...wish,
  };
  return decideConnect(request, store, inboundSelf);
}

const sketch = (decision: InboundDecision): string =>
  decision.kind === "refuse"
    ? String(decision.status)
    : `${decision.target.ip}:${decision.target.port}${decision.service ? ` of ${decision.service.name}` : ""}`;

describe("what a CONNECT may ask for", () => {
  // prettier-ignore
  test.each([
    ["10.0.0.1:1234",                       "10.0.0.1:1234",         "I1 our own address"],
    ["[::ffff:10.0.0.1]:1234",              "10.0.0.1:1234",         "in any spelling"],
    ["10.0.0.1:9090",                       "10.0.0.1:9090 of web",  "the service that uses the port is guessed"],
    ["web.ns.svc.cluster.local:80",         "10.0.0.1:9090 of web",  "I1 our mapping of a service port"],
    ["WEB.ns.svc.Cluster.Local:80",         "10.0.0.1:9090 of web",  "names have no case"],
    ["web.ns.svc.cluster.local:82",         "10.0.0.1:8082 of web",  "the service's mapping"],
    ["web.ns.svc.cluster.local:81",         "10.0.0.1:9191 of web",  "a named port, mapped by us"],
    ["web.ns.svc.cluster.local:83",         "503",                   "a port that the service lacks"],
    ["none.ns.svc.cluster.local:80",        "503",                   "an unknown service"],
    ["10.0.0.2:1234",                       "400",                   "I4 another address"],
    ["10.10.0.1:80",                        "400",                   "I4 a VIP, without being its waypoint"],
    ["10.0.0.1:15008",                      "503",                   "our own port"],
    ["10.0.0.1:15001",                      "503",                   "our own port"],
    ["10.0.0.1",                            "400",                   "no port"],
    ["10.0.0.1:",                           "400",                   "an empty port"],
    ["10.0.0.1:65536",                      "400",                   "no such port"],
    [":80",                                 "400",                   "no host"],
    ["",                                    "400",                   "nothing"],
    ["::1:80",                              "400",                   "IPv6 without brackets"],
    ["[web]:80",                            "400",                   "a name in brackets"],
    ["http://10.0.0.1:80/",                 "400",                   "a URL"],
    ["10.0.0.1:80 ",                        "400",                   "a space"],
    ["10.0.0.1:80\r\nx",                    "400",                   "a line break"],
  ])("%j is %s: %s", (authority, expected) => {
    expect(sketch(connect(authority))).toBe(expected);
  });

  test("only by CONNECT", () => {
    expect(connect("10.0.0.1:80", {}, { method: "GET" })).toMatchObject({ kind: "refuse", status: 400 });
  });

  test("a mismatch names both addresses as other tools expect", () => {
    expect(connect("10.0.0.2:80")).toMatchObject({ why: "ip mismatch: 10.0.0.1 != 10.0.0.2" });
  });

  test("whatever it asks, only the pod is ever dialled", () => {
    const part = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.string());
    fc.assert(
      fc.property(part, fc.integer({ min: -1, max: 70_000 }), (host, port) => {
        const decision = connect(`${host.includes(":") ? `[${host}]` : host}:${port}`);
        expect(decision.kind === "refuse" || decision.target.ip === "10.0.0.1").toBe(true);
      }),
    );
  });
});

describe("a waypoint", () => {
  const wp = serviceOf("wp", { vips: ["/10.10.0.9"], ports: { 15008: 15008 } });
  const waypoint = workloadOf("waypoint", {
    addresses: ["10.0.0.1"],
    services: { [serviceKey(wp)]: { 15008: 15008 } },
  });
  const byName = gatewayAt(serviceKey(wp));
  const attached = (reference: ReturnType<typeof gatewayAt>) =>
    workloadOf("attached", { addresses: ["10.0.0.5"], waypoint: reference });
  const service = (reference: ReturnType<typeof gatewayAt>) =>
    serviceOf("app", { vips: ["/10.10.0.5"], waypoint: reference });

  // prettier-ignore
  test.each([
    ["10.0.0.5:80",  { others: [attached(byName)] },                                     "10.0.0.1:80", "I2 an attached workload, by name"],
    ["10.0.0.5:80",  { others: [attached(gatewayAt("/10.10.0.9"))] },                    "10.0.0.1:80", "I2 by VIP"],
    ["10.0.0.5:80",  { others: [attached(gatewayAt("/10.0.0.1"))] },                     "10.0.0.1:80", "I2 by our address"],
    ["10.10.0.5:80", { services: [wp, service(byName)] },                                "10.0.0.1:80", "I2 an attached service"],
    ["10.10.0.5:80", { services: [wp, { ...service(gatewayAt("ns/none.ns")), weightedWaypoints: [{ destination: byName, weight: 1 }] }] }, "10.0.0.1:80", "by a weighted reference"],
    ["10.0.0.5:80",  { others: [workloadOf("free", { addresses: ["10.0.0.5"] })] },      "400",         "I4 without attachment"],
    ["10.0.0.5:80",  { others: [attached(gatewayAt("/10.0.0.77"))] },                    "400",         "I4 attached to another"],
    ["10.0.0.5:80",  { others: [workloadOf("free", { addresses: ["10.0.0.5"], services: { "ns/app.ns.svc.cluster.local": { 80: 80 } } })], services: [wp, service(byName)] }, "400", "I4 a workload through its service's waypoint"],
    ["10.10.0.5:80", { others: [workloadOf("w", { addresses: ["10.0.0.5"], waypoint: byName, services: { "ns/app.ns.svc.cluster.local": { 80: 80 } } })], services: [wp, serviceOf("app", { vips: ["/10.10.0.5"] })] }, "400", "I4 a service through its workload's"],
  ] as [string, World, string, string][])("%s (%#) is %s: %s", (authority, world, expected) => {
    expect(sketch(connect(authority, { services: [wp], self: waypoint, ...world }))).toBe(expected);
  });
});

describe("an application behind a tunnel port", () => {
  const behind = (protocol: "NONE" | "PROXY", port?: number) =>
    workloadOf("gateway", { addresses: ["10.0.0.1"], applicationTunnel: { protocol, ...(port && { port }) } });

  // prettier-ignore
  test.each([
    ["10.0.0.5:80",                 behind("PROXY", 15_088), "127.0.0.1:15088", "10.0.0.5:80",  "I3 PROXY header with what was asked"],
    ["10.0.0.5:80",                 behind("PROXY"),         "127.0.0.1:80",    "10.0.0.5:80",  "without a port of its own"],
    ["10.0.0.5:80",                 behind("NONE", 15_088),  "10.0.0.1:15088",  undefined,      "without header"],
    ["web.ns.svc.cluster.local:80", behind("PROXY", 15_088), "127.0.0.1:15088", "10.10.0.1:80", "a service by its IPv4 VIP of our network"],
  ] as [string, Workload, string, string | undefined, string][])("%s (%#) dials %s, header %s: %s", (authority, self, dialled, header) => {
    const decision = connect(authority, { self });
    if (decision.kind !== "connect") throw new TypeError(decision.why);
    expect(`${decision.target.ip}:${decision.target.port}`).toBe(dialled);
    const proxied = decision.proxyProtocolTarget;
    expect(proxied && `${proxied.ip}:${proxied.port}`).toBe(header);
    expect(decision.policyTarget.ip).toBe("10.0.0.1");
    expect(decision.keepSource).toBe(header === undefined);
  });

  test("is dialled at the pod's address where loopback is turned off", () => {
    const decision = connect("10.0.0.5:80", { self: behind("PROXY", 15_088), localhostAppTunnel: false });
    expect(decision).toMatchObject({ target: { ip: "10.0.0.1", port: 15_088 }, keepSource: true });
  });

  test("needs an address for the header", () => {
    const world = { self: behind("PROXY", 15_088), services: [serviceOf("web")] };
    expect(connect("web.ns.svc.cluster.local:80", world)).toMatchObject({ status: 503 });
  });

  test("does not open our own ports", () => {
    expect(connect("10.0.0.1:15008", { self: behind("PROXY", 15_088) })).toMatchObject({ status: 503 });
  });
});

describe("the service meant", () => {
  const two = [serviceOf("a", { ports: { 80: 8080 } }), serviceOf("b", { ports: { 80: 8080 } })];
  const self = workloadOf("server", {
    addresses: ["10.0.0.1"],
    services: { [serviceKey(two[0] ?? web)]: { 80: 8080 }, [serviceKey(two[1] ?? web)]: { 80: 8080 } },
  });
  const nameOf = (forwardedHost?: string) => {
    const decision = connect(
      "10.0.0.1:8080",
      { self, services: two },
      forwardedHost === undefined ? {} : { forwardedHost },
    );
    return decision.kind === "connect" ? decision.service?.name : decision.kind;
  };

  test("is the first that uses the port, or the one that was forwarded if it is ours", () => {
    expect(nameOf()).toBe("a");
    expect(nameOf("b.ns.svc.cluster.local")).toBe("b");
    expect(nameOf("evil.example.com")).toBe("a");
  });
});

describe("plaintext", () => {
  const decidePlain = (to: string, port: number, peer = "10.0.0.7") => {
    const { store, inboundSelf } = open({});
    return decidePlaintext(
      { originalDestination: { ip: ip(to), port }, peer: { ip: ip(peer), port: 4_000 } },
      store,
      inboundSelf,
    );
  };

  test("goes where it was going, keeping its source", () => {
    expect(decidePlain("10.0.0.1", 9_090)).toMatchObject({ target: { ip: "10.0.0.1", port: 9_090 }, keepSource: true });
  });

  test("never to our own ports, and a pod calling itself keeps no source", () => {
    expect(decidePlain("10.0.0.1", 15_006)).toMatchObject({ kind: "refuse" });
    expect(decidePlain("10.0.0.1", 80, "10.0.0.1")).toMatchObject({ keepSource: false });
  });
});
