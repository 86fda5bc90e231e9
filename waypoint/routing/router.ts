/** The last step of a request: sends it to an upstream and brings the answer back. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { UpstreamStream } from "#waypoint/http/streams.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import type { CompiledRoute, ForwardAction } from "./compiled-route.ts";
import { Forwarding, type ForwardingContext } from "./forwarding.ts";
import { isRetriable } from "./retry-state.ts";
import type { ForwardReader, Router } from "./router-contract.ts";
import { takeRouterHeaders, withRouterHeaders } from "./router-headers.ts";
import { timeoutsOf } from "./timeouts.ts";

export interface RouterOptions {
  readonly clusters: Clusters;
  readonly clock: Clock;
  /** [0, 1). */
  readonly random?: () => number;
  /** `suppress_envoy_headers`. */
  readonly suppressesEnvoyHeaders?: boolean;
  /** The listener's `stream_idle_timeout`, milliseconds; 0 for none. A route may say otherwise. */
  readonly streamIdleTimeoutMs?: number;
  /** The listener's `max_stream_duration`; 0 for none. A route may say otherwise. */
  readonly maxStreamDurationMs?: number;
  /** The listener's `per_connection_buffer_limit_bytes`: how much of a body is kept for another attempt. Default 1 MiB. */
  readonly bufferLimitBytes?: number;
}

/** Envoy's `per_connection_buffer_limit_bytes` where a listener says nothing. */
const defaultBufferLimitBytes = 1024 * 1024;

export class HttpRouter implements Router {
  readonly #context: ForwardingContext;
  readonly #idleMs: number;
  readonly #streamMs: number;
  readonly #bufferLimitBytes: number;

  constructor(options: RouterOptions) {
    this.#context = {
      clusters: options.clusters,
      clock: options.clock,
      random: options.random ?? Math.random,
      suppressesEnvoyHeaders: options.suppressesEnvoyHeaders === true,
    };
    this.#idleMs = options.streamIdleTimeoutMs ?? 0;
    this.#streamMs = options.maxStreamDurationMs ?? 0;
    this.#bufferLimitBytes = options.bufferLimitBytes ?? defaultBufferLimitBytes;
  }

  forward(
    exchange: Exchange,
    route: CompiledRoute & { readonly action: ForwardAction },
    endsWithHead: boolean,
    reader: ForwardReader,
  ): UpstreamStream {
    const { action } = route;
    const { request } = exchange;
    const { isGrpc } = exchange;
    const headers = takeRouterHeaders(request);
    const timeouts = timeoutsOf(action, request, {
      isGrpc,
      headers,
      idleMs: this.#idleMs,
      streamMs: this.#streamMs,
    });
    const policy = headers === undefined ? action.retryPolicy : withRouterHeaders(action.retryPolicy, headers);
    const plan = {
      action,
      timeouts,
      retryPolicy: isRetriable(policy, request) ? policy : undefined,
      isGrpc,
      bufferLimitBytes: action.bufferLimitBytes ?? this.#bufferLimitBytes,
    };
    const forwarding = new Forwarding(this.#context, plan, exchange, endsWithHead, reader);
    forwarding.start();
    return forwarding;
  }
}
