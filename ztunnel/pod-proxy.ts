/** The listeners of one pod, joined to what they need: sockets in its namespace, its identity, decisions, reports. */
import { closeSync } from "node:fs";
import type { CertificateManager } from "#shared/ca/certificate-manager.ts";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { Ip } from "#shared/net/ip.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { originalDestination } from "#shared/sockets/original-destination.ts";
import { decide, dryRunMatches, type Verdict } from "#shared/rbac/decide.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";
import type { Workload } from "#shared/workload/workload.ts";
import type { ZtunnelConfig } from "./config.ts";
import { openPodDns, type DnsServices } from "./dns/pod-dns.ts";
import { decideConnect, decidePlaintext, type InboundSelf } from "./inbound/decide-inbound.ts";
import { HboneInbound } from "./inbound/hbone-inbound.ts";
import type { DialTarget } from "./inbound/inbound-connection.ts";
import { PassthroughInbound } from "./inbound/passthrough-inbound.ts";
import { connectInNamespace, listenInNamespace, type KeepAlive } from "./inpod/netns-sockets.ts";
import type { PodProxyHandle } from "./inpod/pod-manager.ts";
import { decideOutbound, type OutboundDecision, type OutboundRequest } from "./outbound/decide-outbound.ts";
import { resolveDecision, type Resolver } from "./outbound/decide-with-resolver.ts";
import { OutboundProxy } from "./outbound/outbound-proxy.ts";
import { ConnectionTable, type InboundConnection, type OutboundConnection } from "./state/live-connections.ts";
import type { MeshState } from "./state/mesh-state.ts";
import type { ConnectionReporter } from "./telemetry/connection-record.ts";
import type { TrafficMetrics } from "./telemetry/traffic-metrics.ts";

/** What all pods of a ztunnel share. */
export interface PodProxyServices {
  readonly config: ZtunnelConfig;
  readonly state: MeshState;
  readonly certificates: CertificateManager;
  readonly reporter: ConnectionReporter;
  readonly traffic: TrafficMetrics;
  readonly resolve: Resolver;
  /** undefined: pods' names are none of our business. */
  readonly dns?: DnsServices;
  /** Brings in what a decision will look up, where the control plane is asked on demand. */
  readonly prepare?: (request: OutboundRequest) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of policies: dry-run matches. */
  readonly policyLog: Logger;
}

/** Ports that applications are redirected to, and that peers dial. */
export const ports = { outbound: 15_001, inboundPlaintext: 15_006, inboundHbone: 15_008, socks5: 15_080 } as const;

export interface PodProxy extends PodProxyHandle {
  readonly connections: ConnectionTable;
}

/** At the end of a drain, for questions that others are still asked. */
const lastQuestionsMs = 500;

/** Our own ports are never a destination. */
export const illegalPorts = ({ socks5Enabled }: ZtunnelConfig): ReadonlySet<number> =>
  new Set<number>([
    ports.outbound,
    ports.inboundPlaintext,
    ports.inboundHbone,
    ...(socks5Enabled ? [ports.socks5] : []),
  ]);

/**
 * Binds a pod's listeners and serves them.
 *
 * @param netnsFd the pod's network namespace; undefined means our own
 * @throws MeshError SYSTEM_CALL_FAILED where one cannot be bound; then none is left open
 */
export async function startPodProxy(
  { pod, netnsFd }: { readonly pod: PodIdentity; readonly netnsFd: number | undefined },
  services: PodProxyServices,
): Promise<PodProxy> {
  const { config, state, clock } = services;
  const log = services.log.child({ wl: `${pod.namespace}/${pod.name}` });
  const host = new PodHost(pod, netnsFd, services, log);
  const hbone = host.listen(ports.inboundHbone, undefined);
  const opened: (() => Promise<void> | void)[] = [() => closeSync(hbone.fd)];
  try {
    const plaintext = host.listen(ports.inboundPlaintext, keepAliveOf(config));
    opened.push(() => closeSync(plaintext.fd));
    const captured = host.listen(ports.outbound, keepAliveOf(config));
    opened.push(() => closeSync(captured.fd));

    const shared = { clock, log, live: host.connections, reporter: services.reporter, workload: host.workload };
    const certificate = host.certificate;
    const workloadAt = (ip: Ip) => state.workloads.workloadByAddress(config.network, ip);
    const windows = windowsOf(config);
    const inbound = await HboneInbound.open(hbone.fd, {
      ...shared,
      windows,
      allowTls12: config.tls12Enabled,
      certificate,
      network: config.network,
      usesBaggage: config.responseBaggage,
      workloadAt,
      decide: (request, workload) => decideConnect(request, state.workloads, host.self(workload)),
      dial: host.dialer(hbone.transparent),
    });
    opened[0] = () => inbound.stop({ deadlineMs: 0 });
    const passthrough = await PassthroughInbound.open(plaintext.fd, {
      ...shared,
      workloadAt,
      originalDestination,
      decide: (request, workload) => decidePlaintext(request, state.workloads, host.self(workload)),
      dial: host.dialer(plaintext.transparent),
    });
    opened[1] = () => passthrough.stop({ deadlineMs: 0 });
    const outbound = await OutboundProxy.open(captured.fd, {
      ...shared,
      windows,
      allowTls12: config.tls12Enabled,
      certificate,
      network: config.network,
      pool: { maxStreams: config.pool.maxStreamsPerConnection, idleMs: config.pool.idleMs },
      originalDestination,
      decide: host.decideOutbound,
      dial: host.dialer(false),
    });
    opened[2] = () => outbound.stop({ deadlineMs: 0 });
    const dns = services.dns && (await host.openDns(services.dns));
    const listeners = [inbound, passthrough, outbound];

    const forgetPolicies = state.onPolicyChange(() => host.connections.recheck());
    const forgetJoined = state.onJoined((addresses) => host.connections.joined(addresses));
    const stopAll = async (deadlineMs: number) => {
      const startedMs = clock.now();
      const ended = Promise.all(listeners.map((listener) => listener.stop({ deadlineMs })));
      // Names for as long as connections live: there may be no successor to answer for us.
      if (deadlineMs > 0) await ended;
      const leftMs = deadlineMs - (clock.now() - startedMs);
      await dns?.stop({ deadlineMs: deadlineMs > 0 ? Math.max(leftMs, lastQuestionsMs) : 0 });
      await ended;
      forgetPolicies();
      forgetJoined();
      host.connections[Symbol.dispose]();
    };
    return {
      connections: host.connections,
      drain: () => stopAll(config.drainDeadlineMs),
      stop: () => stopAll(0),
    };
  } catch (error) {
    for (const close of opened) await close();
    throw error;
  }
}

/**
 * Port 15008 in our own namespace, for our own workload: lets those inside the mesh read our metrics through a tunnel.
 * Sources are not kept, since nothing here is redirected.
 */
export async function startSelfProxy(pod: PodIdentity, services: PodProxyServices): Promise<PodProxy> {
  const { config, state, clock, log } = services;
  const host = new PodHost(pod, undefined, services, log);
  const hbone = host.listen(ports.inboundHbone, undefined);
  const inbound = await HboneInbound.open(hbone.fd, {
    clock,
    log,
    live: host.connections,
    reporter: services.reporter,
    workload: host.workload,
    windows: windowsOf(config),
    allowTls12: config.tls12Enabled,
    certificate: host.certificate,
    network: config.network,
    usesBaggage: config.responseBaggage,
    workloadAt: (ip) => state.workloads.workloadByAddress(config.network, ip),
    decide: (request, workload) => decideConnect(request, state.workloads, host.self(workload)),
    dial: host.dialer(false),
  });
  return {
    connections: host.connections,
    drain: () => inbound.stop({ deadlineMs: config.drainDeadlineMs }),
    stop: () => inbound.stop({ deadlineMs: 0 }),
  };
}

/** One pod: who it is, and sockets in its namespace. */
class PodHost {
  readonly connections = new ConnectionTable({
    inbound: (connection) => this.#check(connection),
    takesTunnel: (connection) => this.#takesTunnel(connection),
  });
  readonly #pod: PodIdentity;
  readonly #netnsFd: number | undefined;
  readonly #services: PodProxyServices;
  readonly #log: Logger;
  readonly #illegalPorts: ReadonlySet<number>;
  readonly #keepAlive: KeepAlive | "off";
  #known: Workload | undefined;
  #self: InboundSelf | undefined;

  constructor(pod: PodIdentity, netnsFd: number | undefined, services: PodProxyServices, log: Logger) {
    this.#pod = pod;
    this.#netnsFd = netnsFd;
    this.#services = services;
    this.#log = log;
    this.#illegalPorts = illegalPorts(services.config);
    this.#keepAlive = keepAliveOf(services.config) ?? "off";
  }

  listen(port: number, keepAlive: KeepAlive | undefined) {
    const { config } = this.#services;
    return listenInNamespace(this.#netnsFd, {
      address: config.ipv6Enabled ? "::" : "0.0.0.0",
      port,
      transparent: transparencyOf(config),
      reusePort: config.mode.kind === "shared" && config.inpodPortReuse,
      ...(config.packetMark !== undefined && { mark: config.packetMark }),
      ...(keepAlive !== undefined && { keepAlive }),
    });
  }

  openDns(dns: DnsServices) {
    const { config, state, clock } = this.#services;
    return openPodDns({
      pod: this.#pod,
      netnsFd: this.#netnsFd,
      config,
      services: dns,
      lookup: state.workloads,
      workload: this.#knownWorkload,
      clock,
      log: this.#log,
    });
  }

  /** The pod's workload as the mesh knows it now. */
  readonly workload = (): Workload | Promise<Workload> => this.#knownWorkload() ?? this.#awaitWorkload();

  readonly #knownWorkload = (): Workload | undefined => {
    const { workloads } = this.#services.state;
    const known = this.#known;
    if (known !== undefined && workloads.workloadByUid(known.uid) === known) return known;
    return (this.#known = workloads.localWorkload(this.#pod));
  };

  readonly certificate = (): WorkloadCertificate | Promise<WorkloadCertificate> => {
    const workload = this.workload();
    return workload instanceof Promise ? workload.then(this.#certificateOf) : this.#certificateOf(workload);
  };

  readonly decideOutbound = (request: OutboundRequest): OutboundDecision | Promise<OutboundDecision> => {
    const prepared = this.#services.prepare?.(request);
    return prepared === undefined ? this.#decide(request) : prepared.then(() => this.#decide(request));
  };

  /** The same object for as long as the workload stays the same. */
  self(workload: Workload): InboundSelf {
    if (this.#self?.workload !== workload) {
      const { network, localhostAppTunnel } = this.#services.config;
      this.#self = { workload, network, localhostAppTunnel, illegalPorts: this.#illegalPorts };
    }
    return this.#self;
  }

  /** @param keepSources whether callers' addresses can be kept */
  dialer(keepSources: boolean) {
    const mark = this.#services.config.packetMark;
    const onUnspoofed = (why: string) => this.#log.warn({ why }, "the caller's address cannot be kept");
    return ({ ip, port, sourceIp, sourcePort }: DialTarget) =>
      connectInNamespace(this.#netnsFd, {
        ip,
        port,
        sourceIp: keepSources ? sourceIp : undefined,
        sourcePort,
        mark,
        keepAlive: this.#keepAlive,
        onUnspoofed,
      });
  }

  async #awaitWorkload(): Promise<Workload> {
    const found = await this.#services.state.workloads.waitForLocalWorkload(this.#pod);
    if (found !== undefined) return found;
    const { namespace, name, serviceAccount } = this.#pod;
    throw new MeshError(
      "WORKLOAD_UNKNOWN",
      `unknown workload: "${namespace}/${name}" (service account "${serviceAccount}")`,
    );
  }

  readonly #certificateOf = ({ identity }: Workload): WorkloadCertificate | Promise<WorkloadCertificate> =>
    this.#services.certificates.current(identity) ?? this.#services.certificates.certificateFor(identity);

  #decide(request: OutboundRequest): OutboundDecision | Promise<OutboundDecision> {
    const { config, state, resolve, traffic } = this.#services;
    const decision = decideOutbound(request, state.workloads, {
      network: config.network,
      illegalPorts: this.#illegalPorts,
      random: Math.random,
    });
    if (decision.kind === "resolve") traffic.resolvedOnDemand(request.source, decision.hostname);
    return resolveDecision(decision, resolve, Math.random);
  }

  #takesTunnel({ source, actualDestination }: OutboundConnection): boolean {
    const workload = this.#knownWorkload();
    if (workload === undefined) return false;
    const decision = this.#decide({ source: workload, peerIp: source.ip, target: actualDestination });
    return !(decision instanceof Promise) && (decision.kind === "hbone" || decision.kind === "double-hbone");
  }

  /** For the destination as the mesh knows it now, so that a changed list of policies counts too. */
  #check({ destination, policyConnection }: InboundConnection): Verdict {
    const { state, policyLog, config } = this.#services;
    const current = state.workloads.workloadByUid(destination.uid) ?? destination;
    const set = state.policies.policiesFor(current);
    if (set.dryRun.length > 0) {
      for (const { key, action } of dryRunMatches(set, policyConnection)) {
        policyLog[config.authzInfoLogging ? "info" : "debug"](
          { policy: key, action, src: policyConnection.sourceIp, dstPort: policyConnection.destinationPort },
          "dry-run policy matched",
        );
      }
    }
    return decide(set, policyConnection);
  }
}

function transparencyOf({ originalSource }: ZtunnelConfig): "best-effort" | "required" | "off" {
  if (originalSource === undefined) return "best-effort";
  return originalSource ? "required" : "off";
}

function keepAliveOf({ keepalive }: ZtunnelConfig): KeepAlive | undefined {
  if (!keepalive.enabled) return undefined;
  return {
    idleSeconds: Math.max(Math.round(keepalive.idleMs / 1_000), 1),
    intervalSeconds: Math.max(Math.round(keepalive.intervalMs / 1_000), 1),
    probes: keepalive.probes,
    userTimeout: keepalive.userTimeout,
  };
}

const windowsOf = ({ http2 }: ZtunnelConfig) => ({
  streamBytes: http2.streamWindowBytes,
  connectionBytes: http2.connectionWindowBytes,
  maxFrameBytes: http2.maxFrameBytes,
});
