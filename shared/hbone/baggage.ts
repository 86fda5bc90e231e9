/** What one end of a tunnel says of its workload: for reports only, never for decisions. */
export interface Baggage {
  readonly clusterId?: string;
  readonly namespace?: string;
  readonly workloadName?: string;
  readonly serviceName?: string;
  readonly revision?: string;
  readonly region?: string;
  readonly zone?: string;
}

/** Workload types that have a key of their own. */
const workloadTypes = ["deployment", "cronjob", "pod", "job"] as const;

const fieldOfKey: ReadonlyMap<string, keyof Baggage> = new Map([
  ["k8s.cluster.name", "clusterId"],
  ["k8s.namespace.name", "namespace"],
  ...workloadTypes.map((type) => [`k8s.${type}.name`, "workloadName"] as const),
  ["service.name", "serviceName"],
  ["service.version", "revision"],
  ["cloud.region", "region"],
  ["cloud.availability_zone", "zone"],
]);

/**
 * `key=value` pairs as Istio writes them: no spaces, no escapes, empty values left out, this order. A value that
 * could be taken for two pairs, or that no header may hold, is left out too.
 *
 * @param workloadType deployment, cronjob, pod or job; anything else counts as a pod
 */
export function encodeBaggage(baggage: Baggage, workloadType: string): string {
  const type = workloadTypes.find((known) => known === workloadType) ?? "pod";
  const pairs: readonly (readonly [string, string | undefined])[] = [
    ["k8s.cluster.name", baggage.clusterId],
    ["k8s.namespace.name", baggage.namespace],
    [`k8s.${type}.name`, baggage.workloadName],
    ["service.name", baggage.serviceName],
    ["service.version", baggage.revision],
    ["cloud.region", baggage.region],
    ["cloud.availability_zone", baggage.zone],
  ];
  return pairs
    .filter(([, value]) => value !== undefined && isPlainValue(value))
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

const isPlainValue = (value: string): boolean => value !== "" && isVisible(value) && !/[,=]/.test(value);

/** Tab and printable ASCII. */
const isVisible = (text: string): boolean => /^[\t\x20-\x7e]*$/.test(text);

/** What the same lines were read as before; dropped whole when full. */
const known = new Map<string, Baggage>();
const maxKnown = 1_024;

/** As {@link parseBaggage}; a client that says the same again gets the same object, which others may remember it by. */
export function readBaggage(lines: readonly string[]): Baggage {
  const text = lines.join("\n");
  let baggage = known.get(text);
  if (baggage === undefined) {
    if (known.size >= maxKnown) known.clear();
    known.set(text, (baggage = Object.freeze(parseBaggage(lines))));
  }
  return baggage;
}

/**
 * Reads all `baggage` lines of a request. Unknown keys are skipped, later pairs overrule earlier ones, an empty value
 * takes the field back, and one line with anything but visible ASCII makes us believe none of it.
 */
export function parseBaggage(lines: readonly string[]): Baggage {
  const found: { -readonly [field in keyof Baggage]: string } = {};
  if (!lines.every(isVisible)) return found;
  for (const pair of lines.flatMap((line) => line.split(","))) {
    const [key = "", value] = pair.split("=");
    const field = fieldOfKey.get(key);
    if (field === undefined || value === undefined) continue;
    if (value === "") delete found[field];
    else found[field] = value;
  }
  return found;
}
