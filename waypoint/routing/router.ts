/** The last step of a request: sends it to an upstream and brings the answer back. */
import type { Clock } from "#shared/clock/clock.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { UpstreamStream } from "#waypoint/http/streams.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import type { CompiledRoute, ForwardAction } from "./compiled-route.ts";
import type { ForwardReader, Router } from "./router-contract.ts";

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

export class HttpRouter implements Router {
  readonly #options: RouterOptions;

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  forward(
    _exchange: Exchange,
    _route: CompiledRoute & { readonly action: ForwardAction },
    _endsWithHead: boolean,
    _reader: ForwardReader,
  ): UpstreamStream {
    throw new TypeError(`not yet ${String(this.#options.random?.())}`);
  }
}
