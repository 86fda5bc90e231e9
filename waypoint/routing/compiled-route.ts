/** A route as the request path uses it. Made by `compile-routes.ts`. */
import type { RateLimit, Tracing } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { LocalReply, RequestView } from "#waypoint/http/request-view.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { RoutingPriority } from "#waypoint/upstream/routing-priority.ts";
import type { HashPolicy } from "./hash-policy.ts";
import type { MirrorPolicy } from "./mirror-policy.ts";
import type { RetryPolicy } from "./retry-policy.ts";

export interface CompiledRoute {
  readonly name: string;
  readonly virtualHost: string;
  /** What the layers were told for this route, virtual host and route configuration together (most specific wins), by layer name. */
  readonly layerConfigs: ReadonlyMap<string, unknown>;
  /** Names of layers that are switched off (`true`) or on (`false`) for this route, against what the listener says. */
  readonly layerDisabled: ReadonlyMap<string, boolean>;
  readonly action: RouteAction;
  /** `metadata.filter_metadata`. */
  readonly metadata: ReadonlyMap<string, unknown>;
  readonly rateLimits: RouteRateLimits;
  /** Name of the span instead of the default, and whether a caller's `x-envoy-decorator-operation` replaces it. */
  readonly decorator: { readonly operation: string; readonly propagate: boolean } | undefined;
  /** Sampling and tags of this route, as configured. */
  readonly tracing: Tracing | undefined;
  readonly statPrefix: string;
  /**
   * Header operations, host and path rewrite. Once, after the layers and before the router. Where the listener does not
   * suppress it, `x-envoy-original-path` tells the upstream what was rewritten.
   */
  editRequest(exchange: RequestView): void;
  /** Header operations on an answer, upstream's or our own. Once, before the layers see it. */
  editResponse(exchange: RequestView, head: ResponseHead): void;
}

/** For the rate limit layers, as configured. */
export interface RouteRateLimits {
  readonly route: readonly RateLimit[];
  readonly virtualHost: readonly RateLimit[];
  readonly includesVirtualHost: boolean;
}

/** Redirects and direct answers (`reply`), or an upstream. */
export type RouteAction = { readonly kind: "reply"; reply(exchange: RequestView): LocalReply } | ForwardAction;

export interface ForwardAction {
  readonly kind: "forward";
  /**
   * Name of the cluster; empty where the request does not name one. A weighted route has been drawn by then: each of its
   * clusters is a {@link CompiledRoute} of its own, so that the draw holds for every attempt and for the answer.
   */
  readonly pickCluster: (exchange: RequestView) => string;
  /** 503, 404 or 500. */
  readonly clusterNotFoundStatus: number;
  /** Milliseconds from the end of the request to the end of the answer, all attempts together; 0 for none. */
  readonly timeoutMs: number;
  /** How far a client's `grpc-timeout` replaces {@link timeoutMs} (the older way); undefined where it does not. */
  readonly grpcTimeout: GrpcTimeoutLimit | undefined;
  /** Milliseconds without a byte either way; 0 for none, undefined for the listener's. */
  readonly idleTimeoutMs: number | undefined;
  /** Of the whole exchange. With it, {@link timeoutMs} does not apply. */
  readonly maxStreamDuration: MaxStreamDuration | undefined;
  readonly priority: RoutingPriority;
  readonly retryPolicy: RetryPolicy | undefined;
  readonly hashPolicy: HashPolicy | undefined;
  readonly mirrors: readonly MirrorPolicy[];
  readonly metadataMatch: Readonly<Record<string, unknown>> | undefined;
  /** Upgrades allowed or forbidden by this route, in lower case (`websocket`), against what the listener says. */
  readonly upgrades: ReadonlyMap<string, boolean>;
  /** The authority becomes the picked host's name. */
  readonly rewritesHostAutomatically: boolean;
  readonly appendsForwardedHost: boolean;
  /** `x-envoy-attempt-count` for the upstream, and for the client. */
  readonly countsAttempts: boolean;
  readonly countsAttemptsInResponse: boolean;
  /** `x-envoy-is-timeout-retry` for the upstream. */
  readonly tellsTimeoutRetries: boolean;
  /** Bytes of a request's body kept for another attempt. */
  readonly bufferLimitBytes: number | undefined;
}

export interface GrpcTimeoutLimit {
  /** 0 for any. */
  readonly maxMs: number;
  readonly offsetMs: number;
}

export interface MaxStreamDuration {
  /** 0 for none, undefined for the listener's. */
  readonly maxMs: number | undefined;
  /** Undefined where `grpc-timeout` does not count. */
  readonly grpcTimeout: GrpcTimeoutLimit | undefined;
}
