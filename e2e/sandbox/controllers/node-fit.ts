/** Where a pod may run. Pure. */
import type { LabelSelectorSpec, Node, NodeSelectorTerm, Pod, PodSpec } from "../kinds.ts";
import { selects } from "./owned-pods.ts";

/** What `nodeSelector` and required node affinity say. Taints are not modelled: the sandbox's nodes have none. */
export function fitsNode(spec: PodSpec, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  const chosen = Object.entries(spec.nodeSelector ?? {}).every(([key, value]) => labels[key] === value);
  const terms = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return chosen && (terms === undefined || terms.some((term) => matchesTerm(term, node)));
}

function matchesTerm({ matchExpressions = [], matchFields = [] }: NodeSelectorTerm, node: Node): boolean {
  if (matchExpressions.length === 0 && matchFields.length === 0) return false;
  const fields = { "metadata.name": node.metadata.name };
  return selects({ matchExpressions }, node.metadata.labels) && selects({ matchExpressions: matchFields }, fields);
}

export interface ScheduleView {
  readonly nodes: readonly Node[];
  /** Pods that are bound to a node and not over. */
  readonly placed: readonly Pod[];
}

export type Placement = { readonly node: string } | { readonly refused: string };

/** The best node: the one that spreads what the pod asks to spread, then its siblings, then all pods, most evenly. */
export function placePod(pod: Pod, { nodes, placed }: ScheduleView): Placement {
  const counts = { total: nodes.length, unschedulable: 0, unfit: 0, crowded: 0 };
  const candidates = nodes.filter((node) => {
    if (node.spec?.unschedulable === true) counts.unschedulable++;
    else if (!fitsNode(pod.spec, node)) counts.unfit++;
    else if (isCrowded(pod, node, { nodes, placed })) counts.crowded++;
    else return true;
    return false;
  });
  const best = candidates
    .map((node) => ({ name: node.metadata.name, score: score(pod, node, { nodes, placed }) }))
    .toSorted((a, b) => compareScores(a.score, b.score) || a.name.localeCompare(b.name, "en", { numeric: true }))[0];
  if (best !== undefined) return { node: best.name };
  const reasons = [
    counts.unschedulable > 0 ? `${counts.unschedulable} node(s) were unschedulable` : "",
    counts.unfit > 0 ? `${counts.unfit} node(s) didn't match Pod's node affinity/selector` : "",
    counts.crowded > 0 ? `${counts.crowded} node(s) didn't match pod anti-affinity or topology spread constraints` : "",
  ].filter((reason) => reason !== "");
  return { refused: `0/${counts.total} nodes are available: ${reasons.join(", ")}.` };
}

/** Pods per value of a topology key, among nodes that have it. */
function spread(
  key: string,
  selector: LabelSelectorSpec | undefined,
  namespace: string | undefined,
  view: ScheduleView,
): Map<string, number> {
  const domainOf = new Map(view.nodes.map(({ metadata }) => [metadata.name, metadata.labels?.[key]]));
  const counts = new Map<string, number>();
  for (const domain of domainOf.values()) if (domain !== undefined) counts.set(domain, 0);
  for (const { metadata, spec } of view.placed) {
    const domain = domainOf.get(spec.nodeName ?? "");
    const isCounted = selector !== undefined && metadata.namespace === namespace && selects(selector, metadata.labels);
    if (domain !== undefined && isCounted) counts.set(domain, (counts.get(domain) ?? 0) + 1);
  }
  return counts;
}

function isCrowded(pod: Pod, node: Node, view: ScheduleView): boolean {
  const { namespace } = pod.metadata;
  const labels = node.metadata.labels ?? {};
  const terms = pod.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const isRepelled = terms.some(({ topologyKey, labelSelector }) => {
    const domain = labels[topologyKey];
    return domain !== undefined && (spread(topologyKey, labelSelector, namespace, view).get(domain) ?? 0) > 0;
  });
  const constraints = pod.spec.topologySpreadConstraints ?? [];
  return (
    isRepelled ||
    constraints.some(({ topologyKey, labelSelector, maxSkew, whenUnsatisfiable }) => {
      if (whenUnsatisfiable !== "DoNotSchedule") return false;
      const domain = labels[topologyKey];
      if (domain === undefined) return true;
      const counts = spread(topologyKey, labelSelector, namespace, view);
      return (counts.get(domain) ?? 0) + 1 - Math.min(...counts.values()) > maxSkew;
    })
  );
}

function score(pod: Pod, node: Node, view: ScheduleView): readonly number[] {
  const { name, labels = {} } = node.metadata;
  const wished = (pod.spec.topologySpreadConstraints ?? []).reduce((sum, { topologyKey, labelSelector }) => {
    return sum + (spread(topologyKey, labelSelector, pod.metadata.namespace, view).get(labels[topologyKey] ?? "") ?? 0);
  }, 0);
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid;
  const here = view.placed.filter(({ spec }) => spec.nodeName === name);
  const siblings =
    owner === undefined
      ? 0
      : here.filter(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === owner)).length;
  return [wished, siblings, here.length];
}

function compareScores(a: readonly number[], b: readonly number[]): number {
  for (const [at, value] of a.entries()) {
    const difference = value - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
