import { describe, expect, test } from "@jest/globals";
import { MeterProvider, MetricReader } from "@opentelemetry/sdk-metrics";
import { chooseEncoding } from "./http-servers/metrics-routes.ts";
import { MetricsRegistry, toOpenMetrics } from "./metrics.ts";
import { registerWithMeter } from "./otel-bridge.ts";

describe("OpenMetrics text", () => {
  test("has one block per family with samples, labels in order, and an end", () => {
    const registry = new MetricsRegistry();
    const requests = registry.counter({ name: "requests", help: "All of them", labels: ["to", "from"] });
    registry.counter({ name: "unused", help: "Nothing yet", labels: ["x"] });
    registry.gauge({ name: "open", help: "Now" }).series().value = 3;
    requests.series("b", "").value += 2;
    requests.series("b", "").value += 1;
    registry.observed("gauge", { name: "seen", help: "On scrape" }, () => 7);
    registry.observed("gauge", { name: "unseen", help: "Not now" }, () => undefined);
    expect(toOpenMetrics(registry.snapshot())).toBe(
      [
        "# HELP requests All of them.",
        "# TYPE requests counter",
        'requests_total{to="b",from="unknown"} 3',
        "# HELP open Now.",
        "# TYPE open gauge",
        "open 3",
        "# HELP seen On scrape.",
        "# TYPE seen gauge",
        "seen 7",
        "# EOF",
        "",
      ].join("\n"),
    );
  });

  test("escapes label values", () => {
    const registry = new MetricsRegistry();
    registry.counter({ name: "c", help: "h", labels: ["l"] }).series('a"b\\c\nd').value = 1;
    expect(toOpenMetrics(registry.snapshot())).toContain('c_total{l="a\\"b\\\\c\\nd"} 1');
  });

  test("writes histograms with cumulative buckets", () => {
    const registry = new MetricsRegistry();
    const series = registry.histogram({ name: "d", help: "h", labels: ["l"] }, [0.5, 1]).series("x");
    for (const value of [0.1, 0.5, 0.9, 4]) series.observe(value);
    const text = toOpenMetrics(registry.snapshot());
    expect(text.split("\n").slice(2, 7)).toEqual([
      'd_sum{l="x"} 5.5',
      'd_count{l="x"} 4',
      'd_bucket{le="0.5",l="x"} 2',
      'd_bucket{le="1.0",l="x"} 3',
      'd_bucket{le="+Inf",l="x"} 4',
    ]);
  });

  test("labels past the last value are left out", () => {
    const registry = new MetricsRegistry();
    registry.counter({ name: "c", help: "h", labels: ["a", "b"] }).series("1").value = 1;
    expect(toOpenMetrics(registry.snapshot())).toContain('c_total{a="1"} 1');
  });
});

test("a family that is full counts the rest in one overflow series", () => {
  const registry = new MetricsRegistry();
  const family = registry.counter({ name: "c", help: "h", labels: ["l"], maxSeries: 2 });
  for (const value of ["a", "b", "c", "d", "a"]) family.series(value).value += 1;
  const { samples } = family.snapshot();
  expect(samples.map(({ labels, value }) => [labels.flat().join("="), value])).toEqual([
    ["l=a", 2],
    ["l=b", 1],
    ["otel_metric_overflow=true", 2],
  ]);
});

test("a name is registered once", () => {
  const registry = new MetricsRegistry();
  registry.gauge({ name: "g", help: "h" });
  expect(() => registry.gauge({ name: "g", help: "h" })).toThrow("registered twice");
});

test("OpenTelemetry reads the same numbers", async () => {
  class Reader extends MetricReader {
    protected override onForceFlush() {
      return Promise.resolve();
    }
    protected override onShutdown() {
      return Promise.resolve();
    }
  }
  const registry = new MetricsRegistry();
  const series = registry.counter({ name: "c", help: "h", labels: ["l"] }).series("x");
  registry.histogram({ name: "d", help: "h" }, [1]).series().observe(2);
  const reader = new Reader();
  const provider = new MeterProvider({ readers: [reader] });
  registerWithMeter(registry, provider.getMeter("test"));
  series.value = 5;
  const { resourceMetrics } = await reader.collect();
  const read = resourceMetrics.scopeMetrics
    .flatMap(({ metrics }) => metrics)
    .map(({ descriptor, dataPoints }) => [descriptor.name, dataPoints.map(({ value }) => value)]);
  expect(Object.fromEntries(read)).toEqual({ c: [5], d_count: [1], d_sum: [2] });
  await provider.shutdown();
});

// prettier-ignore
test.each([
  ["",                            undefined, "nothing asked"],
  ["gzip",                        "gzip",    "one"],
  ["gzip, br, zstd",              "zstd",    "ours of first choice"],
  ["gzip;q=1.0, br;q=0.5",        "gzip",    "by weight"],
  ["*",                           "zstd",    "any"],
  ["identity, gzip;q=0.5",        undefined, "rather not"],
  ["gzip;q=0",                    undefined, "forbidden"],
  ["snappy",                      undefined, "unknown"],
  ["GZIP",                        "gzip",    "case"],
  ["deflate",                     "deflate", "the old one"],
] as [string, string | undefined, string][])("Accept-Encoding %j is answered with %s: %s", (header, encoding) => {
  expect(chooseEncoding(header)).toBe(encoding);
});
