/** The whole of a waypoint, in the order in which it starts; it stops in reverse. */
import { CertificateManager, type CertificateSource } from "#shared/ca/certificate-manager.ts";
import { RootWatch } from "#shared/ca/root-watch.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { parseRootSource } from "#shared/grpc/control-plane-channel.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { tryIp, type Ip } from "#shared/net/ip.ts";
import { adminRoutes } from "#shared/observe/http-servers/admin-routes.ts";
import { metricsRoutes } from "#shared/observe/http-servers/metrics-routes.ts";
import { openHttpServer, type HttpReply, type HttpRequest } from "#shared/observe/http-servers/open-server.ts";
import { readinessRoutes } from "#shared/observe/http-servers/readiness-routes.ts";
import type { Logging } from "#shared/observe/logging.ts";
import { MetricsRegistry } from "#shared/observe/metrics.ts";
import { registerProcessMetrics } from "#shared/observe/process-metrics.ts";
import { WorkloadStore } from "#shared/workload/workload-store.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import type { WaypointConfig } from "./config.ts";
import { openCa, openXds } from "./control-plane.ts";
import { HboneIngress } from "./ingress/hbone-ingress.ts";
import { ListenerSet } from "./ingress/listener-set.ts";
import { layerKinds, networkLayerKinds } from "./layers/registry.ts";
import { certificateOf, certificateStates, certificateThere } from "./own-certificate.ts";
import { openTelemetry } from "./telemetry/open-telemetry.ts";
import { observeProxy } from "./telemetry/metrics/proxy-metrics.ts";
import type { NodeFacts } from "./expressions/attributes.ts";
import { WorkloadPeers } from "./telemetry/peers.ts";
import { Secrets } from "./upstream/secrets.ts";
import { clusterStatuses, dumpClusters } from "./upstream/cluster-dump.ts";
import { ClusterSet } from "./upstream/cluster-set.ts";
import { createConnector } from "./upstream/transport/connector.ts";
import { withAlternatives } from "./upstream/connect-alternatives.ts";
import { createHttpPool } from "./upstream/transport/http-pool.ts";
import { describeVersion } from "./version.ts";
import { dumpConfig } from "./xds/config-dump.ts";
import { WaypointState } from "./xds/waypoint-state.ts";

export interface WaypointDeps {
  readonly clock: Clock;
  readonly logging: Logging;
  /** Stops the process gracefully. */
  readonly quit?: () => void;
  /** Instead of the CA of the configuration, for tests. */
  readonly certificates?: CertificateSource;
  /** Where workloads take tunnels. Default 15008. */
  readonly upstreamHbonePort?: number;
}

export interface Waypoint extends AsyncDisposable {
  /** Resolves once configuration and certificate are there and connections are served. */
  readonly ready: Promise<void>;
  /** In use, where 0 was asked for. `hbone` is 0 before {@link ready}, and without tunnels. */
  readonly ports: Readonly<Record<"hbone" | "admin" | "readiness" | "stats" | "prometheus", number>>;
  readonly listeners: ListenerSet;
  /** Connections that are served now. */
  readonly connections: number;
  /** Not ready any more; what is under way may end within the drain duration of the configuration. */
  drain(): Promise<void>;
}

/** While a drain lasts, load balancers learn of it: connections are still accepted for so long. Milliseconds. */
const acceptsWhileDrainingMs = 3_000;
/** What is known of the last requests is sent before the process ends. Milliseconds. */
const spansMayTakeMs = 2_000;
/** @throws where a port is taken */
export async function startWaypoint(config: WaypointConfig, deps: WaypointDeps): Promise<Waypoint> {
  const stack = new AsyncDisposableStack();
  try {
    return await start(config, deps, stack);
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function start(config: WaypointConfig, deps: WaypointDeps, stack: AsyncDisposableStack): Promise<Waypoint> {
  const { clock, logging } = deps;
  const log = logging.scope("app");
  const ports = { hbone: 0, admin: 0, readiness: 0, stats: 0, prometheus: 0 };

  // Ready when nothing blocks any more.
  const readiness = new Readiness();
  const blockers = { xds: readiness.block("configuration"), certificate: readiness.block("certificate") };
  const readinessServer = await openHttpServer(
    { host: config.wildcard, port: config.ports.readiness },
    readinessRoutes(readiness),
  );
  stack.use(readinessServer);
  ports.readiness = readinessServer.port;

  // What is counted.
  const registry = new MetricsRegistry();
  registerProcessMetrics(registry, "waypoint", config.istioVersion);

  // Who we are.
  const identity = spiffeId({
    trustDomain: config.trustDomain,
    namespace: config.podNamespace,
    serviceAccount: config.serviceAccount,
  });
  const source = deps.certificates ?? openCa(config, logging, stack);
  const certificates =
    source === undefined
      ? undefined
      : stack.use(new CertificateManager({ source, clock, log: logging.scope("identity") }));
  if (certificates !== undefined && config.ca !== undefined) {
    const roots = parseRootSource(config.ca.roots);
    stack.use(new RootWatch({ roots, certificates, clock, log: logging.scope("identity") }));
  }
  const certificate = certificateOf(certificates, identity);

  // What the control plane tells.
  const workloads = new WorkloadStore({ clock, localNode: config.nodeName });
  const workloadAt = (ip: string) => workloads.workloadByAddress(config.network, ip as Ip);
  const secrets = new Secrets(certificate);
  const connector = stack.use(
    createConnector({
      clock,
      certificate,
      secrets,
      trustDomains: [config.trustDomain, ...config.trustDomainAliases],
      expectedIdentity: (ip) => workloadAt(ip)?.identity,
      ...(deps.upstreamHbonePort !== undefined && { hbonePort: deps.upstreamHbonePort }),
    }),
  );
  const dialer = withAlternatives(connector);
  const clusters = stack.use(
    new ClusterSet({
      clock,
      log: logging.scope("upstream"),
      makePool: (options) => createHttpPool(dialer, options),
      isTunnelled: (ip) => workloadAt(tryIp(ip) ?? ip)?.protocol === "HBONE",
      onWanted: () => {
        secrets.keep(clusters.wantedSecrets);
        xds.resubscribe(typeUrls.endpoints);
        xds.resubscribe(typeUrls.secret);
      },
    }),
  );
  const facts = { node: nodeFacts(config), peers: new WorkloadPeers(workloadAt) };
  const startedAtMs = clock.now();
  const telemetry = openTelemetry({
    registry,
    clock,
    stdout: logging.sink,
    ...facts,
    random: Math.random,
  });
  observeProxy(registry, clusters);
  const listeners = new ListenerSet({
    clock,
    log: logging.scope("ingress"),
    drainMs: config.drainMs,
    sourceWorkload: (ip) => {
      const workload = workloadAt(ip);
      return workload === undefined ? undefined : `${workload.namespace}/${workload.workloadName}`;
    },
    context: {
      facts,
      clock,
      log: logging.scope("layers"),
      clusters,
      random: Math.random,
      layerKinds,
      networkLayerKinds,
      telemetry,
    },
  });
  stack.defer(() => listeners.close());
  const hasTunnels = certificates !== undefined;
  const state = new WaypointState({ clock, clusters, secrets, listeners, workloads, wantsAddresses: hasTunnels });
  const xds = openXds(config, logging, state, registry, clock);
  const ending = new AbortController();
  const running = xds.run(ending.signal);
  stack.defer(async () => {
    ending.abort();
    await running;
  });

  // Windows for people and machines.
  const admin = adminRoutes({
    name: "waypoint",
    logging,
    dump: () => ({
      configs: dumpConfig({
        state,
        node: facts.node,
        startedAtMs,
        ownCertificate: () => certificates?.current(identity),
        secrets,
      }),
      listeners: listeners.states().map(({ name, bound, listener: { chains, skipped } }) => ({
        name,
        bound,
        chains: [...chains.keys()],
        skipped_filters: [...new Set(skipped)],
      })),
      certificates: certificateStates(certificates),
      version: describeVersion(config.istioVersion),
    }),
    quit: deps.quit ?? (() => {}),
  });
  const metrics = metricsRoutes(registry);
  const open = async (name: keyof typeof ports, host: string, routes: typeof metrics) => {
    const server = stack.use(await openHttpServer({ host, port: config.ports[name] }, routes));
    ports[name] = server.port;
  };
  const clusterDump = { "/clusters": ({ query }: HttpRequest) => describeClusters(clusters, query.get("format")) };
  await open("admin", "127.0.0.1", { ...admin, ...metrics, ...clusterDump, ...readyRoute(readiness) });
  await open("stats", config.wildcard, metrics);
  await open("prometheus", config.wildcard, metrics);

  // Tunnels are taken when it is known who we are and what to do with them.
  let ingress: HboneIngress | undefined;
  const ready = (async () => {
    await state.synced();
    blockers.xds[Symbol.dispose]();
    if (certificates !== undefined) {
      await certificateThere(certificates, identity);
      if (ending.signal.aborted) return;
      ingress = new HboneIngress({
        address: config.wildcard,
        port: config.ports.hbone,
        clock,
        log: logging.scope("ingress"),
        certificate,
        addressOf: (hostname) =>
          workloads.serviceByHostname(hostname)?.service.vips.find(({ network }) => network === config.network)?.ip,
        trustDomainAliases: config.trustDomainAliases,
        identity,
        listener: () => listeners.forTunnels,
        entry: () => listeners.tunnelEntry,
      });
      ports.hbone = ingress.port;
    }
    blockers.certificate[Symbol.dispose]();
  })();
  stack.defer(() => ingress?.close());

  const drain = async (): Promise<void> => {
    readiness.block("draining");
    const over = Promise.withResolvers<void>();
    const cancelAll = clock.schedule(config.drainMs, over.resolve);
    const lingering = Promise.withResolvers<void>();
    const cancelLingering = clock.schedule(Math.min(acceptsWhileDrainingMs, config.drainMs), lingering.resolve);
    const leave = async (): Promise<void> => {
      listeners.leave();
      // Whoever does not know yet comes again, and in a new tunnel if the old one is closed: tunnels stay until all know.
      await lingering.promise;
      ingress?.stopAccepting();
      ingress?.drain();
      await listeners.drain(config.drainMs);
    };
    await Promise.race([leave(), over.promise]);
    cancelAll();
    cancelLingering();
    await telemetry.flush(spansMayTakeMs);
    log.debug({ connections: listeners.connections }, "drained");
  };
  return {
    ready,
    ports,
    listeners,
    get connections() {
      return listeners.connections;
    },
    drain,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** What expressions call `node`. */
function nodeFacts(config: WaypointConfig): NodeFacts {
  const { podName, podNamespace, clusterId, serviceAccount, instanceIps, labels, metadata } = config;
  return {
    id: `waypoint~${instanceIps[0] ?? ""}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    cluster: `${labels["gateway.networking.k8s.io/gateway-name"] ?? serviceAccount}.${podNamespace}`,
    metadata: {
      ...metadata,
      NAME: podName,
      NAMESPACE: podNamespace,
      CLUSTER_ID: clusterId,
      SERVICE_ACCOUNT: serviceAccount,
      NODE_NAME: config.nodeName,
      LABELS: labels,
    },
  };
}

const describeClusters = (clusters: ClusterSet, format: string | null): HttpReply =>
  format === "json"
    ? { contentType: "application/json", body: JSON.stringify(clusterStatuses(clusters.values()), undefined, 1) }
    : { body: dumpClusters(clusters.values()) };

/** Where Envoy answers the same question. */
const readyRoute = (readiness: Readiness) => ({
  "/ready": () => (readiness.isReady ? { body: "LIVE\n" } : { status: 503, body: "PRE_INITIALIZING\n" }),
});
