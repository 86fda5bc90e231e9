/** The node agent's life: build, start in order, wait for a signal, stop in reverse. */
import { systemClock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import { Readiness } from "#shared/lifecycle/readiness.ts";
import { awaitShutdown } from "#shared/lifecycle/shutdown.ts";
import { openHttpServer } from "#shared/observe/http-servers/open-server.ts";
import { openLogger } from "#shared/observe/logger.ts";
import { assertNamespacePowers } from "#ztunnel/inpod/netns-sockets.ts";
import { agentMetrics, agentRoutes, type AgentState } from "./agent-server.ts";
import type { AgentConfig } from "./config.ts";
import { HostProbes } from "./host-probes.ts";
import { isUninstalled, openKubeConfig, openStatusWriter, watchCluster } from "./kubernetes-pods.ts";
import { NamespaceFinder } from "./netns-finder.ts";
import type { PodFacts } from "./pod-facts.ts";
import { answersDns, installRules, observe, releaseConnections, removeRules } from "./pod-rules.ts";
import { Reconciler } from "./reconciler.ts";
import { ztunnelMark } from "./redirect-rules.ts";
import { mustRun } from "./run-program.ts";
import { openZdsListener, ZdsServer } from "./zds-server.ts";

type SignalledProcess = Parameters<typeof awaitShutdown>[0];

/** @param cleansUp take every pod out of the mesh at the end, as if the agent were uninstalled */
export async function runAgent(
  config: AgentConfig,
  { process, cleansUp }: { readonly process: SignalledProcess; readonly cleansUp: boolean },
): Promise<void> {
  const log = openLogger("agent", config.logLevel);
  const clock = systemClock;
  await assertPowers();
  using shutdown = awaitShutdown(process);
  const readiness = new Readiness();
  const starting = readiness.block("first list of pods and namespaces");
  log.info({ node: config.nodeName, zds: config.zdsPath, ...config.redirect }, "node agent starts");

  const kube = openKubeConfig();
  const probes = new HostProbes(config.redirect.probeSources);
  const finder = new NamespaceFinder(config.dirs);
  const zds: ZdsServer = new ZdsServer({ clock, log, onChange: () => reconciler.ztunnelChanged() });
  const state: AgentState = {
    pending: () => readiness.pending,
    reports: () => reconciler.reports,
    ztunnels: () => zds.sessions,
  };
  const metrics = agentMetrics(state);
  const reconciler: Reconciler = new Reconciler({
    rules: config.rules,
    redirect: config.redirect,
    actions: {
      find: (uid, ips) => finder.find(uid, ips),
      install: installRules,
      release: releaseConnections,
      remove: removeRules,
      observe,
      answersDns,
    },
    ztunnel: zds,
    probes,
    status: openStatusWriter(kube, clock),
    clock,
    log,
    onReport: (uid, report) => metrics.report(uid, report),
  });

  await using servers = new AsyncDisposableStack();
  servers.use(await openHttpServer({ host: "::", port: config.readinessPort }, agentRoutes(state)));
  servers.use(await openHttpServer({ host: "::", port: config.metricsPort }, metrics.routes));

  const firstPods = new Map<string, PodFacts>();
  let isStarted = false;
  const watch = watchCluster(
    kube,
    config.nodeName,
    {
      // What the first lists hold is handed over at once, when both are known.
      podChanged: (pod) => void (isStarted ? reconciler.podChanged(pod) : firstPods.set(pod.uid, pod)),
      podGone: (uid) => void (isStarted ? reconciler.podGone(uid) : firstPods.delete(uid)),
      namespaceChanged: (name, labels) => reconciler.namespaceChanged(name, labels),
    },
    { clock, log },
  );
  const ended = new AbortController();
  const work = async (): Promise<string> => {
    if ((await Promise.race([watch.synced.then(() => "synced"), shutdown.asked])) !== "synced") return "asked to stop";
    reconciler.restore([...firstPods.values()]);
    isStarted = true;
    for (const pod of firstPods.values()) reconciler.podChanged(pod);
    const serving = zds.serve(openZdsListener(config.zdsPath), ended.signal);
    await probes.reassert();
    starting[Symbol.dispose]();
    log.info({ pods: firstPods.size }, "node agent is ready");
    return Promise.race([shutdown.asked, serving.then(() => "ZDS ended")]);
  };
  const check = setInterval(() => {
    reconciler.checkAll();
    void probes.reassert().catch((error: unknown) => {
      log.warn({ why: explain(error) }, "the node's probe set could not be written");
    });
  }, config.checkIntervalMs);
  try {
    const why = await work();
    const isEnd = cleansUp || (await isUninstalled(kube, config.rules.systemNamespace, config.daemonSetName));
    log.info({ why, cleansUp: isEnd }, "node agent stops");
    clearInterval(check);
    await watch.stop();
    if (isEnd) {
      await reconciler.cleanUp();
      await probes.remove();
    }
  } finally {
    clearInterval(check);
    ended.abort(new Error("the node agent stops"));
    await watch.stop();
    await reconciler.close();
  }
}

/** Says in one sentence what is missing, before any pod is touched. */
async function assertPowers(): Promise<void> {
  assertNamespacePowers(ztunnelMark);
  await mustRun(undefined, "nft", ["list", "ruleset"], "");
  await mustRun(undefined, "ip", ["-V"], "");
}
