import { describe, expect, test } from "@jest/globals";
import { maxPodsPerNode, planNetwork, PodAddresses, type NodePlan } from "./plan.ts";
import { ServiceAddresses } from "./service-addresses.ts";

describe("planNetwork", () => {
  test("gives every node addresses of its own, zones in turn", () => {
    const { nodes } = planNetwork({ nodes: 3, ipv6: true });
    expect(nodes.map(({ name, zone, address, podCidr }) => [name, zone, address.v4, podCidr.v4, podCidr.v6])).toEqual([
      ["node-1", "sandbox-a", "172.18.0.2", "10.244.1.0/24", "fd00:10:244:1::/64"],
      ["node-2", "sandbox-b", "172.18.0.3", "10.244.2.0/24", "fd00:10:244:2::/64"],
      ["node-3", "sandbox-a", "172.18.0.4", "10.244.3.0/24", "fd00:10:244:3::/64"],
    ]);
  });

  test("leaves IPv6 out where it is not wanted", () => {
    const plan = planNetwork({ nodes: 1, ipv6: false });
    expect(JSON.stringify(plan)).not.toContain("::");
  });
});

describe("PodAddresses", () => {
  const [node] = planNetwork({ nodes: 1, ipv6: true }).nodes as [NodePlan];

  test("hands an address out again only after all others", () => {
    const addresses = new PodAddresses(node);
    const first = addresses.take();
    expect(first.address).toEqual({ v4: "10.244.1.2", v6: "fd00:10:244:1::2" });
    addresses.release(first.host);
    expect(addresses.take().address.v4).toBe("10.244.1.3");
    for (let taken = 1; taken < 252; taken++) addresses.release(addresses.take().host);
    expect(addresses.take().address.v4).toBe("10.244.1.2");
  });

  test("a full node says so", () => {
    const addresses = new PodAddresses(node);
    for (let taken = 0; taken < maxPodsPerNode; taken++) addresses.take();
    expect(() => addresses.take()).toThrow("node-1 has no free pod address");
  });
});

describe("ServiceAddresses", () => {
  test("the first is the API server's; the low ones are left to those that ask by number", () => {
    const addresses = new ServiceAddresses(true);
    expect(addresses.allocateAddress("IPv4")).toBe("10.96.0.1");
    expect(addresses.allocateAddress("IPv4")).toBe("10.96.1.0");
    expect(addresses.allocateAddress("IPv4", "10.96.0.10")).toBe("10.96.0.10");
    expect(addresses.allocateAddress("IPv6", "fd00:10:96::a")).toBe("fd00:10:96::a");
  });

  // prettier-ignore
  test.each([ // asked                          why
    ["IPv4", "10.96.0.0",                       "the network itself"],
    ["IPv4", "10.97.0.5",                       "another range"],
    ["IPv4", "10.96.0.300",                     "no address"],
    ["IPv6", "fd00:10:97::5",                   "another range"],
  ] as const)("refuses %s %s: %s", (family, address, _why) => {
    expect(new ServiceAddresses(true).allocateAddress(family, address)).toBeUndefined();
  });

  test("refuses what is taken, until it is released", () => {
    const addresses = new ServiceAddresses(false);
    expect(addresses.allocateAddress("IPv4", "10.96.0.7")).toBe("10.96.0.7");
    expect(addresses.allocateAddress("IPv4", "10.96.0.7")).toBeUndefined();
    addresses.releaseAddress("10.96.0.7");
    expect(addresses.allocateAddress("IPv4", "10.96.0.7")).toBe("10.96.0.7");
    expect(addresses.allocateAddress("IPv6")).toBeUndefined();
    expect(addresses.allocateNodePort(30_080)).toBe(30_080);
    expect(addresses.allocateNodePort(30_080)).toBeUndefined();
    expect(addresses.allocateNodePort(80)).toBeUndefined();
  });
});
