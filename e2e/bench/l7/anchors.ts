/**
 * What Envoy 1.40 reached on a machine like ours, two shared cores, one thread on one of them, the load on the other:
 * ratios to haproxy 2.6 in the same run, and figures of its own.
 */
export const anchors = {
  throughput: {
    "HTTP/1.1": { "one route": 0.32, "everything on": 0.23 },
    "HTTP/2": { "one route": 0.36, "everything on": 0.23 },
    gRPC: { "one route": 0.35, "everything on": 0.27 },
  },
  /** Added at 1000 requests/s, µs. */
  latency: {
    "one route": { p50Us: 114, p90Us: 199 },
    "everything on": { p50Us: 134, p90Us: 275 },
  },
  memory: { freshMib: 65, afterLoadMib: 69, perIdleConnectionKib: 16 },
} as const;
