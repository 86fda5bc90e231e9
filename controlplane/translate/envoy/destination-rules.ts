/** Which DestinationRule holds for a destination as a waypoint sees it, and what it says of a port and a subset. */
import { includesLabels } from "#controlplane/mesh/label-selector.ts";
import type { MeshConfig } from "#controlplane/mesh/mesh-config.ts";
import type { DestinationRule, Labels, Meta } from "#controlplane/mesh/objects.ts";
import type { ConsistentHash, PortPolicy, Subset, TrafficPolicy } from "#controlplane/mesh/destination-rule.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import type { Collected } from "#controlplane/translate/collected.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { isOlder } from "#controlplane/translate/status.ts";
import { fullHost, hostCovers, isWildcardHost } from "./hosts.ts";

/** Rules for one host, merged. */
export interface MergedRule {
  readonly meta: Meta;
  readonly host: string;
  readonly policy: TrafficPolicy | undefined;
  readonly subsets: readonly Subset[];
  readonly exportTo: readonly string[];
  readonly workloadSelector: ReadonlyMap<string, string> | undefined;
}

/** What holds for one port of one subset. */
export type EffectivePolicy = Omit<TrafficPolicy, "ports">;

export const noPolicy: EffectivePolicy = {
  loadBalancer: undefined,
  connectionPool: undefined,
  outlierDetection: undefined,
  tls: undefined,
  tunnel: undefined,
  proxyProtocol: undefined,
  retryBudget: undefined,
};

/** Who calls, as far as rules tell callers apart. */
export interface Caller {
  readonly collected: Collected;
  readonly meshConfig: Pick<MeshConfig, "rootNamespace">;
  readonly waypoint: { readonly namespace: string };
  readonly proxy: { readonly labels: Labels };
}

/** The rule for a destination; the first namespace that has one decides, and nothing is merged across namespaces. */
export function ruleFor(context: Caller, service: ServiceInfo): MergedRule | undefined {
  const index = rulesOf(context.collected);
  const { rootNamespace } = context.meshConfig;
  const client = context.waypoint.namespace;
  const isExported = ({ exportTo }: MergedRule): boolean => exportTo.includes("*") || exportTo.includes(client);
  const isPrivate = ({ exportTo }: MergedRule): boolean => exportTo.every((each) => each === rootNamespace);
  const find = (namespace: string, admits: (rule: MergedRule) => boolean): readonly MergedRule[] =>
    mostSpecific(index.get(namespace)?.filter((rule) => admits(rule)) ?? [], service.hostname);

  const candidates = [
    () => (client === rootNamespace ? find(client, isPrivate) : find(client, isExported)),
    () => find(service.meta.namespace, isExported),
    () => find(rootNamespace, isExported),
  ];
  for (const each of candidates) {
    const rules = each();
    if (rules.length === 0) continue;
    return (
      rules.find(
        ({ workloadSelector: labels }) => labels !== undefined && includesLabels(context.proxy.labels, labels),
      ) ?? rules.find(({ workloadSelector }) => workloadSelector === undefined)
    );
  }
  return undefined;
}

/** The same as the service's own waypoint sees it, whatever its labels; where it has none, as its own namespace does. */
export function ownRuleOf(collected: Collected, service: ServiceInfo): MergedRule | undefined {
  const { binding, meta } = service;
  const waypoint = binding.kind === "bound" ? binding.waypoint : meta;
  return ruleFor(
    { collected, meshConfig: collected.world.meshConfig, waypoint, proxy: { labels: new Map() } },
    service,
  );
}

/** Of the hosts that match: the exact one, else the longest wildcard. */
function mostSpecific(rules: readonly MergedRule[], hostname: string): readonly MergedRule[] {
  let host: string | undefined;
  for (const rule of rules) {
    if (!hostCovers(rule.host, hostname)) continue;
    if (host === undefined || isMoreSpecific(rule.host, host)) host = rule.host;
  }
  return host === undefined ? [] : rules.filter((rule) => rule.host === host);
}

function isMoreSpecific(a: string, b: string): boolean {
  if (isWildcardHost(a) !== isWildcardHost(b)) return !isWildcardHost(a);
  return a.length > b.length;
}

const indexes = new WeakMap<Collected, ReadonlyMap<string, readonly MergedRule[]>>();

/** All rules by namespace, merged where several speak of one host. */
function rulesOf(collected: Collected): ReadonlyMap<string, readonly MergedRule[]> {
  let index = indexes.get(collected);
  if (index === undefined) {
    index = mergeAll(collected.world, collected.options.domain);
    indexes.set(collected, index);
  }
  return index;
}

function mergeAll(world: WorldView, domain: string): ReadonlyMap<string, readonly MergedRule[]> {
  const groups = new Map<string, MergedRule>();
  const eldestFirst = [...world.all("DestinationRule")].sort((a, b) => (isOlder(a.meta, b.meta) ? -1 : 1));
  for (const written of eldestFirst) {
    const rule = mergeable(written, world, domain);
    const key = JSON.stringify([
      rule.meta.namespace,
      rule.host,
      [...rule.exportTo].sort(),
      rule.workloadSelector && [...rule.workloadSelector].map((pair) => pair.join("=")).sort(),
    ]);
    const known = groups.get(key);
    groups.set(key, known === undefined ? rule : merge(known, rule));
  }
  const index = new Map<string, MergedRule[]>();
  for (const rule of groups.values()) {
    const rules = index.get(rule.meta.namespace);
    if (rules === undefined) index.set(rule.meta.namespace, [rule]);
    else rules.push(rule);
  }
  return index;
}

function mergeable(rule: DestinationRule, { meshConfig }: WorldView, domain: string): MergedRule {
  const { meta, workloadSelector } = rule;
  const written = rule.exportTo.length > 0 ? rule.exportTo : meshConfig.defaultDestinationRuleExportTo;
  // A rule for certain clients never leaves its namespace.
  const exportTo = workloadSelector === undefined ? written : ["."];
  return {
    meta,
    host: fullHost(rule.host, meta.namespace, domain),
    policy: rule.policy,
    subsets: withoutRepeats(rule.subsets),
    exportTo: exportTo.map((each) => (each === "." ? meta.namespace : each)),
    workloadSelector,
  };
}

/** The older one comes first: its policy holds, and its subsets where names are equal. */
const merge = (older: MergedRule, younger: MergedRule): MergedRule => ({
  ...older,
  policy: older.policy ?? younger.policy,
  subsets: withoutRepeats([...older.subsets, ...younger.subsets]),
});

const withoutRepeats = (subsets: readonly Subset[]): readonly Subset[] =>
  subsets.filter(({ name }, index) => subsets.findIndex((each) => each.name === name) === index);

/** Settings of a port take the place of all others of the policy; what they do not name falls back to defaults. */
const atPort = (policy: TrafficPolicy | undefined, port: number): { level: EffectivePolicy; isOfPort: boolean } => {
  const own = policy?.ports.get(port);
  if (own !== undefined) return { level: { ...noPolicy, ...own }, isOfPort: true };
  return { level: policy ?? noPolicy, isOfPort: false };
};

/** Members are never merged with each other: the nearest one that is there holds whole. */
export function effectivePolicy(rule: MergedRule | undefined, port: number, subsetName: string): EffectivePolicy {
  if (rule === undefined) return noPolicy;
  const { level: whole } = atPort(rule.policy, port);
  const subset = subsetName === "" ? undefined : rule.subsets.find(({ name }) => name === subsetName);
  if (subset?.policy === undefined) return whole;
  const { level: own, isOfPort } = atPort(subset.policy, port);
  const member = <K extends keyof PortPolicy>(key: K): EffectivePolicy[K] =>
    isOfPort ? own[key] : (own[key] ?? whole[key]);
  return {
    loadBalancer: member("loadBalancer"),
    connectionPool: member("connectionPool"),
    outlierDetection: member("outlierDetection"),
    tls: member("tls"),
    tunnel: own.tunnel ?? whole.tunnel,
    proxyProtocol: own.proxyProtocol ?? whole.proxyProtocol,
    retryBudget: own.retryBudget ?? whole.retryBudget,
  };
}

/** What requests are hashed by: routes look for it in another order than clusters do. */
export function consistentHash(
  rule: MergedRule | undefined,
  port: number,
  subsetName: string,
): ConsistentHash | undefined {
  const subset = rule?.subsets.find(({ name }) => name === subsetName)?.policy;
  const levels = [subset?.ports.get(port), subset, rule?.policy?.ports.get(port), rule?.policy];
  return levels.map((level) => level?.loadBalancer?.consistentHash).find((hash) => hash !== undefined);
}
