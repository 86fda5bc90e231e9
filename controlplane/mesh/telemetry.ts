/** What is told of traffic: Istio's Telemetry, as far as it concerns the receiving side. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";

export type WorkloadMode = "CLIENT_AND_SERVER" | "CLIENT" | "SERVER";

export type TagSource =
  | { readonly kind: "literal"; readonly value: string }
  | { readonly kind: "environment" | "header"; readonly name: string; readonly defaultValue: string }
  | { readonly kind: "formatter"; readonly value: string };

/** What is undefined is left as a broader object says. */
export interface TracingRule {
  readonly mode: WorkloadMode;
  readonly providers: readonly string[];
  /** From 0 to 100. */
  readonly randomSampling: number | undefined;
  readonly disableSpanReporting: boolean | undefined;
  readonly customTags: ReadonlyMap<string, TagSource> | undefined;
  readonly useRequestIdForTraceSampling: boolean | undefined;
  readonly enableIstioTags: boolean | undefined;
  readonly disableContextPropagation: boolean | undefined;
}

/** `undefined` removes the tag. */
export type TagOverride = { readonly value: string | undefined };

export interface MetricOverride {
  readonly mode: WorkloadMode;
  /** As Istio's enumeration says; empty for one of the user's own. */
  readonly metric: string;
  readonly customMetric: string;
  readonly disabled: boolean | undefined;
  readonly tags: ReadonlyMap<string, TagOverride>;
}

export interface MetricsRule {
  readonly providers: readonly string[];
  readonly overrides: readonly MetricOverride[];
  readonly reportingIntervalMs: number | undefined;
}

export interface AccessLogRule {
  readonly mode: WorkloadMode;
  readonly providers: readonly string[];
  readonly disabled: boolean;
  /** Empty: everything. */
  readonly expression: string;
}

export interface TelemetrySpec {
  readonly tracing: readonly TracingRule[];
  readonly metrics: readonly MetricsRule[];
  readonly accessLogging: readonly AccessLogRule[];
}

export function readTelemetrySpec(spec: Field): TelemetrySpec {
  return {
    tracing: spec.at("tracing").list().map(readTracing),
    metrics: spec.at("metrics").list().map(readMetrics),
    accessLogging: spec
      .at("accessLogging")
      .list()
      .map((rule) => ({
        mode: readMode(rule.at("match")),
        providers: readProviders(rule),
        disabled: rule.at("disabled").flag(),
        expression: rule.at("filter").at("expression").text(),
      })),
  };
}

const readMode = (match: Field): WorkloadMode => match.at("mode").text("CLIENT_AND_SERVER") as WorkloadMode;

/** Names are compared without regard to case. */
const readProviders = (rule: Field): readonly string[] =>
  rule
    .at("providers")
    .list()
    .map((provider) => provider.at("name").text().toLowerCase());

function readTracing(rule: Field): TracingRule {
  const tags = rule.at("customTags");
  return {
    mode: readMode(rule.at("match")),
    providers: readProviders(rule),
    randomSampling: rule.at("randomSamplingPercentage").decimal(),
    disableSpanReporting: rule.at("disableSpanReporting").optionalFlag(),
    customTags: tags.isPresent ? readCustomTags(tags) : undefined,
    useRequestIdForTraceSampling: rule.at("useRequestIdForTraceSampling").optionalFlag(),
    enableIstioTags: rule.at("enableIstioTags").optionalFlag(),
    disableContextPropagation: rule.at("disableContextPropagation").optionalFlag(),
  };
}

export const readCustomTags = (tags: Field): ReadonlyMap<string, TagSource> =>
  new Map(tags.entries().map(([name, tag]) => [name, readTag(tag)]));

function readTag(tag: Field): TagSource {
  for (const kind of ["environment", "header"] as const) {
    const source = tag.at(kind);
    if (source.isPresent)
      return { kind, name: source.at("name").text(), defaultValue: source.at("defaultValue").text() };
  }
  const formatter = tag.at("formatter");
  if (formatter.isPresent) return { kind: "formatter", value: formatter.at("value").text() };
  return { kind: "literal", value: tag.at("literal").at("value").text() };
}

function readMetrics(rule: Field): MetricsRule {
  return {
    providers: readProviders(rule),
    reportingIntervalMs: durationMs(rule.at("reportingInterval")),
    overrides: rule
      .at("overrides")
      .list()
      .map((override) => {
        const match = override.at("match");
        const customMetric = match.at("customMetric").text();
        return {
          mode: readMode(match),
          metric: customMetric === "" ? match.at("metric").text("ALL_METRICS") : "",
          customMetric,
          disabled: override.at("disabled").optionalFlag(),
          tags: new Map(
            override
              .at("tagOverrides")
              .entries()
              .map(([name, tag]) => [
                name,
                { value: tag.at("operation").text() === "REMOVE" ? undefined : tag.at("value").text() },
              ]),
          ),
        };
      }),
  };
}
