/** What the proxy itself counts beside traffic: clusters, rate limits, authorization. Read when somebody looks. */
import type { Family, MetricsRegistry, Sample } from "#shared/observe/metrics.ts";
import { rbacSeries } from "#waypoint/layers/rbac/rbac-counts.ts";
import { rateLimitSeries, type RateLimitResult } from "#waypoint/layers/rate-limit/rate-limit-counts.ts";
import { clusterGauges } from "#waypoint/upstream/cluster-dump.ts";
import type { UpstreamCluster } from "#waypoint/upstream/upstream-cluster.ts";

export interface ClusterList {
  values(): Iterable<UpstreamCluster>;
}

const readFamily = (
  type: "counter" | "gauge",
  name: string,
  help: string,
  samples: () => readonly Sample[],
): Family => ({ name, help, type, snapshot: () => ({ name, help, type, samples: samples() }) });

const sample = (labels: Sample["labels"], value: number): Sample => ({ suffix: "", labels, value });

export function observeProxy(registry: MetricsRegistry, clusters: ClusterList): void {
  registry.add(
    readFamily("counter", "istio_rate_limit_requests", "The total number of requests that a limit counted", () =>
      [...rateLimitSeries()].flatMap(({ policy, limit, results }) =>
        (Object.keys(results) as RateLimitResult[])
          .filter((result) => results[result] > 0)
          .map((result) =>
            sample(
              [
                ["policy", policy],
                ["limit", limit],
                ["result", result],
              ],
              results[result],
            ),
          ),
      ),
    ),
  );
  registry.add(
    readFamily(
      "counter",
      "istio_rate_limit_evictions",
      "The total number of keys of a limit that made room for others",
      () =>
        [...rateLimitSeries()].map(({ policy, limit, evictions }) =>
          sample(
            [
              ["policy", policy],
              ["limit", limit],
            ],
            evictions,
          ),
        ),
    ),
  );
  registry.add(
    readFamily("gauge", "istio_rate_limit_keys", "Keys of a limit that are counted at the moment", () =>
      [...rateLimitSeries()].map(({ policy, limit, keys }) =>
        sample(
          [
            ["policy", policy],
            ["limit", limit],
          ],
          keys,
        ),
      ),
    ),
  );
  registry.add(
    readFamily("counter", "ambit_authorization_verdicts", "The total number of verdicts of authorization filters", () =>
      [...rbacSeries()].map(({ result, policy, count }) =>
        sample(
          [
            ["result", result],
            ["policy", policy],
          ],
          count,
        ),
      ),
    ),
  );
  for (const family of clusterFamilies(clusters)) registry.add(family);
}

/** As Envoy names them in Prometheus' form; dots become underscores. */
const clusterNumbers = [
  "membership_total",
  "membership_healthy",
  "membership_degraded",
  "outlier_detection.ejections_active",
  "upstream_cx_active",
  "upstream_cx_total",
  "upstream_cx_connect_fail",
  "upstream_cx_connect_timeout",
  "upstream_cx_overflow",
  "upstream_rq_active",
  "upstream_rq_pending_active",
  "upstream_rq_pending_overflow",
  "upstream_rq_retry_overflow",
  "circuit_breakers.default.cx_open",
  "circuit_breakers.default.rq_pending_open",
  "circuit_breakers.default.rq_open",
  "circuit_breakers.default.rq_retry_open",
] as const;
const growing: ReadonlySet<string> = new Set(["upstream_cx_total"]);

type Gauges = readonly (readonly [cluster: string, gauges: ReadonlyMap<string, number>])[];

/** One look at all clusters serves all families of a scrape. Milliseconds. */
const lookLastsMs = 100;

function readOnce(clusters: ClusterList): () => Gauges {
  let lookedAtMs = -Infinity;
  let seen: Gauges = [];
  return () => {
    const nowMs = performance.now();
    if (nowMs - lookedAtMs > lookLastsMs) {
      lookedAtMs = nowMs;
      seen = [...clusters.values()].map((cluster) => [cluster.name, clusterGauges(cluster)] as const);
    }
    return seen;
  };
}

function clusterFamilies(clusters: ClusterList): readonly Family[] {
  const read = readOnce(clusters);
  return clusterNumbers.map((number) => {
    const isCounter = growing.has(number);
    const base = `envoy_cluster_${number.replaceAll(".", "_")}`;
    const name = isCounter ? base.replace(/_total$/, "") : base;
    const help = `Envoy's statistic ${number} of each cluster`;
    return readFamily(isCounter ? "counter" : "gauge", name, help, () =>
      [...read()].map(([cluster, gauges]) => sample([["cluster_name", cluster]], gauges.get(number) ?? 0)),
    );
  });
}
