/** A collection of objects of one kind, as the API server serves it. */
export interface Collection {
  readonly group: string;
  /** Versions that we can read, best first: an older installation may serve only the last. */
  readonly versions: readonly string[];
  readonly kind: string;
  readonly plural: string;
  /** Only objects of this namespace. */
  readonly namespace?: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
}

export function collectionPath({ group, plural, namespace }: Collection, version: string): string {
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  return namespace === undefined ? `${root}/${plural}` : `${root}/namespaces/${namespace}/${plural}`;
}

/** `authorizationpolicies.security.istio.io`, as CRDs are named. */
export const crdName = ({ group, plural }: Collection): string => `${plural}.${group}`;

/** Path of one object; `namespace` empty for cluster scope. */
export function objectPath(
  { group, version, plural }: { readonly group: string; readonly version: string; readonly plural: string },
  { namespace, name }: { readonly namespace: string; readonly name: string },
): string {
  const collection = { group, versions: [version], kind: "", plural, ...(namespace === "" ? {} : { namespace }) };
  return `${collectionPath(collection, version)}/${encodeURIComponent(name)}`;
}
