/** Offers our series to OpenTelemetry, for whoever exports them by OTLP or scrapes its own Prometheus exporter. */
import type { Attributes, Meter } from "@opentelemetry/api";
import type { FamilySnapshot, MetricsRegistry, Sample } from "./metrics.ts";

/**
 * Where OpenTelemetry's series go. `preloaded`: to the provider that an operator loaded with `--import`, for example
 * one with an OTLP exporter. `prometheus`: to OpenTelemetry's own exporter on a port of its own.
 */
export type OtelTarget = { readonly kind: "preloaded" } | { readonly kind: "prometheus"; readonly port: number };

/** Registers every family; disposing of it ends the export. Loads OpenTelemetry only when called. */
export async function exportToOpenTelemetry(registry: MetricsRegistry, target: OtelTarget): Promise<AsyncDisposable> {
  if (target.kind === "preloaded") {
    const { metrics } = await import("@opentelemetry/api");
    registerWithMeter(registry, metrics.getMeter("ambit"));
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const [{ MeterProvider }, { PrometheusExporter }] = await Promise.all([
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-prometheus"),
  ]);
  const reader = new PrometheusExporter({ port: target.port, preventServerStart: true });
  await reader.startServer();
  const provider = new MeterProvider({ readers: [reader] });
  registerWithMeter(registry, provider.getMeter("ambit"));
  return { [Symbol.asyncDispose]: () => provider.shutdown() };
}

/** One observable instrument per family, which reads the same numbers that the hot paths bump. */
export function registerWithMeter(registry: MetricsRegistry, meter: Meter): void {
  for (const { name, help, type, snapshot } of registry.families()) {
    // OpenTelemetry has no observable histogram: count and sum tell rate and mean.
    if (type === "histogram") {
      observe(meter.createObservableCounter(`${name}_count`, { description: help }), snapshot, "_count");
      observe(meter.createObservableCounter(`${name}_sum`, { description: help }), snapshot, "_sum");
    } else if (type === "counter") {
      observe(meter.createObservableCounter(name, { description: help }), snapshot, "");
    } else {
      observe(meter.createObservableGauge(name, { description: help }), snapshot, "");
    }
  }
}

function observe(
  instrument: ReturnType<Meter["createObservableGauge"]>,
  snapshot: () => FamilySnapshot,
  suffix: Sample["suffix"],
): void {
  instrument.addCallback((result) => {
    for (const sample of snapshot().samples) {
      if (sample.suffix === suffix) result.observe(sample.value, attributesOf(sample.labels));
    }
  });
}

const attributesOf = (labels: Sample["labels"]): Attributes => Object.fromEntries(labels);
