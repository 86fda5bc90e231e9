/** The tracers of a process: chains that name the same collector share one exporter. */
import process from "node:process";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Clock } from "#shared/clock/clock.ts";
import type { MetricsRegistry, NumberFamily } from "#shared/observe/metrics.ts";
import { ExportTraceServiceRequestSchema } from "#shared/proto/gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";
import type { Span } from "#shared/proto/gen/opentelemetry/proto/trace/v1/trace_pb.js";
import { KeyValueSchema, type KeyValue } from "#shared/proto/gen/opentelemetry/proto/common/v1/common_pb.js";
import type { HttpConnectionManager_Tracing } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { UuidRequestIdConfig } from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import type { Percent } from "#shared/proto/gen/envoy/type/v3/percent_pb.js";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { TelemetryContext } from "#waypoint/telemetry/telemetry-kinds.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import type { Peers } from "#waypoint/telemetry/peers.ts";
import { compileCollector } from "./collector.ts";
import type { Collector } from "./span-collector.ts";
import { compileTags } from "./custom-tags.ts";
import { routeTracings } from "./route-tracing.ts";
import { newerFlag } from "#waypoint/upstream/compile/set-fields.ts";
import { zipkinSpans } from "./zipkin-spans.ts";
import { SpanExporter } from "./span-exporter.ts";
import { Tracer } from "./tracer.ts";

export interface TracersOptions {
  readonly clock: Clock;
  readonly registry: MetricsRegistry;
  readonly node: NodeFacts;
  readonly peers: Peers;
  readonly random: () => number;
}

/** As Envoy. */
const maxPathLengthDefault = 256;
/** More than any mesh has at one time; the oldest of more is let go. */
const maxExporters = 64;

export class Tracers {
  readonly #options: TracersOptions;
  readonly #spans: NumberFamily;
  readonly #exporters = new Map<string, SpanExporter>();

  constructor(options: TracersOptions) {
    this.#options = options;
    this.#spans = options.registry.counter({
      name: "ambit_trace_spans",
      help: "The total number of spans that were sent to a collector, or dropped",
      labels: ["result"],
    });
  }

  /** Undefined where traces are neither made nor handed on. */
  compile(
    {
      tracing,
      requestId,
    }: { readonly tracing: HttpConnectionManager_Tracing; readonly requestId: UuidRequestIdConfig | undefined },
    chain: string,
    context: TelemetryContext,
  ): Tracer | undefined {
    const { provider, customTags, maxPathTagLength } = tracing;
    if (provider === undefined) return undefined;
    const collector = compileCollector(provider, context);
    const tags = compileTags(customTags, "tracing.custom_tags", context.clusters, context.problem);
    if (collector === undefined) return undefined;
    const { node, peers, random } = this.#options;
    return new Tracer({
      exporter: this.#exporter(collector, context),
      sampling: {
        client: share(tracing.clientSampling),
        random: share(tracing.randomSampling),
        overall: share(tracing.overallSampling),
      },
      requestId: {
        decides: requestId?.useRequestIdForTraceSampling ?? true,
        isNoted: requestId?.packTraceReason ?? true,
      },
      samplesAll: collector.samplesAll,
      handsOn: newerFlag(tracing, noPropagationField) ? "nothing" : collector.format === "zipkin" ? "b3" : "w3c",
      tags,
      maxPathLength: maxPathTagLength ?? maxPathLengthDefault,
      hasUpstreamSpan: tracing.spawnUpstreamSpan === true,
      chain,
      peers,
      node,
      random,
      routeTracing: routeTracings(context),
    });
  }

  /** Sends what is queued, for so long at most. */
  async flush(deadlineMs: number): Promise<void> {
    const over = Promise.withResolvers<void>();
    const cancel = this.#options.clock.schedule(deadlineMs, over.resolve);
    await Promise.race([Promise.all([...this.#exporters.values()].map((exporter) => exporter.flush())), over.promise]);
    cancel();
  }

  #exporter(collector: Collector, { log }: LayerContext): SpanExporter {
    const key = `${collector.key} ${collector.serviceName ?? ""} ${String(collector.usesEnvironment)}`;
    const known = this.#exporters.get(key);
    if (known !== undefined) return known;
    const [oldest] = this.#exporters;
    if (this.#exporters.size >= maxExporters && oldest !== undefined) {
      this.#exporters.delete(oldest[0]);
      void oldest[1].flush();
    }
    const exporter = new SpanExporter({
      clock: this.#options.clock,
      log,
      encode: encoderFor(collector, this.#options.node),
      send: collector.send,
      exported: this.#spans.series("exported"),
      dropped: this.#spans.series("dropped"),
    });
    this.#exporters.set(key, exporter);
    return exporter;
  }
}

const share = (percent: Percent | undefined): number => (percent === undefined ? 1 : percent.value / 100);

const attribute = (key: string, value: string): KeyValue =>
  create(KeyValueSchema, { key, value: { value: { case: "stringValue", value } } });

/** `no_context_propagation`, newer than the schema. */
export const noPropagationField = 13;

function encoderFor(collector: Collector, node: NodeFacts): (spans: Span[]) => Uint8Array {
  if (collector.format === "zipkin") {
    const [, ip] = node.id.split("~");
    const endpoint = { serviceName: collector.serviceName ?? node.cluster, ip: ip === "" ? undefined : ip };
    return (spans) => Buffer.from(zipkinSpans(spans, endpoint));
  }
  const attributes = [...resourceOf(collector, node)];
  const scope = { name: "ambit", version: "" };
  return (spans) => {
    const resourceSpans = [{ resource: { attributes }, scopeSpans: [{ scope, spans }] }];
    return toBinary(ExportTraceServiceRequestSchema, create(ExportTraceServiceRequestSchema, { resourceSpans }));
  };
}

function resourceOf({ serviceName, usesEnvironment }: Collector, { cluster }: NodeFacts): readonly KeyValue[] {
  const own = [
    attribute("service.name", serviceName ?? cluster),
    attribute("telemetry.sdk.language", "nodejs"),
    attribute("telemetry.sdk.name", "ambit"),
  ];
  if (!usesEnvironment) return own;
  // `key=value,key=value`, values percent-encoded.
  const pairs = (process.env["OTEL_RESOURCE_ATTRIBUTES"] ?? "").split(",").flatMap((pair) => {
    const [key = "", value] = pair.split("=");
    return key.trim() === "" || value === undefined ? [] : [attribute(key.trim(), decoded(value.trim()))];
  });
  return [...own, ...pairs];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
