/**
 * Counters, gauges and histograms. A hot path binds its series once and then only bumps a number; text and OTLP are
 * made from the same series when somebody asks.
 */

/** One labelled value. */
export interface Series {
  value: number;
}

/** One labelled distribution. */
export interface HistogramSeries {
  observe(value: number): void;
}

interface HistogramState extends HistogramSeries {
  readonly counts: number[];
  count: number;
  sum: number;
}

export interface FamilyOptions {
  /** Without `_total`. */
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** Most series this family keeps; what comes after shares one overflow series. */
  readonly maxSeries?: number;
}

/** What a family looks like to an exporter. */
export interface FamilySnapshot {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly Sample[];
}

export interface Sample {
  /** Added to the family's name: `_bucket`, `_sum`, `_count`, or nothing. */
  readonly suffix: "" | "_bucket" | "_sum" | "_count";
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly value: number;
}

/** As many as a node with hundreds of pods talking to thousands of services makes; each takes about 1 KiB. */
export const maxSeriesDefault = 20_000;

export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: FamilySnapshot["type"];
  readonly snapshot: () => FamilySnapshot;
}

export class MetricsRegistry {
  readonly #families = new Map<string, Family>();

  counter(options: FamilyOptions): NumberFamily {
    return this.#add(options.name, new NumberFamily("counter", options));
  }

  gauge(options: FamilyOptions): NumberFamily {
    return this.#add(options.name, new NumberFamily("gauge", options));
  }

  /** @param bounds upper bounds in ascending order, without infinity */
  histogram(options: FamilyOptions, bounds: readonly number[]): HistogramFamily {
    return this.#add(options.name, new HistogramFamily(options, bounds));
  }

  /** A value read when somebody asks. */
  observed(type: "counter" | "gauge", options: FamilyOptions, read: () => number | undefined): void {
    this.#add(options.name, {
      name: options.name,
      help: options.help,
      type,
      snapshot: () => {
        const value = read();
        const samples: Sample[] = value === undefined ? [] : [{ suffix: "", labels: [], value }];
        return { name: options.name, help: options.help, type, samples };
      },
    });
  }

  /** A family that keeps its series in a way of its own. */
  add(family: Family): void {
    this.#add(family.name, family);
  }

  families(): readonly Family[] {
    return [...this.#families.values()];
  }

  /** Families in the order they were added, those without samples left out. */
  snapshot(): readonly FamilySnapshot[] {
    return [...this.#families.values()].map((family) => family.snapshot()).filter(({ samples }) => samples.length > 0);
  }

  #add<T extends Family>(name: string, family: T): T {
    if (this.#families.has(name)) throw new TypeError(`metric "${name}" is registered twice`);
    this.#families.set(name, family);
    return family;
  }
}

/** Bounded table of label values → series. */
class SeriesTable<T> {
  readonly labels: readonly string[];
  readonly #max: number;
  readonly #make: () => T;
  readonly #byKey = new Map<string, { readonly values: readonly string[]; readonly series: T }>();
  #overflow: T | undefined;

  constructor({ labels = [], maxSeries = maxSeriesDefault }: FamilyOptions, make: () => T) {
    this.labels = labels;
    this.#max = maxSeries;
    this.#make = make;
  }

  get(values: readonly string[]): T {
    const key = values.join("\u0000");
    const known = this.#byKey.get(key);
    if (known !== undefined) return known.series;
    if (this.#byKey.size >= this.#max) return (this.#overflow ??= this.#make());
    const series = this.#make();
    this.#byKey.set(key, { values: values.map((value) => value || "unknown"), series });
    return series;
  }

  delete(values: readonly string[]): void {
    this.#byKey.delete(values.join("\u0000"));
  }

  forEach(visit: (labels: Sample["labels"], series: T) => void): void {
    for (const { values, series } of this.#byKey.values()) {
      visit(
        values.map((value, index) => [this.labels[index] ?? "", value] as const),
        series,
      );
    }
    // The label by which OpenTelemetry marks what did not fit.
    if (this.#overflow !== undefined) visit([["otel_metric_overflow", "true"]], this.#overflow);
  }
}

export class NumberFamily implements Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  readonly #table: SeriesTable<Series>;

  constructor(type: "counter" | "gauge", options: FamilyOptions) {
    this.name = options.name;
    this.help = options.help;
    this.type = type;
    this.#table = new SeriesTable(options, () => ({ value: 0 }));
  }

  /**
   * The series of these label values, in the order of the labels. Empty values read `unknown`; labels past the last
   * value are left out. Keep what is returned: finding it again costs a look-up.
   */
  series(...values: readonly string[]): Series {
    return this.#table.get(values);
  }

  /** For what is gone; a series still held is no longer shown. */
  remove(...values: readonly string[]): void {
    this.#table.delete(values);
  }

  readonly snapshot = (): FamilySnapshot => {
    const { name, help, type } = this;
    const samples: Sample[] = [];
    this.#table.forEach((labels, { value }) => samples.push({ suffix: "", labels, value }));
    return { name, help, type, samples };
  };
}

export class HistogramFamily implements Family {
  readonly name: string;
  readonly help: string;
  readonly type = "histogram";
  readonly #bounds: readonly number[];
  readonly #table: SeriesTable<HistogramState>;

  constructor(options: FamilyOptions, bounds: readonly number[]) {
    this.name = options.name;
    this.help = options.help;
    this.#bounds = bounds;
    this.#table = new SeriesTable(options, () => openHistogram(bounds));
  }

  series(...values: readonly string[]): HistogramSeries {
    return this.#table.get(values);
  }

  readonly snapshot = (): FamilySnapshot => {
    const { name, help, type } = this;
    const samples: Sample[] = [];
    this.#table.forEach((labels, { counts, count, sum }) => {
      samples.push({ suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: count });
      let total = 0;
      [...this.#bounds, Infinity].forEach((bound, index) => {
        total += counts[index] ?? 0;
        samples.push({ suffix: "_bucket", labels: [["le", formatNumber(bound, true)], ...labels], value: total });
      });
    });
    return { name, help, type, samples };
  };
}

function openHistogram(bounds: readonly number[]): HistogramState {
  const state: HistogramState = {
    counts: Array.from({ length: bounds.length + 1 }, () => 0),
    count: 0,
    sum: 0,
    observe: (value) => {
      const index = bounds.findIndex((bound) => value <= bound);
      const bucket = index < 0 ? bounds.length : index;
      state.counts[bucket] = (state.counts[bucket] ?? 0) + 1;
      state.count += 1;
      state.sum += value;
    },
  };
  return state;
}

/** OpenMetrics 1.0 text, which Prometheus reads as either of its formats. */
export function toOpenMetrics(families: readonly FamilySnapshot[]): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of families) {
    lines.push(`# HELP ${name} ${escapeHelp(help)}.`, `# TYPE ${name} ${type}`);
    const total = type === "counter" ? "_total" : "";
    for (const { suffix, labels, value } of samples) {
      lines.push(`${name}${suffix}${total}${formatLabels(labels)} ${formatNumber(value, false)}`);
    }
  }
  lines.push("# EOF", "");
  return lines.join("\n");
}

function formatLabels(labels: Sample["labels"]): string {
  if (labels.length === 0) return "";
  return `{${labels.map(([name, value]) => `${name}="${escapeLabel(value)}"`).join(",")}}`;
}

/** Bucket bounds are written as floating point numbers, whole values otherwise without. */
function formatNumber(value: number, asFloat: boolean): string {
  if (value === Infinity) return "+Inf";
  return asFloat && Number.isInteger(value) ? `${value}.0` : String(value);
}

const escapeLabel = (text: string): string =>
  /["\\\n]/.test(text) ? text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n") : text;

const escapeHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
