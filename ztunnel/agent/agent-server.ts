/** What the node agent answers over HTTP: probes, proof of capture for people, metrics. */
import { metricsRoutes } from "#shared/observe/http-servers/metrics-routes.ts";
import type { Handler } from "#shared/observe/http-servers/open-server.ts";
import { MetricsRegistry } from "#shared/observe/metrics.ts";
import type { PodReport } from "./reconciler.ts";

export interface AgentState {
  /** Names of what is waited for; empty when ready. */
  readonly pending: () => readonly string[];
  readonly reports: () => readonly PodReport[];
  readonly ztunnels: () => number;
}

/** On the readiness port. */
export function agentRoutes(state: AgentState): Readonly<Record<string, Handler>> {
  return {
    "/healthz": () => ({ body: "ok\n" }),
    "/readyz": () => {
      const pending = state.pending();
      return pending.length === 0
        ? { body: "ready\n" }
        : { status: 503, body: `not ready, pending: ${pending.join(", ")}\n` };
    },
    // It names every pod of the node and why it is captured or not: for people on the node, not for its pods.
    "/debug/pods": ({ isLocal }) =>
      isLocal
        ? { contentType: "application/json", body: `${JSON.stringify(podsDump(state), undefined, 2)}\n` }
        : { status: 403, body: "only from this machine: use kubectl port-forward or kubectl exec\n" },
  };
}

function podsDump({ reports, ztunnels }: AgentState): unknown {
  const pods = reports().toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  return { ztunnels: ztunnels(), pods };
}

const sortKey = ({ namespace, name }: PodReport): string => `${namespace}/${name}`;

/** For the metrics port; `report` keeps one series for each pod that belongs in the mesh. */
export function agentMetrics(state: Pick<AgentState, "ztunnels">): {
  readonly routes: Readonly<Record<string, Handler>>;
  report(uid: string, report: PodReport | undefined): void;
} {
  const registry = new MetricsRegistry();
  const captured = registry.gauge({
    name: "ambit_pod_captured",
    help: "Whether a pod that belongs in the mesh is proven to be captured (1) or not (0)",
    labels: ["namespace", "pod"],
  });
  registry.observed(
    "gauge",
    { name: "ambit_agent_connected_ztunnels", help: "Ztunnels connected to this node agent" },
    state.ztunnels,
  );
  const shown = new Map<string, readonly [namespace: string, name: string]>();
  return {
    routes: metricsRoutes(registry),
    report: (uid, report) => {
      const before = shown.get(uid);
      if (report?.wanted === true) {
        captured.series(report.namespace, report.name).value = report.captured ? 1 : 0;
        shown.set(uid, [report.namespace, report.name]);
      } else if (before !== undefined) {
        captured.remove(...before);
        shown.delete(uid);
      }
    },
  };
}
