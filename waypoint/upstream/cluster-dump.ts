/** What clusters and their hosts are doing now: as text like Envoy's `/clusters`, and as numbers for gauges. */
import type { JsonObject } from "@bufbuild/protobuf";
import { hostPort } from "#shared/net/ip.ts";
import type { EndpointStatus, Endpoint } from "./endpoint.ts";
import type { RoutingPriority } from "./routing-priority.ts";
import type { UpstreamCluster } from "./upstream-cluster.ts";

const priorities: readonly RoutingPriority[] = ["default", "high"];

/** One fact a line: `cluster::subject::name::value`. */
export function dumpClusters(clusters: Iterable<UpstreamCluster>): string {
  const lines: string[] = [];
  for (const cluster of clusters) {
    const { name } = cluster;
    const say = (...parts: readonly (string | number | boolean)[]) => lines.push([name, ...parts].join("::"));
    say("observability_name", cluster.config.statName);
    say("warming", !cluster.isWarm);
    for (const priority of priorities) sayLimits(cluster, priority, say);
    if (cluster.outlier !== undefined) sayOutliers(cluster.outlier, say);
    for (const host of cluster.hosts) for (const [fact, value] of factsOf(host)) say(host.key, fact, value);
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** The same as Envoy's `/clusters?format=json` (`envoy.admin.v3.Clusters`), which istioctl reads. */
export const clusterStatuses = (clusters: Iterable<UpstreamCluster>): JsonObject => ({
  cluster_statuses: [...clusters].map((cluster) => ({
    name: cluster.name,
    observability_name: cluster.config.statName,
    host_statuses: cluster.hosts.map(hostStatus),
  })),
});

const edsStatus: Readonly<Record<EndpointStatus, string>> = {
  unknown: "HEALTHY",
  healthy: "HEALTHY",
  unhealthy: "UNHEALTHY",
  draining: "DRAINING",
  timeout: "TIMEOUT",
  degraded: "DEGRADED",
};

function hostStatus(host: Endpoint): JsonObject {
  const { address, outlier, locality, weight, hostname, priority, stats } = host;
  const { ip, port, kind } = address;
  return {
    address:
      kind === "hbone"
        ? { envoy_internal_address: { server_listener_name: "connect_originate", endpoint_id: hostPort(ip, port) } }
        : { socket_address: { address: ip, port_value: port } },
    stats: Object.entries({
      cx_connect_fail: stats.connectFailures,
      rq_error: stats.failed,
      rq_success: stats.succeeded,
      rq_timeout: stats.timeouts,
      rq_total: stats.requests,
    }).map(([name, value]) => ({ name, value: String(value) })),
    health_status: {
      eds_health_status: edsStatus[host.status],
      ...(outlier.isEjected && { failed_outlier_check: true }),
    },
    weight,
    hostname,
    priority,
    locality: { region: locality.region, zone: locality.zone, sub_zone: locality.subZone },
  };
}

type Say = (...parts: readonly (string | number | boolean)[]) => void;

function sayLimits(cluster: UpstreamCluster, priority: RoutingPriority, say: Say): void {
  const { thresholds, maxRetries } = cluster.breaker(priority);
  const at = `${priority}_priority`;
  say(at, "max_connections", thresholds.maxConnections);
  say(at, "max_pending_requests", thresholds.maxPendingRequests);
  say(at, "max_requests", thresholds.maxRequests);
  say(at, "max_retries", maxRetries);
}

function sayOutliers({ detected, enforced, ejected }: NonNullable<UpstreamCluster["outlier"]>, say: Say): void {
  say("outlier", "ejections_active", ejected);
  for (const [reason, count] of detected) say("outlier", `ejections_detected_${reason}`, count);
  for (const [reason, count] of enforced) say("outlier", `ejections_enforced_${reason}`, count);
}

function factsOf(host: Endpoint): readonly (readonly [string, string | number])[] {
  const { stats, locality, outlier } = host;
  return [
    ["cx_connect_fail", stats.connectFailures],
    ["rq_active", host.active],
    ["rq_error", stats.failed],
    ["rq_success", stats.succeeded],
    ["rq_timeout", stats.timeouts],
    ["rq_total", stats.requests],
    ["hostname", host.hostname],
    ["health_flags", healthFlags(host)],
    ["weight", host.weight],
    ["region", locality.region],
    ["zone", locality.zone],
    ["sub_zone", locality.subZone],
    ["priority", host.priority],
    ["ejections", outlier.ejections],
  ];
}

/** Envoy's words for what keeps a host from load. */
function healthFlags({ status, outlier }: Endpoint): string {
  const flags: string[] = [];
  if (outlier.isEjected) flags.push("/failed_outlier_check");
  if (status === "draining") flags.push("/eds_status_draining");
  if (status === "unhealthy" || status === "draining" || status === "timeout") flags.push("/failed_eds_health");
  if (status === "degraded") flags.push("/degraded_eds_health");
  return flags.length === 0 ? "healthy" : flags.join("");
}

/** Names as in Envoy's statistics below `cluster.<name>.`. */
export function clusterGauges(cluster: UpstreamCluster): ReadonlyMap<string, number> {
  const gauges = new Map<string, number>();
  const { hosts } = cluster;
  gauges.set("membership_total", hosts.length);
  gauges.set("membership_healthy", hosts.filter(({ health }) => health === "healthy").length);
  gauges.set("membership_degraded", hosts.filter(({ health }) => health === "degraded").length);
  gauges.set("outlier_detection.ejections_active", cluster.outlier?.ejected ?? 0);
  for (const priority of priorities) {
    const counts = cluster.pools.counts(priority);
    const breaker = cluster.breaker(priority);
    const { maxConnections, maxPendingRequests, maxRequests } = breaker.thresholds;
    add(gauges, "upstream_cx_active", counts.connections);
    add(gauges, "upstream_cx_total", counts.connectionsMade);
    add(gauges, "upstream_cx_connect_fail", counts.connectFailures);
    add(gauges, "upstream_cx_connect_timeout", counts.connectTimeouts);
    add(gauges, "upstream_cx_overflow", counts.connectionOverflows);
    add(gauges, "upstream_rq_active", breaker.requests);
    add(gauges, "upstream_rq_pending_active", counts.pending);
    add(gauges, "upstream_rq_pending_overflow", counts.pendingOverflows + breaker.overflows.requests);
    add(gauges, "upstream_rq_retry_overflow", breaker.overflows.retries);
    const at = `circuit_breakers.${priority}`;
    gauges.set(`${at}.cx_open`, Number(counts.connections >= maxConnections));
    gauges.set(`${at}.rq_pending_open`, Number(counts.pending >= maxPendingRequests));
    gauges.set(`${at}.rq_open`, Number(breaker.requests >= maxRequests));
    gauges.set(`${at}.rq_retry_open`, Number(breaker.retries >= breaker.maxRetries));
    gauges.set(`${at}.remaining_cx`, Math.max(0, maxConnections - counts.connections));
    gauges.set(`${at}.remaining_pending`, Math.max(0, maxPendingRequests - counts.pending));
    gauges.set(`${at}.remaining_rq`, Math.max(0, maxRequests - breaker.requests));
    gauges.set(`${at}.remaining_retries`, Math.max(0, breaker.maxRetries - breaker.retries));
  }
  return gauges;
}

function add(gauges: Map<string, number>, name: string, value: number): void {
  gauges.set(name, (gauges.get(name) ?? 0) + value);
}
