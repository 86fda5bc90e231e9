/** What users change about Istio's metrics, as the configuration of Istio's stats filter; waypoints count without one, too. */
import type { JsonObject } from "@bufbuild/protobuf";
import { expressionProblem } from "#shared/expressions/check-expression.ts";
import type { MeshTelemetry } from "#controlplane/mesh/mesh-telemetry.ts";
import type { Telemetry } from "#controlplane/mesh/objects.ts";
import type { MetricOverride } from "#controlplane/mesh/telemetry.ts";
import { concernsServers } from "./in-force.ts";

/** Istio's name of a metric in a Telemetry → that of the series, without `istio_`. */
export const metricNames: Readonly<Record<string, string>> = {
  REQUEST_COUNT: "requests_total",
  REQUEST_DURATION: "request_duration_milliseconds",
  REQUEST_SIZE: "request_bytes",
  RESPONSE_SIZE: "response_bytes",
  TCP_OPENED_CONNECTIONS: "tcp_connections_opened_total",
  TCP_CLOSED_CONNECTIONS: "tcp_connections_closed_total",
  TCP_SENT_BYTES: "tcp_sent_bytes_total",
  TCP_RECEIVED_BYTES: "tcp_received_bytes_total",
  GRPC_REQUEST_MESSAGES: "request_messages_total",
  GRPC_RESPONSE_MESSAGES: "response_messages_total",
};
const all = Object.values(metricNames);

export const statsType = "type.googleapis.com/stats.PluginConfig";

interface Change {
  isDropped: boolean;
  /** `undefined` removes the tag. */
  readonly tags: Map<string, string | undefined>;
}

/** Undefined where metrics are as usual. */
export function statsConfig(
  { defaults, providers }: MeshTelemetry,
  telemetries: readonly Telemetry[],
  report: (problem: string) => void,
): JsonObject | undefined {
  let current = defaults.metrics ?? ["prometheus"];
  const byProvider = new Map<string, Map<string, Change>>();
  for (const { providers: named, overrides } of telemetries.flatMap(({ metrics }) => metrics)) {
    if (named.length > 0) current = named;
    for (const name of current) {
      const changes = byProvider.get(name) ?? new Map<string, Change>();
      byProvider.set(name, changes);
      for (const override of overrides.filter(concernsServers)) change(changes, override, report);
    }
  }
  const kept = current.find((name) => {
    const kind = providers.get(name)?.kind;
    if (kind === undefined) report(`the mesh has no extension provider "${name}": add it to extensionProviders`);
    else if (kind !== "prometheus") report(`extension provider "${name}" keeps no metrics: use a prometheus one`);
    return kind === "prometheus";
  });
  if (kept === undefined) return nothing;
  const changes = byProvider.get(kept) ?? new Map<string, Change>();
  if (all.every((name) => changes.get(name)?.isDropped === true)) return nothing;
  const metrics = [...changes].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([name, each]) => metricConfig(name, each));
  return metrics.length === 0 ? undefined : { metrics, ...reporter };
}

/** As Istio tells its own waypoints. */
const reporter: JsonObject = { reporter: "SERVER_GATEWAY", disable_host_header_fallback: true };
const nothing: JsonObject = { metrics: [{ drop: true }], ...reporter };

function change(changes: Map<string, Change>, override: MetricOverride, report: (problem: string) => void): void {
  const { metric, customMetric, disabled, tags } = override;
  const own = customMetric.replace(/^istio_/, "");
  if (metric === "" && !all.includes(own)) {
    report(`metric "${customMetric}" is not known: metrics of one's own are not supported`);
    return;
  }
  const names = metric === "" ? [own] : metric === "ALL_METRICS" ? all : [metricNames[metric] ?? ""];
  for (const name of names) {
    const known = changes.get(name) ?? { isDropped: false, tags: new Map() };
    changes.set(name, known);
    if (disabled !== undefined) known.isDropped = disabled;
    for (const [tag, { value }] of tags) {
      if (value === undefined || expressionProblem(value) === undefined) known.tags.set(tag, value);
    }
  }
}

function metricConfig(name: string, { isDropped, tags }: Change): readonly JsonObject[] {
  if (isDropped) return [{ name, drop: true }];
  const sorted = [...tags].sort(([a], [b]) => (a < b ? -1 : 1));
  const dimensions = sorted.filter((entry): entry is [string, string] => entry[1] !== undefined);
  const removed = sorted.filter(([, value]) => value === undefined).map(([tag]) => tag);
  if (sorted.length === 0) return [];
  return [
    {
      name,
      ...(dimensions.length === 0 ? {} : { dimensions: Object.fromEntries(dimensions) }),
      ...(removed.length === 0 ? {} : { tags_to_remove: removed }),
    },
  ];
}
