/** Finds what selects a set of labels without asking every selector. */
import { includesLabels } from "#controlplane/mesh/label-selector.ts";
import type { Labels } from "#controlplane/mesh/objects.ts";

interface Entry<T> {
  readonly selector: Labels;
  readonly value: T;
}

/** Items by namespace and by one label of their selector; each item is compared only where that label is present. */
export class SelectorIndex<T> {
  private readonly namespaces = new Map<string, Map<string, Entry<T>[]>>();

  /** An empty selector matches everything in its namespace. */
  add(namespace: string, selector: Labels, value: T): void {
    let buckets = this.namespaces.get(namespace);
    if (buckets === undefined) this.namespaces.set(namespace, (buckets = new Map()));
    const [first] = selector;
    const key = first === undefined ? "" : bucketKey(...first);
    const bucket = buckets.get(key);
    if (bucket === undefined) buckets.set(key, [{ selector, value }]);
    else bucket.push({ selector, value });
  }

  matching(namespace: string, labels: Labels): readonly T[] {
    const buckets = this.namespaces.get(namespace);
    if (buckets === undefined) return [];
    const found: T[] = [];
    collect(buckets.get(""), labels, found);
    for (const [name, value] of labels) collect(buckets.get(bucketKey(name, value)), labels, found);
    return found;
  }
}

const bucketKey = (name: string, value: string): string => `${name}=${value}`;

function collect<T>(bucket: readonly Entry<T>[] | undefined, labels: Labels, found: T[]): void {
  for (const { selector, value } of bucket ?? []) if (includesLabels(labels, selector)) found.push(value);
}
