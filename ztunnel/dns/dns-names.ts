/** What a pod may mean by a name that it asks for. Pure; names are in lower case and without a final dot. */

export interface NameSettings {
  /** For example `cluster.local`. */
  readonly clusterDomain: string;
  /** The pod's namespace. */
  readonly namespace: string;
  /** Suffixes that resolvers add to names, as `search` in resolv.conf(5). */
  readonly searches: readonly string[];
}

export interface Alias {
  readonly name: string;
  /** The name without a search domain, where that is how it was reached. */
  readonly stripped?: string;
}

/** What the kubelet writes for a pod of that namespace. */
export const kubernetesSearches = (namespace: string, clusterDomain: string): readonly string[] => [
  `${namespace}.svc.${clusterDomain}`,
  `svc.${clusterDomain}`,
  clusterDomain,
];

/** The name, what it is short for, then the same without each search domain; each once. The first is mostly the one. */
export function* aliasesOf(name: string, settings: NameSettings): Generator<Alias> {
  const told = new Set<string>();
  for (const alias of allAliasesOf(name, settings)) {
    if (told.has(alias.name)) continue;
    told.add(alias.name);
    yield alias;
  }
}

function* allAliasesOf(name: string, settings: NameSettings): Generator<Alias> {
  yield { name };
  for (const long of expansionsOf(name, settings)) yield { name: long };
  for (const search of settings.searches) {
    if (!name.endsWith(search) || name.at(-search.length - 1) !== ".") continue;
    const stripped = name.slice(0, -search.length - 1);
    if (stripped === "") continue;
    yield { name: stripped, stripped };
    for (const long of expansionsOf(stripped, settings)) yield { name: long, stripped };
  }
}

/** Names of Kubernetes services that a name of few labels is short for. */
export function expansionsOf(
  name: string,
  { clusterDomain, namespace }: Pick<NameSettings, "clusterDomain" | "namespace">,
): readonly string[] {
  const endsInSvc = name.endsWith(".svc");
  switch (countLabels(name, 5)) {
    case 1:
      return [`${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3:
      return [...(endsInSvc ? [`${name}.${clusterDomain}`] : []), `${name}.svc.${clusterDomain}`];
    case 4:
      return endsInSvc ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

/** Counts no further than `enough`. */
function countLabels(name: string, enough: number): number {
  let count = 1;
  for (let dot = name.indexOf("."); dot >= 0 && count < enough; dot = name.indexOf(".", dot + 1)) count++;
  return count;
}

/** The wildcards that cover a name, narrowest first: for `a.b.c` they are `*.b.c` and `*.c`. */
export function* wildcardsOver(name: string): Generator<string> {
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) yield `*${name.slice(dot)}`;
}
