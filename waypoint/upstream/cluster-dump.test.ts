import { expect, test } from "@jest/globals";
import { Cluster_DiscoveryType } from "#shared/proto/gen/envoy/config/cluster/v3/cluster_pb.js";
import { HealthStatus } from "#shared/proto/gen/envoy/config/core/v3/health_check_pb.js";
import { clusterGauges, dumpClusters } from "./cluster-dump.ts";
import { ClusterSet } from "./cluster-set.ts";
import { clusterResource, clusterTools, lbEndpoint } from "./testing.ts";

test("says what hosts are doing, and how near a cluster is to its limits", () => {
  const set = new ClusterSet(clusterTools());
  const draining = lbEndpoint("10.0.0.2:80", { healthStatus: HealthStatus.DRAINING, loadBalancingWeight: 3 });
  const cluster = clusterResource({
    name: "c",
    clusterDiscoveryType: { case: "type", value: Cluster_DiscoveryType.STATIC },
    outlierDetection: { consecutive5xx: 1, maxEjectionPercent: 100 },
    circuitBreakers: { thresholds: [{ maxRequests: 1 }] },
    loadAssignment: {
      clusterName: "c",
      endpoints: [{ locality: { zone: "z" }, lbEndpoints: [lbEndpoint("10.0.0.1:80"), draining] }],
    },
  });
  expect(set.stageClusters([cluster], [])).toEqual([]);
  const found = set.get("c");
  const pick = found?.pick({ overrideHost: "10.0.0.1:80" });
  if (found === undefined || pick?.kind !== "host") throw new TypeError("no host");
  found.admitRequest();
  found.report(pick.host, { kind: "answered", status: 500 });
  const lines = dumpClusters(set.values()).split("\n");
  expect(lines).toEqual(
    expect.arrayContaining([
      "c::default_priority::max_requests::1",
      "c::high_priority::max_requests::1024",
      "c::outlier::ejections_enforced_consecutive_5xx::1",
      "c::10.0.0.1:80::rq_total::1",
      "c::10.0.0.1:80::rq_error::1",
      "c::10.0.0.1:80::health_flags::/failed_outlier_check",
      "c::10.0.0.1:80::zone::z",
      "c::10.0.0.2:80::health_flags::/eds_status_draining/failed_eds_health",
      "c::10.0.0.2:80::weight::3",
    ]),
  );
  const gauges = clusterGauges(found);
  expect(
    ["membership_total", "membership_healthy", "upstream_rq_active", "circuit_breakers.default.rq_open"].map((name) =>
      gauges.get(name),
    ),
  ).toEqual([2, 0, 1, 1]);
  expect(gauges.get("outlier_detection.ejections_active")).toBe(1);
});

test("nothing is an empty text", () => {
  expect(dumpClusters([])).toBe("");
});
