/** What every daemon reports of itself: build, file descriptors, memory, the control plane's stream. */
import process from "node:process";
import { readdirSync, readFileSync } from "node:fs";
import type { XdsEvent } from "#shared/xds/delta-client.ts";
import type { MetricsRegistry } from "./metrics.ts";

export function registerProcessMetrics(registry: MetricsRegistry, component: string, version: string): void {
  const build = registry.gauge({
    name: "istio_build",
    help: "Istio component build info",
    labels: ["component", "tag"],
  });
  build.series(component, version).value = 1;
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
