/** The files below /etc that a pod gets from the kubelet. */
import { clusterDomain } from "../dns/cluster-names.ts";
import { dnsServiceIp } from "../network/plan.ts";
import type { Pod } from "../kinds.ts";

/** Linux takes three name servers (resolv.conf(5), MAXNS). */
const maxNameServers = 3;

/** @param nodeNameServer what a pod with the node's own DNS settings asks */
export function resolvConf(pod: Pod, nodeNameServer: string): string {
  const { spec, metadata } = pod;
  const asked = spec.dnsPolicy ?? "ClusterFirst";
  const policy = spec.hostNetwork === true && asked === "ClusterFirst" ? "Default" : asked;
  const usesCluster = policy === "ClusterFirst" || policy === "ClusterFirstWithHostNet";
  const base = usesCluster
    ? {
        servers: [dnsServiceIp.v4],
        searches: [`${metadata.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain],
        options: [["ndots", "5"] as const],
      }
    : { servers: policy === "None" ? [] : [nodeNameServer], searches: [], options: [] };
  const { nameservers = [], searches = [], options = [] } = spec.dnsConfig ?? {};
  const servers = [...new Set([...base.servers, ...nameservers])].slice(0, maxNameServers);
  const allSearches = [...new Set([...base.searches, ...searches])];
  const allOptions = new Map<string, string | undefined>([
    ...base.options,
    ...options.map(({ name, value }) => [name, value] as const),
  ]);
  return [
    ...servers.map((server) => `nameserver ${server}`),
    ...(allSearches.length === 0 ? [] : [`search ${allSearches.join(" ")}`]),
    ...(allOptions.size === 0
      ? []
      : [
          `options ${[...allOptions].map(([name, value]) => (value === undefined ? name : `${name}:${value}`)).join(" ")}`,
        ]),
    "",
  ].join("\n");
}

export function hostName({ spec, metadata }: Pod): string {
  return (spec.hostname ?? metadata.name).slice(0, 63);
}

export function hostsFile(pod: Pod, podIps: readonly string[]): string {
  const { subdomain } = pod.spec;
  const name = hostName(pod);
  const full = subdomain === undefined ? [] : [`${name}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}`];
  return [
    "# Written by the sandbox's kubelet",
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
    ...podIps.map((ip) => [ip, ...full, name].join("\t")),
    ...(pod.spec.hostAliases ?? []).map(({ ip, hostnames = [] }) => [ip, ...hostnames].join("\t")),
    "",
  ].join("\n");
}
