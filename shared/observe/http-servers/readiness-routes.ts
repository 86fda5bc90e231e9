import type { Readiness } from "#shared/lifecycle/readiness.ts";
import type { Handler } from "./open-server.ts";

/** 200 when nothing blocks, else 500 naming what does; kubelet and Istio's tests read both. */
export const readinessRoutes = (readiness: Readiness): Readonly<Record<string, Handler>> => ({
  "/healthz/ready": ({ method }) => {
    if (method !== "GET") return { status: 405, body: "write GET /healthz/ready\n" };
    if (readiness.isReady) return { body: "ready\n" };
    return { status: 500, body: `not ready, pending: ${readiness.pending.join(", ")}\n` };
  },
});
