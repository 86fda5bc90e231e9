import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { Action, AuthorizationSchema } from "#shared/proto/gen/security/authorization_pb.js";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { ip, serviceOf, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { dumpAll, dumpCertificates, dumpPolicy, dumpService, dumpWorkload } from "./config-dump.ts";
import { openHostnameResolver } from "./hostname-resolver.ts";
import { readLocalConfig } from "./local-config.ts";
import { MeshState } from "./mesh-state.ts";
import { prepareOnDemand } from "./on-demand.ts";
import { readConfig } from "#ztunnel/config.ts";

const resource = (name: string, value: Uint8Array) => ({ name, version: "1", aliases: [], value });
const address = (name: string, init: MessageInitShape<typeof AddressSchema>) =>
  resource(name, toBinary(AddressSchema, create(AddressSchema, init)));

function open() {
  const state = new MeshState({ clock: new FakeClock() });
  const [addresses, policies] = state.subscriptions({ onDemand: false });
  if (addresses === undefined || policies === undefined) throw new TypeError("two subscriptions");
  return { state, addresses, policies };
}

describe("what the control plane sends", () => {
  const pod = (name: string) =>
    address(name, {
      type: {
        case: "workload",
        value: { uid: name, name, services: { "ns/web": { ports: [{ servicePort: 80, targetPort: 8_080 }] } } },
      },
    });

  test("W8 one malformed resource is refused by name, the rest applies", () => {
    const { state, addresses } = open();
    const web = address("ns/web", {
      type: {
        case: "service",
        value: { namespace: "ns", hostname: "web", ports: [{ servicePort: 80, targetPort: 80 }] },
      },
    });
    const malformed = address("bad", {
      type: { case: "workload", value: { uid: "bad", addresses: [new Uint8Array(3)] } },
    });
    const garbage = resource("garbage", Uint8Array.of(0xff, 0xff, 0xff));
    const rejections = addresses.apply([pod("a"), malformed, web, garbage, pod("b")], []);
    expect(rejections.map(({ name }) => name)).toEqual(["bad", "garbage"]);
    expect(rejections[0]?.reason).toContain("addresses[0]: 3 bytes");
    expect([...(state.workloads.serviceByKey("ns/web")?.endpoints.keys() ?? [])]).toEqual(["a", "b"]);
    addresses.apply([], ["a"]);
    expect(state.workloads.serviceByKey("ns/web")?.endpoints.size).toBe(1);
  });

  test("policies come and go, and say so; nothing accepted says nothing", () => {
    const { state, policies } = open();
    let changes = 0;
    state.onPolicyChange(() => changes++);
    const policy = toBinary(
      AuthorizationSchema,
      create(AuthorizationSchema, { name: "p", namespace: "ns", action: Action.DENY }),
    );
    expect(policies.apply([resource("ns/p", policy)], [])).toEqual([]);
    expect(state.policies.get("ns/p")?.action).toBe("DENY");
    policies.apply([resource("ns/q", Uint8Array.of(0xff))], []);
    expect(changes).toBe(1);
    policies.apply([], ["ns/p"]);
    expect([changes, state.policies.all()]).toEqual([2, []]);
  });

  test("who can be reached in tunnels is told once: when it comes, or becomes so", () => {
    const { state } = open();
    const told: string[][] = [];
    const stop = state.onJoined((addresses) => told.push([...addresses]));
    const plain = workloadOf("plain", { addresses: ["10.0.0.1", "fd00::1"], protocol: "TCP" });
    const meshed = workloadOf("meshed", { addresses: ["10.0.0.2"], protocol: "HBONE" });
    state.applyAddresses({ workloads: [plain, meshed] });
    expect(told).toEqual([["10.0.0.2"]]);
    state.applyAddresses({ workloads: [plain, { ...meshed, workloadName: "renamed" }] });
    state.applyAddresses({ workloads: [{ ...plain, protocol: "HBONE" }, meshed] });
    state.applyAddresses({ workloads: [plain] });
    expect(told).toEqual([["10.0.0.2"], ["10.0.0.1", "fd00::1"]]);
    stop();
    state.applyAddresses({ workloads: [{ ...plain, protocol: "HBONE" }] });
    expect(told).toHaveLength(2);
  });

  test("subscriptions are in Istio's order, addresses alone on demand", () => {
    const state = new MeshState({ clock: new FakeClock() });
    expect(state.subscriptions({ onDemand: true }).map(({ typeUrl, onDemand = false }) => [typeUrl, onDemand])).toEqual(
      [
        [typeUrls.address, true],
        [typeUrls.authorization, false],
      ],
    );
  });
});

describe("W9 local configuration", () => {
  const local = {
    workloads: [
      {
        uid: "c//Pod/ns/a",
        name: "a",
        namespace: "ns",
        workloadIps: ["10.0.0.1"],
        protocol: "HBONE",
        network: "n1",
        services: { "ns/web.example.com": { "80": 8_080 } },
        waypoint: { destination: "ns/wp.example.com", hboneMtlsPort: 15_008 },
        networkGateway: { destination: "n2/10.1.1.1", hboneMtlsPort: 15_009 },
        applicationTunnel: { protocol: "PROXY", port: 15_088 },
      },
    ],
    services: [
      {
        name: "web",
        namespace: "ns",
        hostname: "web.example.com",
        vips: ["n2/10.10.0.1"],
        cidrVips: [{ network: "", cidr: "10.20.0.0/16" }],
        ports: { 80: 8_080 },
        subjectAltNames: ["spiffe://td/ns/x/sa/y"],
        loadBalancer: { mode: "Failover", routingPreferences: ["Network", "Region"], healthPolicy: "AllowAll" },
        ipFamilies: "IPv6",
      },
    ],
    policies: [
      {
        name: "p",
        namespace: "ns",
        scope: "Namespace",
        action: "Deny",
        dryRun: false,
        rules: [[[{ principals: [{ Exact: "a" }], notNamespaces: [{ Presence: [] }], sourceIps: ["10.0.0.0/8"] }]]],
      },
    ],
  };

  test("reads what it is written in, and a VIP may be on another network than its endpoints", () => {
    const { state } = open();
    const { workloads, services, policies } = readLocalConfig(local);
    state.applyAddresses({ workloads, services });
    state.applyPolicies(policies, []);
    const entry = state.workloads.serviceByAddress("n2", ip("10.10.0.1"));
    expect(entry?.endpoints.get("c//Pod/ns/a")?.ports.get(80)).toBe(8_080);
    expect(entry?.service.subjectAltNames).toEqual(["spiffe://td/ns/x/sa/y"]);
    expect(state.policies.get("ns/p")).toMatchObject({
      scope: "NAMESPACE",
      rules: [[[{ principals: [{ kind: "exact", value: "a" }], notNamespaces: [{ kind: "presence" }] }]]],
    });
  });

  test("what is dumped reads back as the same", () => {
    const read = readLocalConfig(local);
    const again = readLocalConfig({
      workloads: read.workloads.map((workload) => ({
        ...dumpWorkload(workload),
        services: Object.fromEntries([...workload.services].map(([key, ports]) => [key, Object.fromEntries(ports)])),
      })),
      services: read.services.map((service) => {
        const { endpoints: _, ...rest } = dumpService({ service, endpoints: new Map() });
        return rest;
      }),
      policies: read.policies.map(dumpPolicy),
    });
    expect(again).toEqual(read);
  });

  test("mistakes are named, unknown fields too", () => {
    expect(() => readLocalConfig({ workloads: [{ workloadIps: ["x"], color: "red" }], extra: 1 })).toThrow(
      /workloads\.0\.workloadIps\.0: "x" is no IP address.*color.*extra/,
    );
    expect(readLocalConfig(undefined)).toEqual({ workloads: [], services: [], policies: [] });
  });
});

describe("A10 the dump", () => {
  test("spells things as istioctl reads them", () => {
    const workload = workloadOf("a", {
      addresses: ["10.0.0.1"],
      networkMode: "HOST_NETWORK",
      healthy: false,
      locality: { region: "r", zone: "", subzone: "" },
      services: { "ns/b": { 80: 80 }, "ns/a": {} },
    });
    expect(dumpWorkload(workload)).toMatchObject({
      workloadIps: ["10.0.0.1"],
      protocol: "HBONE",
      networkMode: "HostNetwork",
      status: "Unhealthy",
      services: ["ns/a", "ns/b"],
      locality: { region: "r", zone: "", subzone: "" },
    });
    const service = serviceOf("web", { vips: ["n/10.1.0.1", "/10.2.0.0/16"], ipFamilies: "DUAL", canonical: true });
    const endpoint = { workload, ports: new Map([[80, 8_080]]) };
    expect(dumpService({ service, endpoints: new Map([[workload.uid, endpoint]]) })).toMatchObject({
      vips: ["n/10.1.0.1"],
      cidrVips: [{ network: "", cidr: "10.2.0.0/16" }],
      ports: { 80: 8_080 },
      endpoints: { [workload.uid]: { workloadUid: workload.uid, port: { 80: 8_080 }, status: "Unhealthy" } },
      ipFamilies: "Dual",
      canonical: true,
      visibility: "Public",
    });
  });

  test("certificates: the state of each, no keys, sorted", async () => {
    const dump = await dumpCertificates(
      new Map([["spiffe://td/ns/b/sa/b", { at: "initializing", priority: "realTime" } as const]]),
    );
    expect(dump).toEqual([{ identity: "spiffe://td/ns/b/sa/b", state: "Initializing", certChain: [], rootCerts: [] }]);
  });

  test("has every top-level key", async () => {
    const { state } = open();
    const config = await readConfig({ env: {}, cpuCount: 1, readFile: () => undefined });
    const dump = await dumpAll({
      config,
      state,
      certificates: { states: () => new Map() },
      localConfig: undefined,
      pods: new Map([["uid", { state: "Pending", info: { name: "x", namespace: "a", serviceAccount: "b" } }]]),
      version: {},
    });
    expect(Object.keys(dump).sort()).toEqual([
      "certificates",
      "config",
      "policies",
      "services",
      "stagedServices",
      "staticConfig",
      "version",
      "workloadState",
      "workloads",
    ]);
    expect(dump["workloadState"]).toEqual({
      uid: { state: "Pending", info: { name: "x", namespace: "a", serviceAccount: "b" } },
    });
  });
});

describe("hostname resolver", () => {
  test("asks once for both families, keeps answers for their TTL, and shares a question", async () => {
    const clock = new FakeClock();
    let asked = 0;
    const resolve = openHostnameResolver(clock, {
      resolve4: () => Promise.resolve([{ address: "10.0.0.1", ttl: (asked++, 30) }]),
      resolve6: () => Promise.reject(new Error("no AAAA")),
    });
    const [first, second] = await Promise.all([resolve("vm"), resolve("vm")]);
    expect([first, second, asked]).toEqual([["10.0.0.1"], ["10.0.0.1"], 1]);
    await clock.advance(29_999);
    await resolve("vm");
    expect(asked).toBe(1);
    await clock.advance(1);
    await resolve("vm");
    expect(asked).toBe(2);
  });

  test("fails where neither family answers", async () => {
    const fail = () => Promise.reject(new Error("NXDOMAIN"));
    await expect(openHostnameResolver(new FakeClock(), { resolve4: fail, resolve6: fail })("x")).rejects.toThrow(
      "NXDOMAIN",
    );
  });
});

test("X2 on demand, names are asked for that a decision needs and does not have", async () => {
  const { state } = open();
  const asked: string[] = [];
  const prepare = prepareOnDemand(state.workloads, "", (name) => {
    asked.push(name);
    if (name === "/10.0.0.5") {
      const waypoint = {
        destination: { kind: "hostname", namespace: "ns", hostname: "wp" },
        hboneMtlsPort: 15_008,
      } as const;
      state.applyAddresses({ workloads: [workloadOf("w", { addresses: ["10.0.0.5"], waypoint })] });
    }
    return Promise.resolve();
  });
  await prepare({ source: workloadOf("c"), peerIp: ip("10.0.0.1"), target: { ip: ip("10.0.0.5"), port: 80 } });
  expect(asked).toEqual(["/10.0.0.5", "ns/wp"]);
});
