import { describe, expect, test } from "@jest/globals";
import { meshConfig, namespace, object, pod, serve, service, serviceEntry } from "./small-world.ts";

const svc = "shop/cart.shop.svc.cluster.local";
const distribution = (text: string) => ({ annotations: { "networking.istio.io/traffic-distribution": text } });
const zone = { routingPreference: ["NETWORK", "REGION", "ZONE"], mode: "FAILOVER" };
const node = { routingPreference: ["NETWORK", "REGION", "ZONE", "SUBZONE", "NODE"], mode: "FAILOVER" };
const local = { routingPreference: ["NODE"], mode: "STRICT" };

describe("load balancing of a Service", () => {
  test.each([
    [{}, {}, {}, undefined],
    [{ trafficDistribution: "PreferClose" }, {}, {}, zone],
    [{ trafficDistribution: "PreferSameZone" }, distribution("PreferSameNode"), {}, zone],
    [{ trafficDistribution: "PreferSameNode" }, {}, {}, node],
    [{ internalTrafficPolicy: "Local", trafficDistribution: "PreferClose" }, {}, {}, local],
    [{}, distribution("preferclose"), {}, zone],
    [{}, distribution("PreferSameNode"), distribution("PreferClose"), node],
    [{}, {}, distribution("PREFERSAMEZONE"), zone],
    [{}, distribution("Any"), distribution("PreferClose"), undefined],
    [{}, distribution(""), distribution("PreferClose"), zone],
    [{ publishNotReadyAddresses: true }, {}, {}, { healthPolicy: "ALLOW_ALL" }],
    [{ publishNotReadyAddresses: true }, distribution("PreferClose"), {}, { ...zone, healthPolicy: "ALLOW_ALL" }],
    [
      { publishNotReadyAddresses: true, internalTrafficPolicy: "Local" },
      {},
      {},
      { ...local, healthPolicy: "ALLOW_ALL" },
    ],
  ])("%j with %j in a namespace with %j: %j", (spec, own, inherited, expected) => {
    const served = serve([namespace("shop", inherited), service("shop/cart", spec, own)]);
    expect(served.service(svc)["loadBalancing"]).toEqual(expected);
  });
});

describe("load balancing of a ServiceEntry", () => {
  test.each([
    ["STATIC", {}, {}, undefined],
    ["DNS", distribution("PreferClose"), {}, zone],
    ["STATIC", {}, distribution("PreferSameNode"), node],
    ["NONE", distribution("PreferClose"), {}, { mode: "PASSTHROUGH", healthPolicy: "ALLOW_ALL" }],
  ])("%s with %j in a namespace with %j: %j", (resolution, own, inherited, expected) => {
    const served = serve([namespace("shop", inherited), serviceEntry("shop/a", { resolution }, own)]);
    expect(served.service("shop/a.example.com")["loadBalancing"]).toEqual(expected);
  });
});

describe("addresses", () => {
  test.each([
    [{ clusterIP: "None", selector: { a: "b" } }, undefined, "IPV4_ONLY"],
    [{ clusterIP: "None" }, undefined, "DUAL"],
    [{ clusterIP: "fd00::1" }, [{ address: "/QAAAAAAAAAAAAAAAAAAAQ==" }], "IPV6_ONLY"],
    [{ clusterIP: "10.0.0.1" }, [{ address: "CgAAAQ==" }], "IPV4_ONLY"],
  ])("of a Service: %j", (spec, addresses, ipFamilies) => {
    const found = serve([service("shop/cart", spec)]).service(svc);
    expect(found["addresses"]).toEqual(addresses);
    expect(found["ipFamilies"]).toBe(ipFamilies);
  });

  test("of Services that name none: each its own, the same every time", () => {
    const spec = { clusterIP: undefined };
    const objects = [service("shop/a", spec), service("shop/b", { ...spec, ipFamilyPolicy: "PreferDualStack" })];
    const read = () =>
      ["a", "b"].map((name) => serve(objects).service(`shop/${name}.shop.svc.cluster.local`)["addresses"]);
    const [[a], b] = read() as [[unknown], unknown[]];
    expect(b).toHaveLength(2);
    expect(b).not.toContainEqual(a);
    expect(read()).toEqual([[a], b]);
  });

  test.each([
    [
      ["10.0.0.1/32", "fd00::1/128"],
      [{ address: "CgAAAQ==" }, { address: "/QAAAAAAAAAAAAAAAAAAAQ==" }],
    ],
    [["10.1.2.3/8"], [{ address: "CgAAAA==", length: 8 }]],
    [["10.1.2.3/0"], [{ address: "AAAAAA==", length: 0 }]],
    [["what", "10.0.0.1/99"], undefined],
  ])("of a ServiceEntry: %j", (addresses, expected) => {
    const served = serve([serviceEntry("shop/a", { addresses })]);
    expect(served.service("shop/a.example.com")["addresses"]).toEqual(expected);
  });
});

describe("automatic addresses", () => {
  const without = { addresses: [], resolution: "DNS" };
  const of = (objects: Parameters<typeof serve>[0], options = {}) =>
    Object.fromEntries(
      serve(objects, options)
        .form.status.filter(({ kind }) => kind === "ServiceEntry")
        .map(({ name, status }) => [name, status.addresses?.map(({ host, value }) => [host, value])]),
    );
  const allocated = (host: string, ...values: readonly string[]) => ({
    status: { addresses: values.map((value) => ({ host, value })) },
  });

  test("are one of each family for each host, and the same in status and service", () => {
    const objects = [serviceEntry("shop/a", { ...without, hosts: ["a.com", "b.com"] })];
    const { a } = of(objects);
    expect(a?.map(([host]) => host)).toEqual(["a.com", "a.com", "b.com", "b.com"]);
    expect(a?.map(([, value]) => value)).toEqual([
      expect.stringMatching(/^240\.240\./),
      expect.stringMatching(/^2001:2:/),
      expect.stringMatching(/^240\.240\./),
      expect.stringMatching(/^2001:2:/),
    ]);
    const [first] = serve(objects).service("shop/a.com")["addresses"] as { address: string }[];
    expect([...Buffer.from(first?.address ?? "", "base64")].join(".")).toBe(a?.[0]?.[1]);
    expect(of(objects)).toEqual({ a });
  });

  test.each([
    [{ ...without, resolution: "NONE" }, {}, {}],
    [{ ...without, addresses: ["240.1.1.1"] }, {}, {}],
    [without, { labels: { "networking.istio.io/enable-autoallocate-ip": "False" } }, {}],
    [without, {}, { autoAllocateIps: false }],
    [{ ...without, hosts: ["*.a.com"] }, {}, {}],
  ])("are not for %j %j %j", (spec, meta, options) => {
    expect(of([serviceEntry("shop/a", spec, meta)], options)["a"]).toBeUndefined();
  });

  test("are for wildcards that a waypoint resolves", () => {
    expect(
      of([serviceEntry("shop/a", { ...without, hosts: ["*.a.com"], resolution: "DYNAMIC_DNS" })])["a"],
    ).toHaveLength(2);
  });

  test("stay as the status has them: of one family, of another range, one for two hosts", () => {
    const kept = (...values: Parameters<typeof allocated>) => ({
      ...serviceEntry("shop/a", { ...without, hosts: ["a.com"] }),
      ...allocated(...values),
    });
    expect(of([kept("a.com", "240.240.7.7")])["a"]).toEqual([["a.com", "240.240.7.7"]]);
    expect(of([kept("a.com", "10.0.0.1")])["a"]).toEqual([["a.com", "10.0.0.1"]]);
    const shared = ["a.com", "b.com"].map((host) => ({ host, value: "240.240.7.7" }));
    const both = {
      ...serviceEntry("shop/a", { ...without, hosts: ["a.com", "b.com"] }),
      status: { addresses: shared },
    };
    expect(of([both])["a"]).toEqual(shared.map(({ host, value }) => [host, value]));
  });

  test("claimed twice belong to the older; the younger gets all of its own anew", () => {
    const entry = (name: string, hosts: readonly string[], creationTimestamp: string) => ({
      ...serviceEntry(`shop/${name}`, { ...without, hosts }, { creationTimestamp }),
      ...allocated(hosts[0] ?? "", "240.240.7.7", "2001:2::77"),
    });
    const found = of([
      entry("young", ["y.com"], "2026-02-01T00:00:00Z"),
      entry("old", ["o.com"], "2026-01-01T00:00:00Z"),
    ]);
    expect(found["old"]?.map(([, value]) => value)).toEqual(["240.240.7.7", "2001:2::77"]);
    const young = found["young"]?.map(([, value]) => value);
    expect(young).toEqual([expect.stringMatching(/^240\.240\./), expect.stringMatching(/^2001:2:/)]);
    expect(young).not.toContain("240.240.7.7");
    expect(young).not.toContain("2001:2::77");
  });

  test("are never those that a user wrote", () => {
    const mine = serviceEntry("shop/mine", { ...without, hosts: ["m.com"], addresses: ["10.9.0.1"] });
    const claimed = {
      ...serviceEntry("shop/a", { ...without, hosts: ["a.com"] }),
      ...allocated("a.com", "10.9.0.1"),
    };
    const options = { autoAllocateIpv4: "10.9.0.0/30" };
    expect(of([claimed, mine], options)["a"]?.map(([, value]) => value)).toContain("10.9.0.2");
    expect(of([claimed, mine], options)["a"]?.map(([, value]) => value)).not.toContain("10.9.0.1");
  });

  test("are taken back from an entry that has its own", () => {
    const entry = { ...serviceEntry("shop/a", { addresses: ["10.0.0.1"] }), ...allocated("a.com", "240.240.7.7") };
    expect(of([entry])["a"]).toEqual([]);
    expect(of([entry], { autoAllocateIps: false })["a"]).toBeUndefined();
  });

  test("never collide, and run out quietly", () => {
    const hosts = Array.from({ length: 20 }, (_, index) => `h${index}.com`);
    const small = of([serviceEntry("shop/a", { ...without, hosts })], { autoAllocateIpv4: "10.9.0.0/28" });
    const v4 = (small["a"] ?? []).map(([, value]) => value ?? "").filter((value) => value.startsWith("10.9."));
    expect(v4).toHaveLength(14);
    expect(new Set(v4).size).toBe(14);
  });
});

describe("equal hostnames", () => {
  const old = { creationTimestamp: "2026-01-01T00:00:00Z" };
  const young = { creationTimestamp: "2026-02-01T00:00:00Z" };
  const hosts = ["a.com"];
  const endpoint = (address: string) => ({ hosts, endpoints: [{ address }] });

  test("in one namespace: the oldest ServiceEntry, whose endpoints alone are published", () => {
    const served = serve([
      serviceEntry("shop/a", endpoint("192.0.2.1"), young),
      serviceEntry("shop/z", endpoint("192.0.2.2"), old),
    ]);
    expect(served.service("shop/a.com")).toMatchObject({ name: "z", canonical: true });
    expect(served.names).toEqual(["Kubernetes/networking.istio.io/ServiceEntry/shop/z/192.0.2.2", "shop/a.com"]);
  });

  test("in one namespace: a Kubernetes Service before any ServiceEntry", () => {
    const served = serve([
      serviceEntry("shop/a", { hosts: ["cart.shop.svc.cluster.local"] }, old),
      service("shop/cart", {}, young),
    ]);
    expect(served.service(svc)).toMatchObject({ name: "cart", canonical: true });
  });

  test("in several namespaces: all are published, the oldest is what others mean", () => {
    const served = serve([serviceEntry("a/x", { hosts }, young), serviceEntry("b/x", { hosts }, old)]);
    expect([served.service("a/a.com")["canonical"], served.service("b/a.com")["canonical"]]).toEqual([undefined, true]);
  });

  test("in several namespaces: a Kubernetes Service is what others mean", () => {
    const served = serve([
      serviceEntry("a/x", { hosts: ["cart.shop.svc.cluster.local"] }, old),
      service("shop/cart", {}, young),
    ]);
    expect(served.service("a/cart.shop.svc.cluster.local")["canonical"]).toBeUndefined();
    expect(served.service(svc)["canonical"]).toBe(true);
  });
});

describe("visibility of ServiceEntries", () => {
  const rules = (text: string) =>
    meshConfig({
      serviceEntryVisibility: {
        defaultVisibility: text,
        policies: [{ visibility: "PUBLIC", matchingRules: [{ namespaceSelector: { matchLabels: { open: "yes" } } }] }],
      },
    });
  const hosts = ["a.com"];
  const open = namespace("open", { labels: { open: "yes" } });

  test.each([
    ["PUBLIC", undefined, "istio.io/VisibilityApplied=True/Public"],
    ["VISIBILITY_UNSPECIFIED", undefined, "istio.io/VisibilityApplied=True/Public"],
    ["NAMESPACE", "NAMESPACE", "istio.io/VisibilityApplied=True/Namespace"],
  ])("%s by default", (text, visibility, condition) => {
    const served = serve([rules(text), namespace("shop"), serviceEntry("shop/a", { hosts })]);
    expect(served.service("shop/a.com")["visibility"]).toBe(visibility);
    expect(served.conditions("ServiceEntry", "shop/a")).toEqual([condition]);
  });

  test("a policy with a rule of an unknown kind is for nobody", () => {
    const served = serve([
      meshConfig({
        serviceEntryVisibility: {
          defaultVisibility: "NAMESPACE",
          policies: [{ visibility: "PUBLIC", matchingRules: [{ hostnameSuffix: ".com" }] }],
        },
      }),
      serviceEntry("shop/a", { hosts }),
    ]);
    expect(served.service("shop/a.com")["visibility"]).toBe("NAMESPACE");
  });

  test("NONE is not published at all", () => {
    const served = serve([
      rules("NONE"),
      serviceEntry("shop/a", { hosts, endpoints: [{ address: "192.0.2.1" }] }),
      pod("shop/p"),
    ]);
    expect(served.names).toEqual(["Kubernetes//Pod/shop/p"]);
    expect(served.conditions("ServiceEntry", "shop/a")).toEqual([]);
  });

  test("an older entry that others cannot see is not what they mean", () => {
    const old = { creationTimestamp: "2020-01-01T00:00:00Z" };
    const served = serve([
      rules("NAMESPACE"),
      open,
      serviceEntry("shop/a", { hosts }, old),
      serviceEntry("open/a", { hosts }),
    ]);
    expect([served.service("shop/a.com")["canonical"], served.service("open/a.com")["canonical"]]).toEqual([
      undefined,
      true,
    ]);
  });

  test("a waypoint of another namespace may not serve what only its own may see", () => {
    const wp = object("gateway.networking.k8s.io/v1", "Gateway", "edge/wp", {
      spec: {
        gatewayClassName: "x",
        listeners: [{ name: "m", port: 15_008, protocol: "HBONE", allowedRoutes: { namespaces: { from: "All" } } }],
      },
      status: { addresses: [{ type: "Hostname", value: "wp.example.com" }] },
    });
    const labels = { "istio.io/use-waypoint": "wp", "istio.io/use-waypoint-namespace": "edge" };
    const served = serve([
      rules("NAMESPACE"),
      open,
      wp,
      serviceEntry("shop/a", { hosts }, { labels }),
      serviceEntry("open/a", { hosts }, { labels }),
    ]);
    expect(served.service("shop/a.com")["waypoint"]).toBeUndefined();
    expect(served.conditions("ServiceEntry", "shop/a")).toContain(
      "istio.io/WaypointBound=False/CrossNamespaceWaypointForbidden",
    );
    expect(served.service("open/a.com")["waypoint"]).toBeDefined();
  });
});

describe("what works with a waypoint only", () => {
  const racing = { annotations: { "istio.io/connect-strategy": "race_first_tcp_connect" } };
  test.each([
    [["*.a.com"], "STATIC", {}, ["istio.io/WaypointMissing=True/NoWaypointForWildcardService"]],
    [["a.com", "*.a.com"], "NONE", racing, ["istio.io/WaypointMissing=True/NoWaypointForRacingConnectStrategy"]],
    [["a.com"], "DNS", racing, ["istio.io/WaypointMissing=True/NoWaypointForRacingConnectStrategy"]],
    [["a.com"], "DNS", { annotations: { "istio.io/connect-strategy": "OTHER" } }, []],
  ])("%j %s %j: %j", (hosts, resolution, meta, expected) => {
    const served = serve([serviceEntry("shop/a", { hosts, resolution }, meta)]);
    expect(served.conditions("ServiceEntry", "shop/a")).toEqual(expected);
  });
});

test("subject alternative names are passed on", () => {
  const served = serve([serviceEntry("shop/a", { subjectAltNames: ["spiffe://x/ns/a/sa/b", "a.com"] })]);
  expect(served.service("shop/a.example.com")["subjectAltNames"]).toEqual(["spiffe://x/ns/a/sa/b", "a.com"]);
});

test("every Istio kind of another revision is passed over, unless this control plane has none", () => {
  const theirs = { labels: { "istio.io/rev": "theirs" } };
  const objects = [serviceEntry("shop/a", {}, theirs)];
  expect(serve(objects).names).toEqual([]);
  expect(serve(objects, { revision: "" }).names).toHaveLength(1);
  expect(serve(objects, { revision: "theirs" }).names).toHaveLength(1);
});
