/** What the process itself reports: build, file descriptors, the control plane's stream, the pods. */
import { readdirSync, readFileSync } from "node:fs";
import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import type { XdsEvent } from "#shared/xds/delta-client.ts";
import type { PodCounts } from "#ztunnel/inpod/pod-manager.ts";

export function registerProcessMetrics(registry: MetricsRegistry, istioVersion: string): void {
  const build = registry.gauge({
    name: "istio_build",
    help: "Istio component build info",
    labels: ["component", "tag"],
  });
  build.series("ztunnel", istioVersion).value = 1;
  registry.observed(
    "gauge",
    { name: "process_open_fds", help: "Number of open file descriptors" },
    () => readdirSync("/proc/self/fd").length,
  );
  registry.observed("gauge", { name: "process_max_fds", help: "Maximum number of file descriptors" }, () => {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return limit === undefined ? undefined : Number(limit);
  });
  registry.observed("gauge", { name: "process_resident_memory_bytes", help: "Resident memory size in bytes" }, () =>
    process.memoryUsage.rss(),
  );
}

/** Counts what happens on the control plane's stream. */
export function xdsMetrics(registry: MetricsRegistry): (event: XdsEvent) => void {
  const terminations = registry.counter({
    name: "istio_xds_connection_terminations",
    help: "The total number of completed connections to xds server (unstable)",
    labels: ["reason"],
  });
  const messages = registry.counter({
    name: "istio_xds_message",
    help: "Total number of messages received (unstable)",
    labels: ["url"],
  });
  const bytes = registry.counter({
    name: "istio_xds_message_bytes",
    help: "Total number of bytes received (unstable)",
    labels: ["url"],
  });
  return (event) => {
    switch (event.kind) {
      case "connected":
        return;
      case "message":
        messages.series(event.typeUrl).value += 1;
        bytes.series(event.typeUrl).value += event.bytes;
        return;
      case "terminated":
        terminations.series(event.reason).value += 1;
        return;
    }
  };
}

export function registerPodMetrics(registry: MetricsRegistry, counts: () => PodCounts): void {
  registry.observed(
    "gauge",
    {
      name: "workload_manager_active_proxy_count",
      help: "The total number current workloads with active proxies (unstable)",
    },
    () => counts().active,
  );
  registry.observed(
    "gauge",
    {
      name: "workload_manager_pending_proxy_count",
      help: "The total number current workloads with pending proxies (unstable)",
    },
    () => counts().pending,
  );
  registry.observed(
    "counter",
    { name: "workload_manager_proxies_started", help: "The total number of proxies that were started (unstable)" },
    () => counts().started,
  );
  registry.observed(
    "counter",
    { name: "workload_manager_proxies_stopped", help: "The total number of proxies that were stopped (unstable)" },
    () => counts().stopped,
  );
}
