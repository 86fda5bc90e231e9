/** Answers of our own where an upstream gave none, in the words of Envoy, which dashboards and scripts know. */
import type { LocalReply, ResponseFlag } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResetReason } from "#waypoint/http/streams.ts";

const reasons: Readonly<Record<ResetReason, { readonly text: string; readonly flag: ResponseFlag }>> = {
  "connection-termination": { text: "connection termination", flag: "UC" },
  "connect-failure": { text: "remote connection failure", flag: "UF" },
  "connect-timeout": { text: "connection timeout", flag: "UF" },
  "remote-reset": { text: "remote reset", flag: "UR" },
  "refused-stream": { text: "remote refused stream reset", flag: "UR" },
  "closed-unanswered": { text: "connection termination", flag: "UC" },
  "protocol-error": { text: "protocol error", flag: "UPE" },
  "local-reset": { text: "local reset", flag: "LR" },
  overflow: { text: "overflow", flag: "UO" },
};

export const resetFlag = (reason: ResetReason): ResponseFlag => reasons[reason].flag;

/** `details` of an answer that ended, or never began, for this reason. */
export function resetDetails(reason: ResetReason, detail: string, isStarted: boolean): string {
  const transport = transportReason(reason, detail);
  const inner = transport === "" ? reasons[reason].text : `${reasons[reason].text}|${transport}`;
  return `upstream_reset_${isStarted ? "after" : "before"}_response_started{${inner.replaceAll(/[\s{}]/g, "_")}}`;
}

/** Only of connections that did not come about: what happened on one that did is in its reason. Logs put it in quotes. */
export const transportReason = (reason: ResetReason, detail: string): string =>
  reason === "connect-failure" ? detail.replaceAll('"', "") : "";

export function resetReply(reason: ResetReason, detail: string, isRetried: boolean): LocalReply {
  return {
    status: reason === "protocol-error" ? 502 : 503,
    // What exactly failed is the log's: it names addresses.
    body: `upstream connect error or disconnect/reset before headers. ${isRetried ? "retried and the latest " : ""}reset reason: ${reasons[reason].text}`,
    details: resetDetails(reason, detail, false),
    flag: reasons[reason].flag,
    ...(reason === "overflow" ? { headers: new Headers(["x-envoy-overloaded", "true"]) } : {}),
  };
}

export const overflowReply = (isRetried: boolean): LocalReply => resetReply("overflow", "", isRetried);

export const noHealthyUpstream: LocalReply = {
  status: 503,
  body: "no healthy upstream",
  details: "no_healthy_upstream",
  flag: "UH",
};

export const clusterNotFound = (status: number): LocalReply => ({ status, details: "cluster_not_found", flag: "NC" });

export const routeTimeout: LocalReply = {
  status: 504,
  body: "upstream request timeout",
  details: "response_timeout",
  flag: "UT",
};

export const perTryTimeout: LocalReply = { ...routeTimeout, details: "upstream_per_try_timeout" };
export const perTryIdleTimeout: LocalReply = { ...routeTimeout, details: "upstream_per_try_idle_timeout" };

/** A client that has not said all it wanted is at fault; otherwise the upstream is. */
export const idleTimeout = (isRequestComplete: boolean): LocalReply => ({
  status: isRequestComplete ? 504 : 408,
  body: "stream timeout",
  details: "stream_idle_timeout",
  flag: "SI",
});

export const streamTimeout = (isRequestComplete: boolean): LocalReply => ({
  status: isRequestComplete ? 504 : 408,
  body: "downstream duration timeout",
  details: "max_duration_timeout",
  flag: "DT",
  grpcStatus: 4,
});
