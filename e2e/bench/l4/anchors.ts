/**
 * What a pair of Istio's own ztunnels (Rust, release build, August 2026) reached on a machine like ours: two shared
 * cores that client, both proxies and server divide among them. Ratios are to the same pods without the mesh.
 */
export const anchors = {
  "bulk up, 1 connection": { ratio: 0.2 },
  "bulk up, 8 connections": { ratio: 0.15 },
  "1 KiB round trips, 1 connection": { ratio: 0.22 },
  "1 KiB round trips, 32 connections": { ratio: 0.22, p99Ratio: 1.1 },
  "1 KiB round trips, 256 connections": { ratio: 0.28 },
  "new connections, first second": { ratio: 0.27 },
  "new connections, later": { ratio: 0.1 },
  "CPU of both proxies per GB": { value: 0.83, unit: "s" },
  "CPU of both proxies per 1000 round trips at 32": { value: 28, unit: "ms" },
  "ztunnel RSS, fresh": { value: 14, unit: "MiB" },
  "ztunnel RSS, per idle connection": { value: 9, unit: "KiB" },
  "ztunnel RSS, after the connections": { value: 19, unit: "MiB" },
} as const satisfies Record<string, { ratio?: number; p99Ratio?: number; value?: number; unit?: string }>;
