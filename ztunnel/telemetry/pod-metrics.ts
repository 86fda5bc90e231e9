/** What is reported of the pods in the care of this ztunnel. */
import type { MetricsRegistry } from "#shared/observe/metrics.ts";
import type { PodCounts } from "#ztunnel/inpod/pod-manager.ts";

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
