/** What users change about metrics: the configuration of Istio's stats filter (`stats.PluginConfig`), as a structure. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { allAttributes } from "#shared/expressions/vocabularies.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import { compileExpression } from "#waypoint/expressions/compile-expression.ts";
import { asText } from "#waypoint/expressions/values.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import type { Labels } from "./labelled-family.ts";
import { metricNames, type MetricName } from "./traffic-families.ts";

/** Of one metric. */
interface Change {
  readonly isDropped: boolean;
  readonly removed: ReadonlySet<string>;
  /** Label → place of its value among {@link Overrides.values}. */
  readonly added: ReadonlyMap<string, number>;
}

export interface Overrides {
  /** Values of added labels for one request; undefined where no label is added. */
  readonly values: ((subject: Subject) => readonly string[]) | undefined;
  /** Undefined: the metric is not kept. */
  labels(metric: MetricName, standard: Labels, values: readonly string[]): Labels | undefined;
}

export const noOverrides: Overrides = { values: undefined, labels: (_metric, standard) => standard };

const knownFields = [
  "metrics",
  "reporter",
  "disable_host_header_fallback",
  "tcp_reporting_duration",
  "debug",
  "definitions",
] as const;
const knownMetricFields = ["name", "dimensions", "tags_to_remove", "drop", "match"] as const;

export function compileOverrides(config: JsonObject, node: NodeFacts, problem: Problem): Overrides {
  const plain = withSnakeCase(config);
  for (const field of Object.keys(plain)) {
    if (!(knownFields as readonly string[]).includes(field)) problem(field, "is not known");
  }
  if (Array.isArray(plain["definitions"]) && plain["definitions"].length > 0) {
    problem("definitions", "metrics of one's own are not supported");
  }
  const metrics = plain["metrics"] ?? [];
  if (!Array.isArray(metrics)) {
    problem("metrics", "has to be a list");
    return noOverrides;
  }
  const reads: ((subject: Subject) => string)[] = [];
  const changes = new Map<MetricName, Change>(
    metricNames.map((name) => [name, { isDropped: false, removed: new Set(), added: new Map() }]),
  );
  metrics.forEach((each, index) => {
    const at = `metrics[${index}]`;
    if (typeof each !== "object" || each === null || Array.isArray(each)) problem(at, "has to be an object");
    else addChange(withSnakeCase(each), at, { node, problem, reads, changes });
  });
  return {
    values: reads.length === 0 ? undefined : (subject) => reads.map((read) => read(subject)),
    labels: (metric, standard, values) => changed(changes.get(metric), standard, values),
  };
}

function changed(change: Change | undefined, standard: Labels, values: readonly string[]): Labels | undefined {
  if (change === undefined) return standard;
  if (change.isDropped) return undefined;
  const kept = standard.filter(([name]) => !change.removed.has(name) && !change.added.has(name));
  return [...kept, ...[...change.added].map(([name, place]) => [name, values[place] ?? "unknown"] as const)];
}

interface Compiling {
  readonly node: NodeFacts;
  readonly problem: Problem;
  readonly reads: ((subject: Subject) => string)[];
  readonly changes: Map<MetricName, Change>;
}

function addChange(metric: JsonObject, at: string, { node, problem, reads, changes }: Compiling): void {
  for (const field of Object.keys(metric)) {
    if (!(knownMetricFields as readonly string[]).includes(field)) problem(`${at}.${field}`, "is not known");
  }
  if ((metric["match"] ?? "") !== "") problem(`${at}.match`, "is not supported");
  const name = metric["name"] ?? "";
  const named = metricNames.filter((each) => name === "" || each === name);
  if (named.length === 0) problem(`${at}.name`, `${JSON.stringify(name)} is none of ${metricNames.join(", ")}`);
  const added = new Map<string, number>();
  for (const [label, expression] of Object.entries(recordOf(metric["dimensions"]))) {
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(label)) problem(`${at}.dimensions`, `"${label}" is no name of a label`);
    const text = typeof expression === "string" ? expression : "";
    const read = compileExpression(text, { node, vocabulary: allAttributes }, `${at}.dimensions["${label}"]`, problem);
    added.set(label, reads.length);
    reads.push((subject) => asText(read(subject)) ?? "unknown");
  }
  const listed = metric["tags_to_remove"];
  const removed = Array.isArray(listed) ? listed.filter((tag) => typeof tag === "string") : [];
  for (const each of named) {
    const before = changes.get(each);
    changes.set(each, {
      isDropped: metric["drop"] === true || before?.isDropped === true,
      removed: new Set([...(before?.removed ?? []), ...removed].filter((label) => !added.has(label))),
      added: new Map([...(before?.added ?? []), ...added].filter(([label]) => !removed.includes(label))),
    });
  }
}

const recordOf = (value: JsonValue | undefined): JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};

/** Either spelling of JSON's names. */
const withSnakeCase = (object: JsonObject): JsonObject =>
  Object.fromEntries(
    Object.entries(object).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
