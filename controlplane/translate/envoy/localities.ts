/** Which endpoints are tried first, by where they are: priorities for failover, and shares by locality. */
import { regionLabel, subzoneLabel, zoneLabel, networkLabel } from "#controlplane/translate/annotations.ts";
import { LoadBalancing_Mode as Mode, LoadBalancing_Scope as Scope } from "#shared/proto/gen/workload/workload_pb.js";
import type { LocalitySetting } from "#controlplane/mesh/destination-rule.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { EnvoyContext, ProxyFacts } from "./context.ts";
import type { EffectivePolicy } from "./destination-rules.ts";

/** Something that is somewhere. */
export interface Placed {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
  readonly network: string;
  readonly node: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly weight: number;
}

/** Endpoints of one place and priority. */
export interface LocalityGroup<T extends Placed> {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
  readonly priority: number;
  readonly weight: number;
  readonly endpoints: readonly T[];
}

const hostnameLabel = "kubernetes.io/hostname";

/** What a Service prefers, as labels in order. */
const scopeLabels: ReadonlyMap<Scope, string> = new Map([
  [Scope.NETWORK, networkLabel],
  [Scope.REGION, regionLabel],
  [Scope.ZONE, zoneLabel],
  [Scope.SUBZONE, subzoneLabel],
  [Scope.NODE, hostnameLabel],
]);

export interface LocalityChoice {
  readonly setting: LocalitySetting;
  /** Priorities hold even where unhealthy endpoints are never taken out. */
  readonly isForced: boolean;
}

/** The first that says something: the rule, the service, the mesh. undefined: all places are alike. */
export function localityChoice(
  { meshConfig }: EnvoyContext,
  { message }: ServiceInfo,
  { loadBalancer }: EffectivePolicy,
): LocalityChoice | undefined {
  const enabled = (setting: LocalitySetting, isForced: boolean): LocalityChoice | undefined =>
    setting.enabled ? { setting, isForced } : undefined;
  // Waypoints balance by failover where zones are asked for.
  if (loadBalancer?.zoneAware !== undefined) return enabled(loadBalancer.zoneAware, true);
  if (loadBalancer?.locality !== undefined) return enabled(loadBalancer.locality, false);
  const preference =
    message.loadBalancing?.mode === Mode.FAILOVER ? message.loadBalancing.routingPreference : undefined;
  if (preference !== undefined) {
    const failoverPriority = preference.map((scope) => scopeLabels.get(scope)).filter((label) => label !== undefined);
    return { setting: { enabled: true, distribute: [], failover: [], failoverPriority }, isForced: true };
  }
  if (meshConfig.zoneAware !== undefined) return enabled(meshConfig.zoneAware, true);
  return enabled(meshConfig.locality, false);
}

export function balanceLocalities<T extends Placed>(
  context: EnvoyContext,
  service: ServiceInfo,
  policy: EffectivePolicy,
  endpoints: readonly T[],
): readonly LocalityGroup<T>[] {
  const choice = localityChoice(context, service, policy);
  if (choice === undefined) return grouped(endpoints, () => 0);
  const { setting, isForced } = choice;
  if (setting.distribute.length > 0)
    return distributed(
      context.proxy,
      setting,
      grouped(endpoints, () => 0),
    );
  if (!isForced && policy.outlierDetection === undefined) return grouped(endpoints, () => 0);
  return grouped(endpoints, priorities(context.proxy, setting));
}

function priorities({ ...proxy }: ProxyFacts, { failover, failoverPriority }: LocalitySetting) {
  const byRegion = (endpoint: Placed): number => regionLevel(proxy, endpoint, failover);
  if (failoverPriority.length === 0) return byRegion;
  const own = proxyLabels(proxy);
  const byLabels = (endpoint: Placed): number => labelLevel(own, endpoint, failoverPriority);
  if (failover.length === 0) return byLabels;
  return (endpoint: Placed): number => byLabels(endpoint) * 5 + byRegion(endpoint);
}

function regionLevel(
  proxy: ProxyFacts,
  { region, zone, subzone }: Placed,
  failover: LocalitySetting["failover"],
): number {
  if (region === proxy.region) {
    if (zone !== proxy.zone) return 2;
    return subzone === proxy.subzone ? 0 : 1;
  }
  const rule = failover.find(({ from }) => from === proxy.region);
  return rule === undefined || rule.to === region ? 3 : 4;
}

const proxyLabels = (proxy: ProxyFacts): ReadonlyMap<string, string> =>
  withPlace(proxy.labels, { ...proxy, weight: 1 });

const withPlace = (labels: ReadonlyMap<string, string>, placed: Placed): ReadonlyMap<string, string> =>
  new Map([
    ...labels,
    [networkLabel, placed.network],
    [regionLabel, placed.region],
    [zoneLabel, placed.zone],
    [subzoneLabel, placed.subzone],
    [hostnameLabel, placed.node],
  ]);

/** The more of the labels agree, from the first on, the better. Another network is behind everything in this one. */
function labelLevel(own: ReadonlyMap<string, string>, endpoint: Placed, wanted: readonly string[]): number {
  const labels = withPlace(endpoint.labels, endpoint);
  let base = 0;
  for (const [index, text] of wanted.entries()) {
    const equals = text.indexOf("=");
    const key = equals < 0 ? text : text.slice(0, equals);
    const value = equals < 0 ? (own.get(key) ?? "") : text.slice(equals + 1);
    if ((labels.get(key) ?? "") === value) continue;
    if (index > 0 || key !== networkLabel) return base + wanted.length - index;
    base = wanted.length;
  }
  return base;
}

/** By place and level; levels become 0, 1, 2 … without gaps, as Envoy wants them. */
function grouped<T extends Placed>(endpoints: readonly T[], levelOf: (endpoint: T) => number): LocalityGroup<T>[] {
  const groups = new Map<string, { level: number; endpoints: T[] }>();
  for (const endpoint of endpoints) {
    const level = levelOf(endpoint);
    const key = JSON.stringify([level, endpoint.region, endpoint.zone, endpoint.subzone]);
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { level, endpoints: [endpoint] });
    else known.endpoints.push(endpoint);
  }
  const levels = [...new Set([...groups.values()].map(({ level }) => level))].sort((a, b) => a - b);
  return [...groups.values()]
    .sort((a, b) => a.level - b.level)
    .flatMap(({ level, endpoints: members }) => {
      const [first] = members;
      if (first === undefined) return [];
      const { region, zone, subzone } = first;
      const weight = members.reduce((sum, each) => sum + each.weight, 0);
      return [{ region, zone, subzone, priority: levels.indexOf(level), weight, endpoints: members }];
    });
}

/** Shares of places as the first rule for our own place gives them; places without a share get nothing. */
function distributed<T extends Placed>(
  proxy: ProxyFacts,
  { distribute }: LocalitySetting,
  groups: readonly LocalityGroup<T>[],
): readonly LocalityGroup<T>[] {
  const rule = distribute.find(({ from }) => isWithin(proxy, from));
  if (rule === undefined) return groups;
  const shares = new Map<LocalityGroup<T>, number>();
  for (const [to, percent] of rule.to) {
    const matching = groups.filter((group) => isWithin(group, to));
    const total = matching.reduce((sum, { weight }) => sum + weight, 0);
    for (const group of matching) shares.set(group, Math.ceil((group.weight * percent) / total));
  }
  return groups.flatMap((group) => {
    const weight = shares.get(group);
    return weight === undefined ? [] : [{ ...group, weight }];
  });
}

/** Whether a place is meant by `region/zone/subzone`, of which the end may be left out or be `*`. */
function isWithin(
  { region, zone, subzone }: { readonly region: string; readonly zone: string; readonly subzone: string },
  pattern: string,
): boolean {
  const [wantedRegion = "", wantedZone = "", wantedSubzone = ""] = pattern.split("/");
  if (wantedRegion !== "*" && wantedRegion !== region) return false;
  if (!["*", "", zone].includes(wantedZone)) return false;
  return ["*", "", subzone].includes(wantedSubzone);
}
