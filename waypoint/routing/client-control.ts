/**
 * Headers by which a caller could steer the router (`x-envoy-max-retries` and such). Like an Envoy with no internal
 * addresses configured, the waypoint takes them from nobody: they go before anything looks at the request. Set by a route's
 * header operations they count.
 */
import type { Headers } from "#waypoint/http/headers.ts";

const names: ReadonlySet<string> = new Set([
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-force-trace",
  "x-envoy-internal",
  "x-envoy-ip-tags",
  "x-envoy-max-retries",
  "x-envoy-retriable-header-names",
  "x-envoy-retriable-status-codes",
  "x-envoy-retry-grpc-on",
  "x-envoy-retry-on",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-upstream-rq-timeout-ms",
]);

/** `others`: names that the route configuration keeps for itself (`internal_only_headers`). */
export function stripClientControl(headers: Headers, others: readonly string[] = []): void {
  const { pairs } = headers;
  // Most requests have none: nothing is moved for them.
  for (let i = 0; i < pairs.length; i += 2) {
    const name = pairs[i] as string;
    if (name.startsWith("x-envoy-") && names.has(name)) {
      headers.delete(name);
      i -= 2;
    }
  }
  for (const name of others) headers.delete(name);
}
