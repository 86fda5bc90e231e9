import { describe, expect, test } from "@jest/globals";
import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  type ClusterSchema,
} from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#shared/proto/gen/envoy/config/core/v3/health_check_pb.js";
import { HttpProtocolOptionsSchema } from "#shared/proto/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import { UpstreamTlsContextSchema } from "#shared/proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import { ClusterSet } from "./cluster-set.ts";
import type { Pick } from "./clusters.ts";
import type { Endpoint } from "./endpoint.ts";
import {
  assignmentResource,
  clusterResource,
  clusterTools,
  lbEndpoint,
  type FakePool,
  type LbEndpointInit,
} from "./testing.ts";

type Init = Extract<MessageInitShape<typeof ClusterSchema>, { readonly $typeName?: never }>;

const eds = (init: Init = {}) =>
  clusterResource({
    name: "c",
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: { configSourceSpecifier: { case: "ads", value: {} } } },
    ...init,
  });
const endpoints = (lbEndpoints: (string | LbEndpointInit)[], clusterName = "c") =>
  assignmentResource({
    clusterName,
    endpoints: [{ lbEndpoints: lbEndpoints.map((each) => (typeof each === "string" ? lbEndpoint(each) : each)) }],
  });

function setUp() {
  const tools = clusterTools();
  const wanted: string[][] = [];
  const set = new ClusterSet({ ...tools, onWanted: () => wanted.push([...set.wantedAssignments]) });
  return { ...tools, set, wanted };
}

const keyOf = (pick: Pick | undefined): string =>
  pick?.kind === "host" ? pick.host.key : (pick?.kind ?? "no cluster");
const hostOf = (pick: Pick | undefined): Endpoint => {
  if (pick?.kind !== "host") throw new TypeError(`picked ${pick?.kind}`);
  return pick.host as Endpoint;
};
const hostsOf = (set: ClusterSet, name = "c") => set.get(name)?.hosts.map(({ key }) => key) ?? [];

describe("clusters and their endpoints", () => {
  test("requests wait for the first endpoints", async () => {
    const { set, wanted } = setUp();
    expect(set.stageClusters([eds()], [])).toEqual([]);
    expect(wanted).toEqual([["c"]]);
    const pick = set.get("c")?.pick({});
    expect(pick?.kind).toBe("wait");
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    if (pick?.kind === "wait") await pick.ready;
    expect(keyOf(set.get("c")?.pick({}))).toBe("10.0.0.1:80");
  });

  test("but not for ever", async () => {
    const { set, clock } = setUp();
    set.stageClusters([eds()], []);
    const pick = set.get("c")?.pick({});
    await clock.advance(15_000);
    if (pick?.kind === "wait") await pick.ready;
    expect(set.get("c")?.pick({})).toEqual({ kind: "none", why: "the cluster has no endpoints" });
  });

  test("hosts stay the same objects while their address does", () => {
    const { set, pools } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const host = hostOf(set.get("c")?.pick({}));
    host.active = 3;
    set.applyAssignments([endpoints(["10.0.0.2:80", lbEndpoint("10.0.0.1:80", { loadBalancingWeight: 5 })])], []);
    expect(set.get("c")?.hosts).toContain(host);
    expect(host).toMatchObject({ active: 3, weight: 5 });
    set.applyAssignments([endpoints(["10.0.0.2:80"])], []);
    expect(hostsOf(set)).toEqual(["10.0.0.2:80"]);
    expect(pools).toEqual([]);
  });

  test("a host that is gone leaves its pools", () => {
    const { set, pools } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    const host = hostOf(cluster?.pick({}));
    void cluster?.connect(host, new AbortController().signal).catch(() => {});
    set.applyAssignments([endpoints(["10.0.0.2:80"])], []);
    expect(pools[0]?.removed).toEqual([host]);
  });

  test("health as the control plane says it", () => {
    const { set } = setUp();
    set.stageClusters([eds({ commonLbConfig: { healthyPanicThreshold: { value: 0 } } })], []);
    const unhealthy = lbEndpoint("10.0.0.1:80", { healthStatus: HealthStatus.UNHEALTHY });
    const draining = lbEndpoint("10.0.0.2:80", { healthStatus: HealthStatus.DRAINING });
    set.applyAssignments([endpoints([unhealthy, draining])], []);
    expect(set.get("c")?.pick({})).toEqual({ kind: "none", why: "no endpoint is healthy" });
    set.applyAssignments([endpoints([unhealthy, "10.0.0.2:80"])], []);
    expect(keyOf(set.get("c")?.pick({}))).toBe("10.0.0.2:80");
  });

  test("a persistent session finds its host where the cluster allows its state", () => {
    const { set } = setUp();
    const statuses = [HealthStatus.HEALTHY, HealthStatus.DRAINING];
    set.stageClusters(
      [eds({ commonLbConfig: { overrideHostStatus: { statuses }, healthyPanicThreshold: { value: 0 } } })],
      [],
    );
    const draining = lbEndpoint("10.0.0.2:80", { healthStatus: HealthStatus.DRAINING });
    const unhealthy = lbEndpoint("10.0.0.3:80", { healthStatus: HealthStatus.UNHEALTHY });
    set.applyAssignments([endpoints(["10.0.0.1:80", draining, unhealthy])], []);
    const pick = (overrideHost: string) => keyOf(set.get("c")?.pick({ overrideHost }));
    expect([pick("10.0.0.2:80"), pick("10.0.0.3:80"), pick("10.0.0.9:80")]).toEqual([
      "10.0.0.2:80",
      "10.0.0.1:80",
      "10.0.0.1:80",
    ]);
  });

  test("tunnels to endpoints of the mesh", () => {
    const { set } = setUp();
    set.stageClusters([eds()], []);
    const address = {
      address: {
        case: "envoyInternalAddress",
        value: {
          addressNameSpecifier: { case: "serverListenerName", value: "connect_originate" },
          endpointId: "10.0.0.1:80",
        },
      },
    } as const;
    const metadata = { filterMetadata: { "envoy.filters.listener.original_dst": { local: "10.0.0.1:8080" } } };
    const endpoint = { hostIdentifier: { case: "endpoint", value: { address } }, metadata } as const;
    expect(set.applyAssignments([endpoints([endpoint])], [])).toEqual([]);
    expect(hostOf(set.get("c")?.pick({}))).toMatchObject({
      key: "envoy://connect_originate/10.0.0.1:80",
      address: { kind: "hbone", ip: "10.0.0.1", port: 8080 },
    });
  });

  test("several clusters may want one assignment", () => {
    const { set, wanted } = setUp();
    const shared = { edsConfig: { configSourceSpecifier: { case: "ads", value: {} } }, serviceName: "shared" } as const;
    set.stageClusters([eds({ name: "a", edsClusterConfig: shared }), eds({ name: "b", edsClusterConfig: shared })], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"], "shared")], []);
    expect([hostsOf(set, "a"), hostsOf(set, "b")]).toEqual([["10.0.0.1:80"], ["10.0.0.1:80"]]);
    set.stageClusters([], ["a"]);
    expect(wanted).toEqual([["shared"]]);
    set.stageClusters([], ["b"]);
    expect(wanted).toEqual([["shared"], []]);
  });
});

describe("updates", () => {
  test("a removed cluster is gone for new requests and drains", () => {
    const { set, pools, clock } = setUp();
    set.stageClusters([eds({ outlierDetection: {} })], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    void cluster?.connect(hostOf(cluster.pick({})), new AbortController().signal).catch(() => {});
    set.stageClusters([], ["c"]);
    expect(set.get("c")).toBeUndefined();
    expect(set.wantedAssignments.size).toBe(0);
    expect(pools[0]).toMatchObject({ drains: 1, disposals: 0 });
    expect(clock.pending).toBe(0);
  });

  test("a changed cluster keeps hosts, endpoints and what is in flight; connections are made anew", () => {
    const { set, pools } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    const host = hostOf(cluster?.pick({}));
    const permit = cluster?.admitRequest();
    void cluster?.connect(host, new AbortController().signal).catch(() => {});
    set.stageClusters(
      [eds({ circuitBreakers: { thresholds: [{ maxRequests: 1 }] }, lbPolicy: Cluster_LbPolicy.RANDOM })],
      [],
    );
    expect(set.get("c")).toBe(cluster);
    expect(hostOf(cluster?.pick({}))).toBe(host);
    expect(cluster?.admitRequest()).toBeUndefined();
    permit?.release();
    expect(cluster?.admitRequest()).toBeDefined();
    expect(pools[0]?.drains).toBe(1);
  });

  test("the same resource again changes nothing", () => {
    const { set, pools, wanted } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    void cluster?.connect(hostOf(cluster.pick({})), new AbortController().signal).catch(() => {});
    set.stageClusters([eds()], []);
    expect([pools[0]?.drains, wanted.length]).toEqual([0, 1]);
  });

  test("what is wrong is refused with every reason, and the last good one serves on", () => {
    const { set } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const bad = eds({ connectTimeout: {}, preconnectPolicy: {} });
    expect(set.stageClusters([bad, eds({ name: "other" })], [])).toEqual([
      { name: "c", reason: "preconnect_policy: is not supported; connect_timeout: is not above 0" },
    ]);
    expect(keyOf(set.get("c")?.pick({}))).toBe("10.0.0.1:80");
    expect(set.get("other")).toBeDefined();
    expect(
      set.applyAssignments([endpoints(["nonsense:80", lbEndpoint("10.0.0.1:80", { loadBalancingWeight: 0 })])], []),
    ).toEqual([
      {
        name: "c",
        reason:
          'endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "nonsense" is not an IP address; ' +
          "endpoints[0].lb_endpoints[1].load_balancing_weight: is not above 0",
      },
    ]);
    expect(hostsOf(set)).toEqual(["10.0.0.1:80"]);
  });

  test("bytes that are no cluster are refused", () => {
    const { set } = setUp();
    const [rejection] = set.stageClusters([{ ...eds(), value: Uint8Array.of(255, 255) }], []);
    expect(rejection?.reason).toMatch(/^Cannot read the cluster: /);
    expect(set.applyAssignments([{ ...eds(), value: Uint8Array.of(255) }], [])[0]?.reason).toMatch(
      /^Cannot read the load/,
    );
    expect(set.stageClusters([{ ...eds(), name: "d" }], [])[0]?.reason).toBe(
      'name: "c" is not the name of the resource',
    );
    expect(set.stageClusters([eds(), eds()], [])).toEqual([{ name: "c", reason: "stands twice in one response" }]);
  });

  test("endpoints that come late for a cluster that is gone are dropped; the cluster asks anew when it is back", () => {
    const { set, wanted } = setUp();
    set.stageClusters([eds()], []);
    set.stageClusters([], ["c"]);
    expect(set.applyAssignments([endpoints(["10.0.0.1:80"])], [])).toEqual([]);
    set.stageClusters([eds()], []);
    expect(set.get("c")?.pick({}).kind).toBe("wait");
    expect(wanted).toEqual([["c"], [], ["c"]]);
  });

  test("removed endpoints leave a cluster without hosts", () => {
    const { set } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    set.applyAssignments([], ["c"]);
    expect(keyOf(set.get("c")?.pick({}))).toBe("none");
  });

  test("a cluster that wants other endpoints serves the old ones until they come", () => {
    const { set } = setUp();
    set.stageClusters([eds()], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const other = { edsConfig: { configSourceSpecifier: { case: "ads", value: {} } }, serviceName: "other" } as const;
    set.stageClusters([eds({ edsClusterConfig: other })], []);
    expect(keyOf(set.get("c")?.pick({}))).toBe("10.0.0.1:80");
    set.applyAssignments([endpoints(["10.0.0.2:80"], "other")], []);
    expect(keyOf(set.get("c")?.pick({}))).toBe("10.0.0.2:80");
  });

  test("ejected hosts come back with a configuration that ejects nobody", () => {
    const { set } = setUp();
    const never = { healthyPanicThreshold: { value: 0 } };
    const outlierDetection = { consecutive5xx: 1, maxEjectionPercent: 100 };
    set.stageClusters([eds({ outlierDetection, commonLbConfig: never })], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    cluster?.report(hostOf(cluster.pick({})), { kind: "answered", status: 500 });
    expect(keyOf(cluster?.pick({}))).toBe("none");
    set.stageClusters([eds({ commonLbConfig: never })], []);
    expect(keyOf(cluster?.pick({}))).toBe("10.0.0.1:80");
  });
});

describe("connections", () => {
  const connectTo = async (set: ClusterSet, pool: () => FakePool | undefined, outcome: "fails" | "stands") => {
    const cluster = set.get("c");
    const host = hostOf(cluster?.pick({}));
    const connected = cluster?.connect(host, new AbortController().signal);
    const made = pool();
    if (outcome === "stands" && made !== undefined) made.connect = () => Promise.resolve({} as never);
    await connected?.catch(() => {});
    return host;
  };

  test("their failures count against a host", async () => {
    const { set, pools } = setUp();
    set.stageClusters([eds({ outlierDetection: { consecutive5xx: 2, maxEjectionPercent: 100 } })], []);
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const host = await connectTo(set, () => pools[0], "fails");
    expect(host.stats).toMatchObject({ requests: 1, connectFailures: 1, failed: 1 });
    await connectTo(set, () => pools[0], "fails");
    expect(host.outlier.isEjected).toBe(true);
  });

  test("one pool for everything, but for the priority and the server name that a request asks for", () => {
    const { set, pools } = setUp();
    const options = create(HttpProtocolOptionsSchema, {
      upstreamHttpProtocolOptions: { autoSni: true, autoSanValidation: true },
      upstreamProtocolOptions: {
        case: "explicitHttpConfig",
        value: { protocolConfig: { case: "httpProtocolOptions", value: {} } },
      },
    });
    const tls = anyPack(UpstreamTlsContextSchema, create(UpstreamTlsContextSchema, {}));
    set.stageClusters(
      [
        eds({
          transportSocket: { name: "tls", configType: { case: "typedConfig", value: tls } },
          typedExtensionProtocolOptions: {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyPack(HttpProtocolOptionsSchema, options),
          },
        }),
      ],
      [],
    );
    set.applyAssignments([endpoints(["10.0.0.1:80"])], []);
    const cluster = set.get("c");
    const host = hostOf(cluster?.pick({}));
    const send = (authority: string, priority: "default" | "high" = "default") => {
      const head = { method: "GET", scheme: "http", authority, path: "/", headers: new Headers() };
      expect(() => cluster?.send(host, head, true, {} as never, { downstreamProtocol: "HTTP/1.1", priority })).toThrow(
        "no test",
      );
    };
    for (const authority of ["a.example.com", "a.example.com:8443", "A.example.com", "10.1.2.3", "[fd00::1]:80"])
      send(authority);
    send("a.example.com", "high");
    expect(pools.map(({ options }) => options.transport.tls?.serverName)).toEqual([
      "a.example.com",
      "",
      "",
      "a.example.com",
    ]);
    const [names] = pools[0]?.options.transport.tls?.subjectAltNames ?? [];
    expect([names?.matches("*.example.com"), names?.matches("b.example.com")]).toEqual([true, false]);
  });
});
