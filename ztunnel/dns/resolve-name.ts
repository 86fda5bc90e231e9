/** What the mesh answers to a question for addresses, or that others have to. Pure: no I/O, no clock. */
import { isIpv6, type Ip } from "#shared/net/ip.ts";
import type { ServiceEntry } from "#shared/workload/lookup.ts";
import type { Service } from "#shared/workload/workload.ts";
import { aliasesOf, wildcardsOver, type NameSettings } from "./dns-names.ts";

/** A question for the addresses of one family. */
export interface AddressQuestion {
  /** In lower case, without a final dot. */
  readonly name: string;
  readonly family: 4 | 6;
}

/** What resolution may ask of the mesh's state. */
export interface HostnameLookup {
  /** All services of that hostname, first seen first. */
  servicesByHostname(hostname: string): Iterable<ServiceEntry>;
  /** Whether any hostname is one: mostly none is, and looking for them takes longest. */
  readonly hasWildcards: boolean;
}

export interface ResolveSettings extends NameSettings {
  /** The network that the pod is on: addresses of others mean nothing here. */
  readonly network: string;
  readonly ipv6Enabled: boolean;
  /** Wins where several namespaces have the hostname and none is the pod's own or canonical. */
  readonly preferredNamespace?: string;
}

export type Resolution =
  | { readonly kind: "forward" }
  | {
      readonly kind: "answer";
      readonly service: Service;
      /** Empty: the name exists, and has no address of this family. */
      readonly ips: readonly Ip[];
      /** What the name stands for: the asker's own, less a search domain. */
      readonly alias?: string;
      readonly why: "success" | "no records" | "family not supported";
    };

export function resolveName(
  { name, family }: AddressQuestion,
  lookup: HostnameLookup,
  settings: ResolveSettings,
): Resolution {
  for (const { name: meant, stripped } of aliasesOf(name, settings)) {
    const exact = bestOf(lookup.servicesByHostname(meant), settings);
    if (exact !== undefined) return answerOf(exact, family, settings, stripped);
    if (!lookup.hasWildcards) continue;
    for (const wildcard of wildcardsOver(meant)) {
      const covering = bestOf(lookup.servicesByHostname(wildcard), settings);
      // Said of the name itself: a wildcard is nobody's other name.
      if (covering !== undefined) return answerOf(covering, family, settings, undefined);
    }
  }
  return { kind: "forward" };
}

function answerOf(
  entry: ServiceEntry,
  family: 4 | 6,
  settings: ResolveSettings,
  alias: string | undefined,
): Resolution {
  const { service } = entry;
  if (!speaks(service, family, settings)) return { kind: "answer", service, ips: [], why: "family not supported" };
  const ips = addressesOf(entry, family, settings);
  if (ips.length === 0) return { kind: "answer", service, ips, why: "no records" };
  return { kind: "answer", service, ips, ...(alias !== undefined && { alias }), why: "success" };
}

/** The pod's own namespace, then canonical (the last of several), then the preferred one, then the first seen. */
function bestOf(entries: Iterable<ServiceEntry>, settings: ResolveSettings): ServiceEntry | undefined {
  let canonical: ServiceEntry | undefined;
  let preferred: ServiceEntry | undefined;
  let first: ServiceEntry | undefined;
  for (const entry of entries) {
    const { service } = entry;
    if (!isAnswerable(service, settings)) continue;
    if (service.namespace === settings.namespace) return entry;
    if (service.canonical) canonical = entry;
    if (service.namespace === settings.preferredNamespace) preferred ??= entry;
    first ??= entry;
  }
  return canonical ?? preferred ?? first;
}

/** Without an address of its own only a headless service of the cluster has some to give: its pods'. */
function isAnswerable(
  { vips, hostname, visibility, namespace }: Service,
  { clusterDomain, namespace: own }: ResolveSettings,
): boolean {
  if (visibility === "NAMESPACE" && namespace !== own) return false;
  return vips.length > 0 || hostname.endsWith(`.svc.${clusterDomain}`);
}

function speaks({ ipFamilies }: Service, family: 4 | 6, { ipv6Enabled }: ResolveSettings): boolean {
  if (family === 6) return ipv6Enabled && ipFamilies !== "IPV4_ONLY";
  return ipFamilies !== "IPV6_ONLY";
}

function addressesOf({ service, endpoints }: ServiceEntry, family: 4 | 6, { network }: ResolveSettings): readonly Ip[] {
  const isWanted = (ip: Ip): boolean => isIpv6(ip) === (family === 6);
  if (service.vips.length > 0) {
    return service.vips.filter((vip) => vip.network === network && isWanted(vip.ip)).map(({ ip }) => ip);
  }
  const ips = new Set<Ip>();
  for (const { workload } of endpoints.values()) {
    const ip = workload.network === network ? workload.addresses.find(isWanted) : undefined;
    if (ip !== undefined) ips.add(ip);
  }
  return [...ips];
}
