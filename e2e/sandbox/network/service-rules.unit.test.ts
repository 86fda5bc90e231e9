import { describe, expect, test } from "@jest/globals";
import type { EndpointSlice, Service } from "../kinds.ts";
import { serviceRules } from "./service-rules.ts";
import { collectVips } from "./service-vips.ts";

const metadata = (name: string, labels = {}) => ({
  name,
  namespace: "shop",
  uid: name,
  resourceVersion: "1",
  creationTimestamp: "",
  labels,
});

const service = (spec: Service["spec"]): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: metadata("web"),
  spec,
});
const slice = (addressType: "IPv4" | "IPv6", endpoints: EndpointSlice["endpoints"], port = 8080): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: metadata(`web-${addressType}`, { "kubernetes.io/service-name": "web" }),
  addressType,
  ports: [{ name: "http", port, protocol: "TCP" }],
  ...(endpoints === undefined ? {} : { endpoints }),
});
const at = (ip: string, conditions = {}) => ({ addresses: [ip], conditions });

const web = service({ clusterIPs: ["10.96.1.1", "fd00:10:96::101"], ports: [{ name: "http", port: 80 }] });

describe("collectVips", () => {
  test("each family has the endpoints of its own slices", () => {
    const vips = collectVips([web], [slice("IPv4", [at("10.244.1.2")]), slice("IPv6", [at("fd00:10:244:1::2")])]);
    expect(vips.map(({ ip, endpoints }) => [ip, endpoints])).toEqual([
      ["10.96.1.1", [{ ip: "10.244.1.2", port: 8080 }]],
      ["fd00:10:96::101", [{ ip: "fd00:10:244:1::2", port: 8080 }]],
    ]);
  });

  // prettier-ignore
  test.each([ // endpoints                                                                             chosen                      why
    [[at("1.1.1.1"), at("1.1.1.2", { ready: false })],                                                 ["1.1.1.1"],                "unready ones are left out"],
    [[at("1.1.1.1", { ready: false, serving: true, terminating: true }), at("1.1.1.2")],               ["1.1.1.2"],                "ready ones before those on their way out"],
    [[at("1.1.1.1", { ready: false, serving: true, terminating: true })],                              ["1.1.1.1"],                "better than none"],
    [[at("1.1.1.1", { ready: false, serving: false, terminating: true })],                             [],                         "serves nobody"],
    [[at("1.1.1.1", { ready: false })],                                                                [],                         "not yet"],
  ])("of %j takes %j: %s", (endpoints, chosen) => {
    const [vip] = collectVips([web], [slice("IPv4", endpoints)]);
    expect(vip?.endpoints.map(({ ip }) => ip)).toEqual(chosen);
  });

  test("headless and external services have no address to translate", () => {
    expect(
      collectVips([service({ clusterIPs: ["None"], ports: [{ port: 80 }] }), service({ type: "ExternalName" })], []),
    ).toEqual([]);
  });

  test("other protocols than TCP and UDP are left alone", () => {
    expect(collectVips([service({ clusterIPs: ["10.96.1.1"], ports: [{ port: 80, protocol: "SCTP" }] })], [])).toEqual(
      [],
    );
  });
});

describe("serviceRules", () => {
  const vip = { name: "shop/web:http", ip: "10.96.1.1", protocol: "tcp" as const, port: 80 };

  test("chooses among several endpoints at random and takes a single one as it is", () => {
    const two = serviceRules(
      [
        {
          ...vip,
          endpoints: [
            { ip: "10.244.1.2", port: 8080 },
            { ip: "10.244.2.2", port: 8080 },
          ],
        },
      ],
      { ipv6: false },
    );
    expect(two).toContain("10.96.1.1 . tcp . 80 : goto service-0");
    expect(two).toContain("numgen random mod 2 vmap { 0 : goto endpoint-0-0, 1 : goto endpoint-0-1 }");
    expect(two).toContain("chain endpoint-0-1 { meta l4proto tcp dnat to 10.244.2.2:8080; }");
    expect(two).toContain("10.244.1.2 . 10.244.1.2"); // it may call itself
    const one = serviceRules([{ ...vip, endpoints: [{ ip: "10.244.1.2", port: 8080 }] }], { ipv6: false });
    expect(one).not.toContain("numgen");
  });

  test("a service without endpoints is not translated, and so refused", () => {
    const rules = serviceRules([{ ...vip, endpoints: [] }], { ipv6: false });
    expect(rules).not.toContain("10.96.1.1");
    expect(rules).toContain("ip daddr 10.96.0.0/16 meta l4proto tcp reject with tcp reset");
  });

  test("IPv6 targets are bracketed, in a table of their own", () => {
    const rules = serviceRules(
      [{ ...vip, ip: "fd00:10:96::101", endpoints: [{ ip: "fd00:10:244:1::2", port: 8080 }] }],
      { ipv6: true },
    );
    expect(rules).toContain("table ip6 sandbox_services {");
    expect(rules).toContain("dnat to [fd00:10:244:1::2]:8080");
  });

  test("replaces what was there in one transaction", () => {
    expect(serviceRules([], { ipv6: false })).toMatch(
      /^table ip sandbox_services \{\}\ndelete table ip sandbox_services\n/u,
    );
  });
});
