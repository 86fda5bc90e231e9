/** Finds what selects a set of labels without asking every selector. */
import { includesLabels } from "#controlplane/mesh/label-selector.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";

export interface Selecting<T> {
  readonly namespace: string;
  /** An empty one selects everything in its namespace. */
  readonly selector: Labels;
  readonly value: T;
}

/** Items by namespace and by one label of their selector; each is compared only where that label is present. */
export class SelectorIndex<T> {
  private readonly namespaces = new Map<string, Map<string, Selecting<T>[]>>();

  constructor(items: readonly Selecting<T>[]) {
    const uses = new Map<string, number>();
    for (const { namespace, selector } of items) {
      for (const [name, value] of selector) {
        const key = `${namespace}/${bucketKey(name, value)}`;
        uses.set(key, (uses.get(key) ?? 0) + 1);
      }
    }
    for (const item of items) {
      const { namespace, selector } = item;
      // The rarest label says most: a label that all share would put everything into one bucket.
      let best = "";
      let fewest = Number.POSITIVE_INFINITY;
      for (const [name, value] of selector) {
        const key = bucketKey(name, value);
        const count = uses.get(`${namespace}/${key}`) ?? 0;
        if (count < fewest) [best, fewest] = [key, count];
      }
      this.put(namespace, best, item);
    }
  }

  matching(namespace: string, labels: Labels): readonly T[] {
    const buckets = this.namespaces.get(namespace);
    if (buckets === undefined) return [];
    const found: T[] = [];
    collect(buckets.get(""), labels, found);
    for (const [name, value] of labels) collect(buckets.get(bucketKey(name, value)), labels, found);
    return found;
  }

  private put(namespace: string, key: string, item: Selecting<T>): void {
    let buckets = this.namespaces.get(namespace);
    if (buckets === undefined) this.namespaces.set(namespace, (buckets = new Map()));
    const bucket = buckets.get(key);
    if (bucket === undefined) buckets.set(key, [item]);
    else bucket.push(item);
  }
}

const bucketKey = (name: string, value: string): string => `${name}=${value}`;

function collect<T>(bucket: readonly Selecting<T>[] | undefined, labels: Labels, found: T[]): void {
  if (bucket === undefined) return;
  for (const { selector, value } of bucket) if (includesLabels(labels, selector)) found.push(value);
}
