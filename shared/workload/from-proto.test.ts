import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { AddressSchema } from "#shared/proto/gen/workload/workload_pb.js";
import { addressFromProto } from "./from-proto.ts";
import type { Service, Workload } from "./workload.ts";

type Type = MessageInitShape<typeof AddressSchema>["type"];
type WorkloadInit = Extract<Type, { case: "workload" }>["value"];
type ServiceInit = Extract<Type, { case: "service" }>["value"];

const readWorkload = (value: WorkloadInit) =>
  addressFromProto(create(AddressSchema, { type: { case: "workload", value } }));
const readService = (value: ServiceInit) =>
  addressFromProto(create(AddressSchema, { type: { case: "service", value } }));

function workload(value: WorkloadInit): Workload {
  const read = readWorkload(value);
  if (!read.ok || read.value.kind !== "workload") throw new TypeError(JSON.stringify(read));
  return read.value.workload;
}
function service(value: ServiceInit): Service {
  const read = readService(value);
  if (!read.ok || read.value.kind !== "service") throw new TypeError(JSON.stringify(read));
  return read.value.service;
}

/** An enum's number as it may stand on the wire, known or not. */
const wire = (value: number) => value as never;
const bytes = (...octets: number[]) => Uint8Array.from(octets);
const v6 = (last: number) => Uint8Array.from({ length: 16 }, (_, index) => (index === 15 ? last : 0));

describe("a workload", () => {
  test("that says nothing gets Istio's defaults", () => {
    expect(workload({ uid: "u" })).toEqual({
      uid: "u",
      name: "",
      namespace: "",
      addresses: [],
      hostname: "",
      network: "",
      protocol: "TCP",
      networkMode: "STANDARD",
      trustDomain: "cluster.local",
      serviceAccount: "default",
      identity: "spiffe://cluster.local/ns//sa/default",
      node: "",
      canonicalName: "",
      canonicalRevision: "",
      workloadType: "deployment",
      workloadName: "",
      nativeTunnel: false,
      services: new Map(),
      authorizationPolicies: [],
      healthy: true,
      clusterId: "Kubernetes",
      locality: { region: "", zone: "", subzone: "" },
      capacity: 1,
    });
  });

  test("keeps what it says", () => {
    const read = workload({
      addresses: [bytes(0, 0, 0, 0), bytes(127, 0, 0, 1), v6(1)],
      tunnelProtocol: wire(1),
      networkMode: wire(1),
      status: wire(1),
      workloadType: wire(1),
      capacity: 0,
      applicationTunnel: { protocol: wire(1), port: 0 },
      services: { "ns/svc.example.com": { ports: [{ servicePort: 80, targetPort: 65_536 + 8_080 }] } },
      waypoint: {
        destination: { case: "hostname", value: { namespace: "ns", hostname: "wp" } },
        hboneMtlsPort: 15_008,
      },
      networkGateway: { destination: { case: "address", value: { network: "n", address: bytes(1, 2, 3, 4) } } },
    });
    expect(read).toMatchObject({
      addresses: ["0.0.0.0", "127.0.0.1", "::1"],
      protocol: "HBONE",
      networkMode: "HOST_NETWORK",
      healthy: false,
      workloadType: "cronjob",
      capacity: 0,
      applicationTunnel: { protocol: "PROXY" },
      waypoint: { destination: { kind: "hostname", namespace: "ns", hostname: "wp" }, hboneMtlsPort: 15_008 },
      networkGateway: { destination: { kind: "address", network: "n", ip: "1.2.3.4" }, hboneMtlsPort: 0 },
    });
    expect(read.services).toEqual(new Map([["ns/svc.example.com", new Map([[80, 8_080]])]]));
    expect(read.applicationTunnel).not.toHaveProperty("port");
  });

  // prettier-ignore
  test.each([
    [{ addresses: [bytes()] },                              "addresses[0]: 0 bytes"],
    [{ addresses: [bytes(1, 2, 3, 4), bytes(1, 2, 3)] },    "addresses[1]: 3 bytes"],
    [{ addresses: [new Uint8Array(17)] },                   "addresses[0]: 17 bytes"],
    [{ tunnelProtocol: wire(2) },                                 "tunnel_protocol: 2"],
    [{ tunnelProtocol: wire(77) },                                "tunnel_protocol: 77"],
    [{ networkMode: wire(9) },                                    "network_mode: 9"],
    [{ status: wire(9) },                                         "status: 9"],
    [{ services: { nonamespace: { ports: [] } } },          'services["nonamespace"]'],
    [{ waypoint: { hboneMtlsPort: 1 } },                    "waypoint: neither"],
    [{ networkGateway: { destination: { case: "address", value: { address: bytes(1) } } } }, "network_gateway.address.address: 1 bytes"],
    [{ namespace: "a/b" },                                  'namespace: "a/b"'],
  ] as [WorkloadInit, string][])("is refused with %j, naming the field: %s", (value, mistake) => {
    const read = readWorkload(value);
    expect(read.ok ? [] : read.errors).toEqual([expect.stringContaining(mistake)]);
  });

  test("that is wrong in several ways hears of all of them", () => {
    const read = readWorkload({ status: wire(9), networkMode: wire(9), addresses: [bytes(1)] });
    expect(read.ok ? [] : read.errors).toHaveLength(3);
  });

  test("of an unknown kind counts as a deployment", () => {
    expect(workload({ workloadType: wire(42) }).workloadType).toBe("deployment");
  });
});

describe("a service", () => {
  test("splits its addresses into hosts and ranges", () => {
    const { vips, cidrVips } = service({
      addresses: [
        { network: "n", address: bytes(10, 0, 0, 1) },
        { address: bytes(10, 0, 0, 2), length: 32 },
        { address: v6(1), length: 128 },
        { address: bytes(10, 0, 0, 0), length: 8 },
        { address: v6(0), length: 0 },
      ],
    });
    expect(vips).toEqual([
      { network: "n", ip: "10.0.0.1" },
      { network: "", ip: "10.0.0.2" },
      { network: "", ip: "::1" },
    ]);
    expect(cidrVips).toEqual([
      { network: "", cidr: { base: "10.0.0.0", length: 8 } },
      { network: "", cidr: { base: "::", length: 0 } },
    ]);
  });

  test("keeps SPIFFE names only, and reads its load balancing", () => {
    const read = service({
      subjectAltNames: ["spiffe://td/ns/a/sa/b", "example.com", "spiffe://td/ns/a/sa/b/"],
      loadBalancing: { mode: wire(2), routingPreference: [wire(6), wire(1), wire(2)], healthPolicy: wire(1) },
      ipFamilies: wire(3),
      visibility: wire(7),
    });
    expect(read.subjectAltNames).toEqual(["spiffe://td/ns/a/sa/b"]);
    expect(read.loadBalancing).toEqual({
      mode: "FAILOVER",
      routingPreference: ["NETWORK", "REGION", "ZONE"],
      healthPolicy: "ALLOW_ALL",
    });
    expect(read).toMatchObject({ ipFamilies: "DUAL", visibility: "PUBLIC" });
  });

  // prettier-ignore
  test.each([
    [{ addresses: [{ address: bytes(10, 0, 0, 0), length: 33 }] },  "addresses[0].length: 33"],
    [{ addresses: [{ address: bytes(10), length: 8 }] },            "addresses[0].address: 1 bytes"],
    [{ weightedWaypoints: [{ weight: 1 }] },                        "weighted_waypoints[0].destination: missing"],
    [{ loadBalancing: { routingPreference: [wire(0)] } },                 "load_balancing.routing_preference[0]: 0"],
    [{ loadBalancing: { mode: wire(9) } },                                "load_balancing.mode: 9"],
    [{ loadBalancing: { healthPolicy: wire(9) } },                        "load_balancing.health_policy: 9"],
    [{ ipFamilies: wire(9) },                                             "ip_families: 9"],
  ] as [ServiceInit, string][])("is refused with %j, naming the field: %s", (value, mistake) => {
    const read = readService(value);
    expect(read.ok ? [] : read.errors).toEqual([expect.stringContaining(mistake)]);
  });
});

test("an address that is neither is refused", () => {
  expect(addressFromProto(create(AddressSchema))).toEqual({ ok: false, errors: [expect.stringContaining("neither")] });
});
