/** What route configurations are compiled with. */
import type { RateLimit } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { MirrorPolicy } from "./mirror-policy.ts";
import type { RetryPolicy } from "./retry-policy.ts";
import type { Scope, ScopeContext } from "./scope.ts";

export interface RouteContext extends ScopeContext {
  /** `suppress_envoy_headers` of the router. */
  readonly suppressesEnvoyHeaders?: boolean;
  /** [0, 1). */
  readonly random?: () => number;
}

/** What virtual host and route configuration say for their routes. */
export interface RouteDefaults {
  readonly context: RouteContext;
  readonly innerWins: boolean;
  readonly virtualHost: string;
  readonly scope: Scope;
  readonly retryPolicy: RetryPolicy | undefined;
  readonly mirrors: readonly MirrorPolicy[];
  readonly rateLimits: readonly RateLimit[];
  readonly countsAttempts: boolean;
  readonly countsAttemptsInResponse: boolean;
  readonly tellsTimeoutRetries: boolean;
  readonly bufferLimitBytes: number | undefined;
  readonly maxDirectBodyBytes: number;
  readonly validatesClusters: boolean;
}
