/** How long a request may take, from its route and its headers. Pure. */
import type { RequestHead } from "#waypoint/http/streams.ts";
import type { ForwardAction, GrpcTimeoutLimit } from "./compiled-route.ts";
import { formatGrpcTimeout, parseGrpcTimeout } from "./durations.ts";
import type { RouterHeaders } from "./router-headers.ts";

/** Milliseconds; 0 for none. */
export interface Timeouts {
  /** From the end of the request, all attempts together. */
  readonly routeMs: number;
  readonly perTryMs: number;
  readonly perTryIdleMs: number;
  /** Without a byte either way. */
  readonly idleMs: number;
  /** From the beginning of the request to the end of its answer. */
  readonly streamMs: number;
}

export function timeoutsOf(
  action: ForwardAction,
  request: RequestHead,
  {
    isGrpc,
    headers,
    idleMs,
    streamMs,
  }: {
    readonly isGrpc: boolean;
    readonly headers: RouterHeaders | undefined;
    /** The listener's. */
    readonly idleMs: number;
    readonly streamMs: number;
  },
): Timeouts {
  const { maxStreamDuration, retryPolicy } = action;
  const routeMs = headers?.timeoutMs ?? routeTimeout(action, request, isGrpc);
  let perTryMs = headers?.perTryTimeoutMs ?? retryPolicy?.perTryTimeoutMs ?? 0;
  if (routeMs !== 0 && perTryMs >= routeMs) perTryMs = 0;
  return {
    routeMs,
    perTryMs,
    perTryIdleMs: retryPolicy?.perTryIdleTimeoutMs ?? 0,
    idleMs: action.idleTimeoutMs ?? idleMs,
    streamMs: maxStreamDuration === undefined ? streamMs : streamTimeout(maxStreamDuration, request, streamMs),
  };
}

function routeTimeout(action: ForwardAction, request: RequestHead, isGrpc: boolean): number {
  if (action.maxStreamDuration !== undefined) return 0;
  if (!isGrpc || action.grpcTimeout === undefined) return action.timeoutMs;
  const asked = parseGrpcTimeout(request.headers.get("grpc-timeout")) ?? 0;
  const { maxMs, offsetMs } = action.grpcTimeout;
  // An offset never turns a timeout into none.
  const own = asked > offsetMs ? asked - offsetMs : asked;
  return maxMs !== 0 && (own === 0 || own > maxMs) ? maxMs : own;
}

function streamTimeout(
  { maxMs, grpcTimeout }: NonNullable<ForwardAction["maxStreamDuration"]>,
  request: RequestHead,
  listenerMs: number,
): number {
  const asked = grpcTimeout && parseGrpcTimeout(request.headers.get("grpc-timeout"));
  if (grpcTimeout === undefined || asked === undefined) return maxMs ?? listenerMs;
  return Math.max(capped(asked, grpcTimeout), 1);
}

function capped(asked: number, { maxMs, offsetMs }: GrpcTimeoutLimit): number {
  const limited = maxMs !== 0 && asked > maxMs ? maxMs : asked;
  return limited > offsetMs ? limited - offsetMs : limited;
}

/** Tells the upstream how long an attempt has: `x-envoy-expected-rq-timeout-ms`, and `grpc-timeout` where the route limits it. */
export function announceTimeout(
  request: RequestHead,
  { routeMs, perTryMs }: Timeouts,
  options: { readonly elapsedMs: number; readonly announces: boolean; readonly setsGrpcTimeout: boolean },
): void {
  let expected = perTryMs === 0 ? routeMs : perTryMs;
  if (expected === 0) return;
  if (routeMs > 0) expected = Math.max(1, Math.min(expected, routeMs - Math.floor(options.elapsedMs)));
  if (options.announces) request.headers.set("x-envoy-expected-rq-timeout-ms", String(expected));
  if (options.setsGrpcTimeout) request.headers.set("grpc-timeout", formatGrpcTimeout(expected));
}
