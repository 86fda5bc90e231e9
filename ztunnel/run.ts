/** The whole of a ztunnel, in the order in which it starts; it stops in reverse. */
import { readFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { availableParallelism } from "node:os";
import { CaClient } from "#shared/ca/ca-client.ts";
import { CertificateManager, type CertificateSource } from "#shared/ca/certificate-manager.ts";
import { RootWatch } from "#shared/ca/root-watch.ts";
import { systemClock } from "#shared/clock/clock.ts";
import { readIfThere } from "#shared/config/read-if-there.ts";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { parseEndpoint, parseRootSource, parseTokenSource } from "#shared/grpc/control-plane-channel.ts";
import { collectAll } from "#shared/lifecycle/garbage.ts";
import { releaseProgramPages } from "#shared/lifecycle/program-pages.ts";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { returnMemory } from "#shared/lifecycle/return-memory.ts";
import { runProxy } from "#shared/lifecycle/run-proxy.ts";
import type { Shutdown } from "#shared/lifecycle/shutdown.ts";
import { adminRoutes } from "#shared/observe/http-servers/admin-routes.ts";
import { metricsRoutes } from "#shared/observe/http-servers/metrics-routes.ts";
import { openHttpServer } from "#shared/observe/http-servers/open-server.ts";
import { readinessRoutes } from "#shared/observe/http-servers/readiness-routes.ts";
import type { Logging } from "#shared/observe/logging.ts";
import { MetricsRegistry } from "#shared/observe/metrics.ts";
import { registerProcessMetrics, xdsMetrics } from "#shared/observe/process-metrics.ts";
import { trimMemory } from "#shared/sockets/libc.ts";
import type { PodIdentity } from "#shared/workload/workload-store.ts";
import { DeltaClient } from "#shared/xds/delta-client.ts";
import { ztunnelNode } from "#shared/xds/node.ts";
import { typeUrls } from "#shared/xds/type-urls.ts";
import { readConfig, type ZtunnelConfig } from "./config.ts";
import { PendingLimit } from "./dns/dns-proxy.ts";
import { readResolvConf } from "./dns/resolv-conf.ts";
import { hasLoopbackIpv6 } from "./inpod/loopback-ipv6.ts";
import { startPodProxy, startSelfProxy, type PodProxy, type PodProxyServices } from "./pod-proxy.ts";
import { dumpAll } from "./state/config-dump.ts";
import { openHostnameResolver } from "./state/hostname-resolver.ts";
import { MeshState } from "./state/mesh-state.ts";
import { prepareOnDemand } from "./state/on-demand.ts";
import { openReporter } from "./telemetry/connection-reporter.ts";
import { openDnsReporter } from "./telemetry/dns-report.ts";
import { registerPodMetrics } from "./telemetry/pod-metrics.ts";
import { TrafficMetrics } from "./telemetry/traffic-metrics.ts";
import { describeVersion } from "./version.ts";

const clock = systemClock;
const readinessPort = 15_021;
/** How long a connection waits for the control plane to say who is at an address. Milliseconds. */
const demandDeadlineMs = 10_000;
const defaultTokenPath = "/var/run/secrets/tokens/istio-token";

/** Runs until told to stop; the exit status. */
export const run = (process: NodeJS.Process): Promise<number> =>
  runProxy(process, {
    readConfig: (readFile) => readConfig({ env: process.env, cpuCount: availableParallelism(), readFile }),
    serve,
  });

async function serve(config: ZtunnelConfig, logging: Logging, shutdown: Shutdown): Promise<number> {
  const log = logging.scope("app");
  log.info({ config: withoutSecrets(config), ...describeVersion(config.istioVersion) }, "starting");
  for (const setting of unused(config)) log.warn({ setting }, "setting has no effect here yet");
  if (config.dns.enabled && config.xdsOnDemand) {
    log.warn(
      { setting: "XDS_ON_DEMAND" },
      "names of the mesh are unknown: all DNS questions go to the cluster's resolvers",
    );
  }
  await using stack = new AsyncDisposableStack();

  // Ready when nothing blocks any more.
  const readiness = new Readiness();
  using proxyBlocker = readiness.block("proxy");
  using dnsBlocker = config.dns.enabled ? readiness.block("dns proxy") : undefined;
  using stateBlocker = readiness.block("state manager");
  const wildcard = config.ipv6Enabled ? "::" : "0.0.0.0";
  stack.use(await openHttpServer({ host: wildcard, port: readinessPort }, readinessRoutes(readiness)));

  stack.use(returnMemory({ clock, trim: trimMemory, collect: collectAll, release: releaseProgramPages }));

  // What is counted.
  const registry = new MetricsRegistry();
  registerProcessMetrics(registry, "ztunnel", config.istioVersion);
  const traffic = new TrafficMetrics(registry);

  // Certificates, and what the control plane says of the mesh.
  const certificates = stack.use(
    new CertificateManager({ source: openCa(config, logging, stack), clock, log: logging.scope("identity") }),
  );
  if (config.caAddress !== undefined) {
    const roots = parseRootSource(config.caRootCa);
    stack.use(new RootWatch({ roots, certificates, clock, log: logging.scope("identity") }));
  }
  const state = new MeshState({
    clock,
    ...(config.localNode !== undefined && { localNode: config.localNode }),
    onIdentityNeeded: (id) => {
      if (config.mode.kind === "shared") certificates.prefetch(id);
    },
    onIdentityGone: (id) => certificates.forget(id),
  });
  const localConfig = await loadLocalConfig(config, state);
  const xds = openXds(config, logging, state, registry);
  if (xds !== undefined) {
    const ending = new AbortController();
    const running = xds.run(ending.signal);
    stack.defer(async () => {
      ending.abort();
      await running;
    });
  }
  void (xds?.ready ?? Promise.resolve()).then(() => stateBlocker[Symbol.dispose]());

  // The proxies of pods.
  const services: PodProxyServices = {
    config,
    state,
    certificates,
    traffic,
    reporter: openReporter({ metrics: traffic, logging, clock }),
    resolve: openHostnameResolver(clock),
    ...(config.dns.enabled && {
      dns: {
        readResolvConf: () => readResolvConf(readIfThere("/etc/resolv.conf") ?? ""),
        pending: new PendingLimit(),
        reporter: openDnsReporter(registry, logging),
      },
    }),
    ...(xds !== undefined &&
      config.xdsOnDemand && {
        prepare: prepareOnDemand(state.workloads, config.network, (name) =>
          xds.demand(typeUrls.address, name, AbortSignal.timeout(demandDeadlineMs)),
        ),
      }),
    clock,
    log: logging.scope("proxy"),
    policyLog: logging.scope("rbac"),
  };
  const proxies = await openProxies(services, logging, registry, readiness);

  // Windows for people and machines.
  const dump = () =>
    dumpAll({
      config,
      state,
      certificates,
      localConfig,
      pods: proxies.states(),
      version: describeVersion(config.istioVersion),
    });
  const admin = adminRoutes({ name: "ztunnel", logging, dump, quit: () => shutdown.request("POST /quitquitquit") });
  stack.use(await openHttpServer({ host: "127.0.0.1", port: config.adminPort }, admin));
  await openOnLoopback6(config, admin, stack);
  stack.use(await openHttpServer({ host: wildcard, port: config.statsPort }, metricsRoutes(registry)));
  if (config.openTelemetry !== undefined) {
    const { exportToOpenTelemetry } = await import("#shared/observe/otel-bridge.ts");
    stack.use(await exportToOpenTelemetry(registry, config.openTelemetry));
  }

  // Nothing is served before it is known who may talk to whom.
  const synced = await Promise.race([(xds?.ready ?? Promise.resolve()).then(() => "synced" as const), shutdown.asked]);
  if (synced === "synced") {
    const { failed } = await proxies.start();
    proxyBlocker[Symbol.dispose]();
    dnsBlocker?.[Symbol.dispose]();
    log.info("serving");
    // Everything is loaded now: the next start finds it compiled, even if this process is killed.
    flushCompileCache();
    const end = await Promise.race([
      shutdown.asked.then((why) => ({ status: 0, why })),
      failed.then((why) => ({ status: 1, why })),
    ]);
    if (end.status !== 0) {
      log.error({ why: end.why }, "the node agent broke the protocol");
      return end.status;
    }
    log.info({ why: end.why, deadlineMs: config.drainDeadlineMs }, "draining");
    await proxies.drain();
  }
  log.info("stopped");
  return 0;
}

/** Settings that would open more, not less: leaving them unheeded is safe, but should be known. */
const unused = ({ socks5Enabled }: ZtunnelConfig): readonly string[] =>
  socks5Enabled ? ["UNSTABLE_ENABLE_SOCKS5"] : [];

/** How pods come to be served: from the node agent, or the one we were told of. */
interface Proxies {
  /** Resolves when serving has begun; `failed` resolves with why it cannot go on, if ever. */
  start(): Promise<{ readonly failed: Promise<string> }>;
  drain(): Promise<void>;
  states(): ReadonlyMap<
    string,
    { readonly state: "Up" | "Pending"; readonly info: PodIdentity; readonly proxy?: PodProxy }
  >;
}

const never = new Promise<never>(() => {});

async function openProxies(
  services: PodProxyServices,
  logging: Logging,
  registry: MetricsRegistry,
  readiness: Readiness,
): Promise<Proxies> {
  const { mode } = services.config;
  if (mode.kind === "dedicated") return openDedicated(mode.pod, services);
  return openShared(services, logging, registry, readiness);
}

/** One pod, whose namespace we are in. */
function openDedicated(pod: PodIdentity, services: PodProxyServices): Proxies {
  let proxy: PodProxy | undefined;
  return {
    start: async () => {
      proxy = await startPodProxy({ pod, netnsFd: undefined }, services);
      return { failed: never };
    },
    drain: async () => proxy?.drain(),
    states: () =>
      new Map(proxy === undefined ? [] : [[`${pod.namespace}/${pod.name}`, { state: "Up", info: pod, proxy }]]),
  };
}

/** The node's pods, as its agent names them, and ourselves. */
async function openShared(
  services: PodProxyServices,
  logging: Logging,
  registry: MetricsRegistry,
  readiness: Readiness,
): Promise<Proxies> {
  const { config } = services;
  const [{ assertNamespacePowers }, { PodManager }, { runZdsClient }] = await Promise.all([
    import("./inpod/netns-sockets.ts"),
    import("./inpod/pod-manager.ts"),
    import("./inpod/zds-client.ts"),
  ]);
  if (config.packetMark !== undefined) assertNamespacePowers(config.packetMark);
  const log = logging.scope("inpod");
  let blocker: Disposable | undefined = readiness.block("workload proxy manager");
  const running = new Map<string, PodProxy>();
  const pods = new PodManager({
    factory: {
      start: async ({ uid, info, netns }) => {
        const proxy = await startPodProxy({ pod: info, netnsFd: netns.fd }, services);
        running.set(uid, proxy);
        const forget = () => void (running.get(uid) === proxy && running.delete(uid));
        return { drain: () => proxy.drain().finally(forget), stop: () => proxy.stop().finally(forget) };
      },
    },
    clock,
    log,
    onReady: (isReady) => {
      blocker?.[Symbol.dispose]();
      blocker = isReady ? undefined : readiness.block("workload proxy manager");
    },
  });
  registerPodMetrics(registry, () => pods.counts);
  const { podName: name, podNamespace: namespace, serviceAccount } = config;
  const hasSelf = name !== "" && namespace !== "" && serviceAccount !== "";
  const ending = new AbortController();
  let self: PodProxy | undefined;
  let client: Promise<unknown> = Promise.resolve();
  return {
    start: async () => {
      if (hasSelf) self = await startSelfProxy({ name, namespace, serviceAccount }, services);
      const outcome = runZdsClient({ path: config.inpodSocket, pods, clock, log }, ending.signal);
      client = outcome;
      return { failed: outcome.then((end) => (end.kind === "fatal" ? end.why : never)) };
    },
    drain: async () => {
      await Promise.all([pods.drain(), self?.drain()]);
      ending.abort();
      await client;
    },
    states: () =>
      new Map(
        [...pods.states()].map(([uid, pod]) => {
          const proxy = running.get(uid);
          return [uid, { ...pod, ...(proxy !== undefined && { proxy }) }];
        }),
      ),
  };
}

function openCa(config: ZtunnelConfig, logging: Logging, stack: AsyncDisposableStack): CertificateSource {
  const { caAddress } = config;
  if (caAddress === undefined) {
    return {
      fetch: () =>
        Promise.reject(new MeshError("CERTIFICATE_UNAVAILABLE", "CA_ADDRESS is empty: there is no CA to ask")),
    };
  }
  const log = logging.scope("ca");
  return stack.use(
    new CaClient(
      {
        endpoint: parseEndpoint(caAddress),
        roots: parseRootSource(config.caRootCa),
        ...(config.alternativeCaHostname !== undefined && { alternativeHostname: config.alternativeCaHostname }),
        allowTls12: config.tls12Enabled,
        token: parseTokenSource(config.authToken, defaultTokenPath),
        clusterId: config.clusterId,
        headers: config.caHeaders,
        ttlSeconds: Math.round(config.secretTtlMs / 1_000),
        impersonate: config.mode.kind === "shared",
      },
      log,
    ),
  );
}

function openXds(
  config: ZtunnelConfig,
  logging: Logging,
  state: MeshState,
  registry: MetricsRegistry,
): DeltaClient | undefined {
  if (config.xdsAddress === undefined) return undefined;
  const log = logging.scope("xds");
  const { node, unreadable } = ztunnelNode({
    instanceIp: config.instanceIp,
    podName: config.podName,
    podNamespace: config.podNamespace,
    nodeName: config.localNode ?? "",
    metadata: config.metadata,
    jsonMetadata: config.jsonMetadata,
  });
  if (unreadable.length > 0) log.warn({ unreadable }, "ISTIO_METAJSON_ variables are no JSON and were left out");
  return new DeltaClient({
    channel: {
      endpoint: parseEndpoint(config.xdsAddress),
      roots: parseRootSource(config.xdsRootCa),
      ...(config.alternativeXdsHostname !== undefined && { alternativeHostname: config.alternativeXdsHostname }),
      allowTls12: config.tls12Enabled,
    },
    call: {
      token: parseTokenSource(config.authToken, defaultTokenPath),
      clusterId: config.clusterId,
      headers: config.xdsHeaders,
    },
    node,
    subscriptions: state.subscriptions({ onDemand: config.xdsOnDemand }),
    clock,
    log,
    onEvent: xdsMetrics(registry),
  });
}

/** What the files say, also for the dump. */
async function loadLocalConfig({ localXds }: ZtunnelConfig, state: MeshState) {
  if (localXds === undefined) return undefined;
  const [{ parse }, { readLocalConfig }] = await Promise.all([import("yaml"), import("./state/local-config.ts")]);
  const text = localXds.from === "file" ? readFileSync(localXds.path, "utf8") : localXds.text;
  const local = readLocalConfig(parse(text));
  state.applyAddresses({ workloads: local.workloads, services: local.services });
  state.applyPolicies(local.policies, []);
  return local;
}

async function openOnLoopback6(
  { ipv6Enabled, adminPort }: ZtunnelConfig,
  routes: Parameters<typeof openHttpServer>[1],
  stack: AsyncDisposableStack,
): Promise<void> {
  if (!ipv6Enabled || !hasLoopbackIpv6(undefined)) return;
  stack.use(await openHttpServer({ host: "::1", port: adminPort }, routes));
}

function withoutSecrets({ authToken, localXds: _localXds, xdsHeaders: _x, caHeaders: _c, ...rest }: ZtunnelConfig) {
  return { ...rest, authToken: authToken === undefined ? "default file" : "[given]" };
}
