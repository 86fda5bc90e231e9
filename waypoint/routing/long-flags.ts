/** Response flags in the long form of access logs. */
import type { ResponseFlag } from "#waypoint/http/exchange.ts";

export const longFlags: Readonly<Record<ResponseFlag, string>> = {
  UH: "NoHealthyUpstream",
  UF: "UpstreamConnectionFailure",
  UO: "UpstreamOverflow",
  NR: "NoRouteFound",
  NC: "NoClusterFound",
  URX: "UpstreamRetryLimitExceeded",
  UT: "UpstreamRequestTimeout",
  UC: "UpstreamConnectionTermination",
  UR: "UpstreamRemoteReset",
  LR: "LocalReset",
  UPE: "UpstreamProtocolError",
  DC: "DownstreamConnectionTermination",
  DR: "DownstreamRemoteReset",
  DPE: "DownstreamProtocolError",
  DI: "DelayInjected",
  FI: "FaultInjected",
  RL: "RateLimited",
  RLSE: "RateLimitServiceError",
  UAEX: "UnauthorizedExternalService",
  SI: "StreamIdleTimeout",
  DT: "DurationTimeout",
  OM: "OverloadManagerTerminated",
};
