import type { Metadata, Server } from "@grpc/grpc-js";
import { systemClock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { metricsRoutes } from "#shared/observe/http-servers/metrics-routes.ts";
import { openHttpServer } from "#shared/observe/http-servers/open-server.ts";
import type { Logging } from "#shared/observe/logging.ts";
import { MetricsRegistry } from "#shared/observe/metrics.ts";
import { DiscoveryServer, type Admit } from "#shared/xds/discovery-server.ts";
import { openAdmissionServer } from "#controlplane/admission/admission-server.ts";
import { sceneOf } from "#controlplane/admission/scene.ts";
import { openBackend } from "#controlplane/backend.ts";
import { authenticate, type CallerOptions } from "#controlplane/ca/caller.ts";
import { CertificateAuthority, earliestEndMs, type ServingPair } from "#controlplane/ca/certificate-authority.ts";
import { addCertificateService } from "#controlplane/ca/certificate-service.ts";
import { podDirectory } from "#controlplane/ca/pod-directory.ts";
import { ServingCertificate } from "#controlplane/ca/serving-certificate.ts";
import type { DiscoveryConfig } from "#controlplane/config.ts";
import { openDebugServer, type AuthorityFacts } from "#controlplane/debug/debug-server.ts";
import { SyncStatus } from "#controlplane/debug/sync-status.ts";
import { versionRoutes } from "#controlplane/debug/version-routes.ts";
import { controlPlaneMetrics } from "#controlplane/debug/metrics.ts";
import { LiveWorld } from "#controlplane/live-world.ts";
import { meshConfigPlace } from "#controlplane/mesh/mesh-config.ts";
import { fetchDocument } from "#controlplane/token-keys/fetch-document.ts";
import { KeyFetcher } from "#controlplane/token-keys/key-fetcher.ts";
import { wantedKeys } from "#controlplane/token-keys/wanted-keys.ts";
import type { StatusUpdate } from "#controlplane/translate/status.ts";
import { translate } from "#controlplane/translate/translate.ts";
import type { AddressSource } from "#controlplane/xds/address-source.ts";
import { listenPlain, listenSecure, type ListenAddress } from "#controlplane/xds/grpc-listener.ts";
import { ProxylessViews } from "#controlplane/xds/proxyless-views.ts";
import { Publisher } from "#controlplane/xds/publisher.ts";
import { WaypointViews } from "#controlplane/xds/waypoint-views.ts";
import { replicasOf, withEnforcement } from "#controlplane/waypoints/enforcement.ts";
import { Settled } from "#controlplane/waypoints/settled.ts";
import { rejectionsOf, withRejections, withWaypointProblems } from "#controlplane/waypoints/waypoint-problems.ts";

/** A running control plane. Disposing of it drains: streams end cleanly, calls in flight finish. */
export interface Discovery extends AsyncDisposable {
  /** Ports in use, where 0 was asked for. */
  readonly ports: {
    readonly xds: number | undefined;
    readonly secure: number;
    readonly http: number;
    readonly monitoring: number;
    readonly admission: number | undefined;
  };
  /** Rejects where the source can never work any more. */
  readonly failed: Promise<never>;
}

const version = "ambit";

/** How long replicas of waypoints may take a change one after the other before statuses say who has. Milliseconds. */
const enforcementSettlesMs = 250;

/** Of unary calls and streams alike. */
interface AnyCall {
  readonly metadata: Metadata;
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } };
}

/**
 * Starts the control plane: reads everything, then signs, then serves. `/ready` answers from the first moment on.
 *
 * @throws MeshError CONFIG_INVALID for a CA that cannot be used; the system's error for a port that is taken
 */
export async function startDiscovery(
  config: DiscoveryConfig,
  logging: Logging,
  signal: AbortSignal,
): Promise<Discovery> {
  await using stack = new AsyncDisposableStack();
  const clock = systemClock;
  const log = logging.scope("controlplane");
  const abort = new AbortController();
  const readiness = new Readiness();
  const notRead = readiness.block("the configuration");
  const notServing = readiness.block("the listeners");
  const backend = stack.use(
    await openBackend(config, { clock, logging, onWaypointProblems: () => publisher.changed() }),
  );

  const world = new LiveWorld(logging.scope("config"), meshConfigPlace(config.translate));
  const keys = stack.use(
    new KeyFetcher({
      fetch: fetchDocument,
      onChange: (fetched) => {
        world.setFetchedKeys(fetched);
        publisher.changed();
      },
      clock,
      log: logging.scope("keys"),
    }),
  );
  const waypoints = new WaypointViews({ clock, log: logging.scope("waypoints") });
  const proxyless = new ProxylessViews(logging.scope("xds"));
  const publisher = stack.use(
    new Publisher({
      translate: () => translate(world.view, config.translate),
      onPublished: ({ statuses, collected }) => {
        waypoints.publish(collected);
        proxyless.publish(collected);
        tellStatuses(statuses);
        backend.wantWaypoints(world.view);
        keys.want(wantedKeys(world.view));
      },
      onAttempt: (durationMs, outcome) => metrics.onTranslation(durationMs, outcome),
      clock,
      log: logging.scope("translate"),
      ...config.debounce,
    }),
  );
  let authority: CertificateAuthority | undefined;
  const registry = new MetricsRegistry();
  const metrics = controlPlaneMetrics(registry, {
    version,
    services: () => countAddresses(publisher.addresses, "service"),
    workloads: () => countAddresses(publisher.addresses, "workload"),
    rootEndMs: () => (authority === undefined ? undefined : earliestEndMs(authority.rootBundle)),
  });
  const syncStatus = new SyncStatus({
    clients: () => discoveryServer.clients(),
    podName: config.podName,
    systemNamespace: config.rootNamespace,
  });
  const discoveryServer: DiscoveryServer = new DiscoveryServer({
    sources: [publisher.addresses, publisher.authorizations],
    openSources: (client) => syncStatus.open(client) ?? waypoints.open(client) ?? proxyless.open(client),
    isSynced: () => publisher.last !== undefined,
    clock,
    log: logging.scope("xds"),
    onEvent: (event) => {
      metrics.onXds(event);
      // What waypoints take or refuse of their configuration stands in their Gateways' statuses.
      if (event.kind === "rejected" || event.kind === "accepted") tellStatuses(publisher.last?.statuses ?? []);
      else if (event.kind !== "pushed" && event.kind !== "refused") enforcement.changed();
    },
    maxStreamAgeMs: config.maxStreamAgeMs,
  });
  const tellStatuses = (statuses: readonly StatusUpdate[]): void => {
    const run = withWaypointProblems(statuses, backend.waypointProblems());
    const clients = discoveryServer.clients();
    backend.wantStatuses(withEnforcement(withRejections(run, rejectionsOf(clients)), replicasOf(clients)));
  };
  // Many take a change at the same time: what that comes to is told once.
  const enforcement = stack.use(
    new Settled(clock, enforcementSettlesMs, () => {
      const { statuses = [] } = publisher.last ?? {};
      if (statuses.some(({ enforcedBy }) => enforcedBy !== undefined)) tellStatuses(statuses);
    }),
  );

  const debug = stack.use(
    await openDebugServer(config.httpAddress, {
      pending: () => readiness.pending,
      addresses: publisher.addresses,
      authorizations: publisher.authorizations,
      clients: () => discoveryServer.clients(),
      publisher: () => publisher.status,
      sources: () => world.facts(backend.name),
      authority: () => authority && authorityFacts(authority),
    }),
  );
  const monitoring = stack.use(
    await openHttpServer(config.monitoringAddress, {
      ...metricsRoutes(registry),
      ...versionRoutes(() => discoveryServer.clients()),
    }),
  );

  const synced = Promise.withResolvers<void>();
  let isSynced = false;
  let isTold = false;
  const reading = backend.source.run((event) => {
    backend.takeEvent(event);
    const change = world.take(event);
    if (change !== undefined) metrics.onConfigEvent(change.kind, change.type);
    if (event.type === "synced") isTold = true;
    if (isSynced) {
      if (change !== undefined) publisher.changed();
      return;
    }
    if (!isTold) return;
    // Without it the trust domain would be a guess, and so every identity that is signed.
    const broken = world.view.problems.find(({ kind }) => kind === "MeshConfig");
    if (broken === undefined) {
      isSynced = true;
      publisher.publish();
      synced.resolve();
    } else if (event.type === "synced" || change !== undefined) {
      log.error({ error: broken.message }, "the mesh configuration cannot be read: nothing is served until it can");
    }
  }, abort.signal);
  const failed = reading.then(
    () => new Promise<never>(() => {}),
    (error: unknown) => {
      throw error;
    },
  );
  failed.catch(() => {
    // Whoever runs us awaits it.
  });
  stack.defer(async () => {
    abort.abort();
    await reading.catch(() => {});
  });
  const stopped = Promise.withResolvers<never>();
  const stop = () => stopped.reject(signal.reason as Error);
  signal.addEventListener("abort", stop, { once: true });
  await Promise.race([synced.promise, failed, stopped.promise]);
  signal.removeEventListener("abort", stop);
  notRead[Symbol.dispose]();

  authority = stack.use(
    await CertificateAuthority.open(
      {
        pluggedInDirectory: config.pluggedInDirectory,
        store: backend.authorityStore,
        trustDomain: world.view.meshConfig.trustDomain,
        defaultTtlMs: config.defaultTtlMs,
        maxTtlMs: config.maxTtlMs,
        severalRoots: config.severalRoots,
        clock,
        log: logging.scope("ca"),
      },
      abort.signal,
    ),
  );
  await backend.distributeRoots(authority);

  const callers: CallerOptions = {
    tokens: backend.tokens,
    trustDomain: () => world.view.meshConfig.trustDomain,
    trustDomainAliases: () => world.view.meshConfig.trustDomainAliases,
  };
  const opened = authority;
  const addServices = (server: Server, isSecure: boolean): void => {
    const identify = async (call: AnyCall) => {
      if (!isSecure) throw new MeshError("UNAUTHENTICATED", "Certificates are issued on the TLS port only");
      const certificate = call.getAuthContext().sslPeerCertificate;
      return authenticate({ metadata: call.metadata, ...(certificate === undefined ? {} : { certificate }) }, callers);
    };
    const admit: Admit = async (call) =>
      isSecure ? { checked: true, identities: [(await identify(call)).identity] } : { checked: false };
    discoveryServer.addTo(server, admit);
    addCertificateService(server, identify, {
      authority: opened,
      trustedNodeAccounts: config.trustedNodeAccounts,
      pods: podDirectory(world.view),
      trustDomains: () => [callers.trustDomain(), ...callers.trustDomainAliases()],
      log: logging.scope("ca"),
      onEvent: (event) => metrics.onCertificate(event),
    });
  };
  let wasAsked = (): void => {};
  /** The mesh works without it: a port that is taken keeps nothing else from serving. */
  const openAdmission = async (address: ListenAddress, certificate: ServingPair) => {
    const admissionLog = logging.scope("admission");
    try {
      return await openAdmissionServer({
        address,
        certificate,
        scene: sceneOf(world.view, config.translate),
        fetchConfigMap: (name) => backend.fetchConfigMap(name),
        log: admissionLog,
        onReviewed: ({ resource }, isAllowed) => {
          metrics.onReviewed(resource, isAllowed);
          wasAsked();
        },
      });
    } catch (error) {
      admissionLog.error({ ...address, error: explain(error) }, "no webhook: objects are not checked when written");
      return undefined;
    }
  };
  const listening = { log: logging.scope("grpc"), maxConnectionAgeMs: config.maxStreamAgeMs };
  const { pair, renewal } = await ServingCertificate.start({
    authority,
    hosts: config.servingHosts,
    clock,
    log: logging.scope("ca"),
    onRenewed: (next) => {
      secure.setCertificate(servingCertificate(next));
      admission?.setCertificate(next);
    },
  });
  stack.use(renewal);
  const servingCertificate = (next: ServingPair) => ({ ...next, rootsPem: opened.rootBundle });
  const secure = stack.use(
    await listenSecure(
      { ...listening, address: config.secureGrpcAddress, addServices: (server) => addServices(server, true) },
      servingCertificate(pair),
    ),
  );
  const plain =
    config.grpcAddress === undefined
      ? undefined
      : stack.use(
          await listenPlain({
            ...listening,
            address: config.grpcAddress,
            addServices: (server) => addServices(server, false),
          }),
        );
  const admission = config.admission && (await openAdmission(config.admission.address, pair));
  if (admission !== undefined) stack.use(admission);
  // Streams end before the listeners wait for calls to finish.
  stack.use(discoveryServer);
  if (config.admission !== undefined && admission !== undefined) {
    wasAsked = await backend.announceAdmission(authority, config.admission.configuration, abort.signal);
  }
  notServing[Symbol.dispose]();
  const ports = {
    xds: plain?.port,
    secure: secure.port,
    http: debug.port,
    monitoring: monitoring.port,
    admission: admission?.port,
  };
  log.info({ source: backend.name, ...ports, ca: authority.kind }, "control plane serves");

  const owned = stack.move();
  return {
    ports,
    failed,
    [Symbol.asyncDispose]: async () => {
      const blocked = readiness.block("nothing: it is shutting down");
      await owned.disposeAsync();
      blocked[Symbol.dispose]();
    },
  };
}

const countAddresses = (addresses: AddressSource, kind: "workload" | "service"): number => {
  let count = 0;
  for (const { type } of addresses.messages.values()) if (type.case === kind) count++;
  return count;
};

const authorityFacts = (authority: CertificateAuthority): AuthorityFacts => ({
  kind: authority.kind,
  notAfter: new Date(authority.notAfterMs).toISOString(),
  roots: authority.rootBundle,
});
