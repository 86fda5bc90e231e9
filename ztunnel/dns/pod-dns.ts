/** The DNS listeners of one pod, joined to what they need: sockets in its namespace, names of the mesh, resolvers. */
import { closeSync } from "node:fs";
import type { Clock } from "#shared/clock/clock.ts";
import { isIpv6, isLoopback, tryIp, type Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { ZtunnelConfig } from "#ztunnel/config.ts";
import { hasLoopbackIpv6 } from "#ztunnel/inpod/loopback-ipv6.ts";
import { bindDatagrams, connectInNamespace, listenInNamespace } from "#ztunnel/inpod/netns-sockets.ts";
import type { DnsReporter } from "#ztunnel/telemetry/dns-report.ts";
import { kubernetesSearches } from "./dns-names.ts";
import { DnsProxy, type PendingLimit } from "./dns-proxy.ts";
import type { ResolvConf } from "./resolv-conf.ts";
import { resolveName, type HostnameLookup } from "./resolve-name.ts";
import { dnsPort, upstreamDeadlineMs, type UpstreamSockets } from "./upstream-resolvers.ts";

/** What all pods of a ztunnel share. */
export interface DnsServices {
  /** Read anew for each pod. */
  readonly readResolvConf: () => ResolvConf;
  readonly pending: PendingLimit;
  readonly reporter: DnsReporter;
}

export interface PodDnsOptions {
  readonly pod: PodIdentity;
  /** undefined: our own namespace. */
  readonly netnsFd: number | undefined;
  readonly config: ZtunnelConfig;
  readonly services: DnsServices;
  readonly lookup: HostnameLookup;
  /** The pod as the mesh knows it now. A name needs no more than its namespace, so nobody waits to be known. */
  readonly workload: () => Workload | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** @throws MeshError SYSTEM_CALL_FAILED where a listener cannot be bound; then none is left open */
export async function openPodDns(options: PodDnsOptions): Promise<DnsProxy> {
  const { pod, config, services, lookup, workload, clock, log } = options;
  const { servers, searches } = services.readResolvConf();
  const settings = {
    clusterDomain: config.clusterDomain.toLowerCase(),
    namespace: pod.namespace,
    // The resolv.conf that we read is ours; only a pod that we share it with has the same search list.
    searches:
      config.mode.kind === "shared" ? kubernetesSearches(pod.namespace, config.clusterDomain.toLowerCase()) : searches,
    ipv6Enabled: config.ipv6Enabled,
    ...(config.preferredServiceNamespace !== undefined && { preferredNamespace: config.preferredServiceNamespace }),
  };
  // Asked for single names only, the control plane has not told which names there are.
  const knowsNames = !config.xdsOnDemand;
  return DnsProxy.open(openSockets(options), {
    upstream: { servers, port: dnsPort, sockets: upstreamSockets(options), clock },
    resolve: (question) =>
      knowsNames
        ? resolveName(question, lookup, { ...settings, network: workload()?.network ?? config.network })
        : { kind: "forward" },
    asker: () => ({ pod, workload: workload() }),
    pending: services.pending,
    reporter: services.reporter,
    clock,
    log,
    random: Math.random,
  });
}

/** Of the proxy: UDP and TCP on each address. */
function openSockets({ netnsFd, config }: PodDnsOptions) {
  const shared = {
    port: config.dns.port,
    reusePort: config.mode.kind === "shared" && config.inpodPortReuse,
    ...(config.packetMark !== undefined && { mark: config.packetMark }),
  };
  using undo = new DisposableStack();
  const datagrams = [];
  const listening = [];
  for (const ip of addressesOf(config, netnsFd)) {
    const socket = bindDatagrams(netnsFd, { ...shared, ip });
    undo.defer(() => socket.close());
    datagrams.push(socket);
    const listener = listenInNamespace(netnsFd, { ...shared, address: ip });
    undo.defer(() => closeSync(listener.fd));
    listening.push(listener);
  }
  undo.move();
  return { datagrams, listening };
}

function addressesOf({ dns, ipv6Enabled }: ZtunnelConfig, netnsFd: number | undefined): readonly Ip[] {
  const ip = tryIp(dns.host);
  if (ip !== undefined) return [ip];
  const loopback: readonly Ip[] = ["127.0.0.1" as Ip, "::1" as Ip];
  return ipv6Enabled && hasLoopbackIpv6(netnsFd) ? loopback : loopback.slice(0, 1);
}

/** Questions leave from the pod itself, marked, so that they are not captured again. */
function upstreamSockets({ netnsFd, config }: PodDnsOptions): UpstreamSockets {
  // A resolver on loopback is on ours.
  const namespaceFor = (server: Ip) => (isLoopback(server) ? undefined : netnsFd);
  const mark = config.packetMark;
  return {
    datagrams: (server) =>
      bindDatagrams(namespaceFor(server), { ip: (isIpv6(server) ? "::" : "0.0.0.0") as Ip, port: 0, mark }),
    stream: (server) =>
      connectInNamespace(
        namespaceFor(server),
        { ip: server, port: dnsPort, mark, keepAlive: "off" },
        upstreamDeadlineMs,
      ),
  };
}
