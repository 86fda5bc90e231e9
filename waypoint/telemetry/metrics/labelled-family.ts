/**
 * Metric families whose series need not all have the same labels: users add labels to one service's metrics and take
 * some off another's. Bounded; what does not fit shares one series.
 */
import { maxSeriesDefault, type Family, type FamilySnapshot, type Sample } from "#shared/observe/metrics.ts";

export type Labels = readonly (readonly [name: string, value: string])[];

export class Count {
  value = 0;
}

/** Upper bounds in ascending order, without infinity: those of Envoy's histograms, which Istio's dashboards expect. */
export const histogramBounds = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
] as const;

export class Distribution {
  readonly counts = new Float64Array(histogramBounds.length + 1);
  count = 0;
  sum = 0;

  observe(value: number): void {
    let bucket = 0;
    while (bucket < histogramBounds.length && value > (histogramBounds[bucket] as number)) bucket++;
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.count += 1;
    this.sum += value;
  }
}

interface FamilyParts {
  /** Without `_total`. */
  readonly name: string;
  readonly help: string;
  readonly maxSeries?: number;
}

class LabelledFamily<T> {
  readonly name: string;
  readonly help: string;
  /** Before a snapshot is taken: what is still under way adds what it has come to. */
  onSnapshot: (() => void) | undefined;
  readonly #max: number;
  readonly #make: () => T;
  readonly #byKey = new Map<string, { readonly labels: Labels; readonly series: T }>();
  #overflow: T | undefined;

  constructor({ name, help, maxSeries = maxSeriesDefault }: FamilyParts, make: () => T) {
    this.name = name;
    this.help = help;
    this.#max = maxSeries;
    this.#make = make;
  }

  series(labels: Labels): T {
    let key = "";
    for (const [name, value] of labels) key += `${name}\u0001${value}\u0000`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known.series;
    if (this.#byKey.size >= this.#max) return (this.#overflow ??= this.#make());
    const series = this.#make();
    this.#byKey.set(key, { labels, series });
    return series;
  }

  protected forEach(visit: (labels: Labels, series: T) => void): void {
    this.onSnapshot?.();
    for (const { labels, series } of this.#byKey.values()) visit(labels, series);
    if (this.#overflow !== undefined) visit([["otel_metric_overflow", "true"]], this.#overflow);
  }
}

export class CountFamily extends LabelledFamily<Count> implements Family {
  readonly type = "counter";

  constructor(parts: FamilyParts) {
    super(parts, () => new Count());
  }

  readonly snapshot = (): FamilySnapshot => {
    const { name, help, type } = this;
    const samples: Sample[] = [];
    this.forEach((labels, { value }) => samples.push({ suffix: "", labels, value }));
    return { name, help, type, samples };
  };
}

export class DistributionFamily extends LabelledFamily<Distribution> implements Family {
  readonly type = "histogram";

  constructor(parts: FamilyParts) {
    super(parts, () => new Distribution());
  }

  readonly snapshot = (): FamilySnapshot => {
    const { name, help, type } = this;
    const samples: Sample[] = [];
    this.forEach((labels, { counts, count, sum }) => {
      let total = 0;
      histogramBounds.forEach((bound, index) => {
        total += counts[index] as number;
        samples.push({ suffix: "_bucket", labels: [...labels, ["le", String(bound)]], value: total });
      });
      samples.push(
        { suffix: "_bucket", labels: [...labels, ["le", "+Inf"]], value: count },
        { suffix: "_sum", labels, value: sum },
        { suffix: "_count", labels, value: count },
      );
    });
    return { name, help, type, samples };
  };
}
