/**
 * What stands behind a control plane: Kubernetes, or a folder on one machine. Everything else works with either and cannot
 * tell which.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logging } from "#shared/observe/logging.ts";
import type { TokenAuthenticator } from "#controlplane/ca/caller.ts";
import type { CertificateAuthority } from "#controlplane/ca/certificate-authority.ts";
import { fileStore, writePrivate } from "#controlplane/ca/file-store.ts";
import { ensureTokenKeys, LocalTokens } from "#controlplane/ca/local-tokens.ts";
import { crlName } from "#controlplane/ca/plugged-in.ts";
import type { ConfigMapName } from "#controlplane/mesh/ca-references.ts";
import type { KubeObject } from "#controlplane/mesh/objects.ts";
import { meshConfigPlace } from "#controlplane/mesh/mesh-config.ts";
import { secretKeys, type AuthorityStore } from "#controlplane/ca/self-signed.ts";
import type { DiscoveryConfig } from "#controlplane/config.ts";
import type { ConfigSource, SourceEvent } from "#controlplane/sources/source.ts";
import type { WorldView } from "#controlplane/mesh/world.ts";
import { missingClasses } from "#controlplane/translate/gateway-classes.ts";
import type { StatusUpdate } from "#controlplane/translate/status.ts";
import { wantedWaypoints } from "#controlplane/waypoints/waypoint-objects.ts";

export interface Backend extends AsyncDisposable {
  /** For logs and dumps. */
  readonly name: string;
  readonly source: ConfigSource;
  readonly authorityStore: AuthorityStore;
  readonly tokens: TokenAuthenticator;
  /** Sees every event of the source, before the world does. */
  takeEvent(event: SourceEvent): void;
  /** Runs the waypoints that the world's Gateways ask for. */
  wantWaypoints(world: WorldView): void;
  /** Why Gateways are not run as written, by `namespace/name`. */
  waypointProblems(): ReadonlyMap<string, string>;
  /** The whole of what translation wants to be written on objects. */
  wantStatuses(statuses: readonly StatusUpdate[]): void;
  /** Brings trust anchors and revocations to where clients look for them, now and when they change. Disposed of with the backend. */
  distributeRoots(authority: CertificateAuthority): Promise<void>;
  /** One that the source does not tell of, because no object in force names it; undefined where there is none. */
  fetchConfigMap(name: ConfigMapName): Promise<KubeObject | undefined>;
  /**
   * Has whoever stores objects ask our webhook first, and trust it. Resolves once it knows how, or a few seconds later,
   * with what is to be called when it has asked. Disposed of with the backend.
   */
  announceAdmission(authority: CertificateAuthority, configuration: string, signal: AbortSignal): Promise<() => void>;
}

interface BackendDeps {
  readonly clock: Clock;
  readonly logging: Logging;
  /** Called when {@link Backend.waypointProblems} differs from before. */
  readonly onWaypointProblems: () => void;
}

export async function openBackend(config: DiscoveryConfig, deps: BackendDeps): Promise<Backend> {
  const { source } = config;
  return source.kind === "folder"
    ? openFolderBackend(config, source, deps)
    : openKubernetesBackend(config, source, deps);
}

type FolderConfig = DiscoveryConfig["source"] & { readonly kind: "folder" };

async function openFolderBackend(
  config: DiscoveryConfig,
  { folder, stateDirectory }: FolderConfig,
  { clock, logging }: BackendDeps,
): Promise<Backend> {
  const { FolderSource } = await import("#controlplane/sources/folder/folder-source.ts");
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const publicKeysPath = await ensureTokenKeys(stateDirectory);
  const log = logging.scope("ca");
  return {
    name: `folder ${folder}`,
    source: new FolderSource({ folder, log: logging.scope("config"), clock }),
    authorityStore: fileStore(stateDirectory),
    tokens: new LocalTokens({ publicKeysPath, audiences: config.tokenAudiences, clock }),
    takeEvent: () => {},
    // Files have no status; what is wrong with them is logged and dumped.
    wantStatuses: () => {},
    // Nobody runs pods here: waypoints are started by hand.
    wantWaypoints: () => {},
    waypointProblems: () => new Map(),
    distributeRoots: async (authority) => {
      const path = join(stateDirectory, secretKeys.roots);
      const write = () => writePrivate(path, authority.rootBundle, 0o644);
      await write();
      authority.onChanged(() => {
        write().catch((error: unknown) => log.error({ path, error: explain(error) }, "cannot write the roots"));
      });
    },
    fetchConfigMap: async () => undefined,
    announceAdmission: async () => () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}

/** An API server waits 5 seconds for the answer that this is needed for. */
const fetchTimeoutMs = 2_000;
/** Named in manifests/base, as Istio names it. */
const statusLease = "istio-status-leader";

type KubernetesConfig = DiscoveryConfig["source"] & { readonly kind: "kubernetes" };

async function openKubernetesBackend(
  config: DiscoveryConfig,
  { kubeconfig }: KubernetesConfig,
  { clock, logging, onWaypointProblems }: BackendDeps,
): Promise<Backend> {
  const [
    { isStatus, openKubeClient },
    { objectPath },
    { KubernetesSource },
    { ConfigMapWriter },
    { secretStore },
    { TokenReviewer },
    { LeaderElector },
    { StatusWriter },
    { WaypointController },
    { WebhookKeeper },
  ] = await Promise.all([
    import("#controlplane/sources/kubernetes/kube-client.ts"),
    import("#controlplane/sources/kubernetes/collection.ts"),
    import("#controlplane/sources/kubernetes/kubernetes-source.ts"),
    import("#controlplane/sources/kubernetes/config-map-writer.ts"),
    import("#controlplane/sources/kubernetes/secret-store.ts"),
    import("#controlplane/sources/kubernetes/token-review.ts"),
    import("#controlplane/status/leader-elector.ts"),
    import("#controlplane/status/status-writer.ts"),
    import("#controlplane/waypoints/waypoint-controller.ts"),
    import("#controlplane/admission/webhook-keeper.ts"),
  ]);
  const { rootNamespace, tokenAudiences: audiences, translate, waypoints: settings } = config;
  const client = await openKubeClient({ kubeconfig });
  const abort = new AbortController();
  const running: Promise<void>[] = [];
  const log = logging.scope("status");
  const leader = new LeaderElector({
    client,
    namespace: rootNamespace,
    name: statusLease,
    identity: config.podName,
    log,
    clock,
    onLead: () => {
      statuses.lead();
      waypoints.lead();
    },
  });
  const statuses = new StatusWriter({
    client,
    log,
    clock,
    isLeader: () => leader.isLeader(),
    revision: translate.revision,
  });
  const waypoints = new WaypointController({
    client,
    log: logging.scope("waypoints"),
    clock,
    isLeader: () => leader.isLeader(),
    onProblems: onWaypointProblems,
  });
  running.push(leader.run(abort.signal));
  if (translate.writeStatus) running.push(statuses.run(abort.signal));
  if (settings.areRun) running.push(waypoints.run(abort.signal));
  return {
    name: `kubernetes ${client.server}`,
    source: new KubernetesSource({
      client,
      meshConfig: meshConfigPlace(translate),
      log: logging.scope("config"),
      clock,
    }),
    authorityStore: secretStore({ client, namespace: rootNamespace, name: "istio-ca-secret" }),
    tokens: new TokenReviewer({ client, audiences, clusterId: translate.clusterId }),
    takeEvent: (event) => translate.writeStatus && statuses.take(event),
    wantStatuses: (wanted) => translate.writeStatus && statuses.want(wanted),
    wantWaypoints: (world) => {
      if (settings.areRun) waypoints.want(wantedWaypoints(world, translate, settings), missingClasses(world));
    },
    waypointProblems: () => waypoints.problems,
    distributeRoots: async (authority) => {
      const keep = (name: string, key: string, text: () => string): void => {
        const writer = new ConfigMapWriter({ client, log: logging.scope("ca"), clock, name, key, text });
        authority.onChanged(() => writer.changed());
        running.push(writer.run(abort.signal));
      };
      keep(config.rootConfigMap, secretKeys.roots, () => authority.rootBundle);
      // Pods may mount it before there is anything in it.
      if (config.crlConfigMap !== undefined) keep(config.crlConfigMap, crlName, () => authority.crlPem);
    },
    fetchConfigMap: async (name) => {
      const path = objectPath({ group: "", version: "v1", plural: "configmaps" }, name);
      try {
        return await client.request<KubeObject>(path, { signal: AbortSignal.timeout(fetchTimeoutMs) });
      } catch (thrown) {
        if (isStatus(thrown, 404)) return undefined;
        throw thrown;
      }
    },
    announceAdmission: async (authority, name, signal) => {
      const keeper = new WebhookKeeper({
        client,
        name,
        bundle: () => authority.rootBundle,
        clock,
        log: logging.scope("admission"),
      });
      authority.onChanged(() => keeper.changed());
      running.push(keeper.run(abort.signal));
      await keeper.installed(signal);
      return () => keeper.asked();
    },
    [Symbol.asyncDispose]: async () => {
      abort.abort();
      await Promise.all(running);
      client[Symbol.dispose]();
    },
  };
}
