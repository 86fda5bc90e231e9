/** What `istioctl version` asks for on the port for metrics, forwarded to its own machine. */
import type { Handler } from "#shared/observe/http-servers/open-server.ts";
import type { ClientStatus } from "#shared/xds/served-stream.ts";
import { buildInfo } from "./build-info.ts";
import { syncReport } from "./debug-server.ts";

const json = (value: unknown) => ({ contentType: "application/json", body: JSON.stringify(value) });

export const versionRoutes = (clients: () => readonly ClientStatus[]): Readonly<Record<string, Handler>> => ({
  "/version": () => json({ clientVersion: buildInfo }),
  "/debug/syncz": ({ isLocal }) =>
    isLocal
      ? json(syncReport(clients()))
      : { status: 403, body: "only from this machine: use kubectl port-forward or kubectl exec\n" },
});
