/** Offers our series to OpenTelemetry, for whoever exports them by OTLP or reads them from its Prometheus exporter. */
import type { Attributes, Meter } from "@opentelemetry/api";
import type { MetricsRegistry, Sample } from "./metrics.ts";

/**
 * Registers an observable instrument for every counter and gauge that has samples. Histograms are left to the text
 * exposition: OpenTelemetry has no observable kind for them.
 */
export function registerWithMeter(registry: MetricsRegistry, meter: Meter): void {
  const known = new Set<string>();
  for (const { name, help, type } of registry.snapshot()) {
    if (type === "histogram" || known.has(name)) continue;
    known.add(name);
    const instrument =
      type === "counter"
        ? meter.createObservableCounter(name, { description: help })
        : meter.createObservableGauge(name, { description: help });
    instrument.addCallback((result) => {
      const family = registry.snapshot().find((candidate) => candidate.name === name);
      for (const { labels, value } of family?.samples ?? []) result.observe(value, attributesOf(labels));
    });
  }
}

const attributesOf = (labels: Sample["labels"]): Attributes => Object.fromEntries(labels);
