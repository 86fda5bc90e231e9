/**
 * A layer is one HTTP filter: it looks at a request before it is routed on, at the answer on its way back, and at the
 * end of both. Layers run in the order of the configuration, on answers in reverse.
 */
import type { Any } from "@bufbuild/protobuf/wkt";
import type { Clock } from "#shared/clock/clock.ts";
import type { Logger } from "#shared/observe/logger.ts";
import type { NodeFacts } from "#waypoint/expressions/attributes.ts";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";
import type { Peers } from "#waypoint/telemetry/peers.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";

/** Go on, or answer now with this. */
export type LayerResult = LocalReply | undefined;

export interface Layer {
  /** As configured, such as `envoy.filters.http.rbac`; key of per-route configuration. */
  readonly name: string;
  /** Returns at once where it can: a promise costs every request a turn of the loop. */
  onRequest?(exchange: Exchange, body: RequestBody): LayerResult | Promise<LayerResult>;
  /** Once, when every layer has let the request pass; undefined where bodies stay as they are. */
  transform?(exchange: Exchange): BodyTransform | undefined;
  /** Before the head goes to the client; also for answers of our own, even where an earlier layer gave them. */
  onResponse?(exchange: Exchange, head: ResponseHead): void;
  /** Exactly once, whatever happened. */
  onEnd?(exchange: Exchange, end: ExchangeEnd): void;
}

/**
 * Bytes of bodies become others on their way, piece by piece. An empty piece is not passed on. What throws breaks the
 * exchange off.
 */
export interface BodyTransform {
  request(chunk: Buffer): Buffer;
  response(chunk: Buffer): Buffer;
  /** What is still to be sent when upstream's answer has ended, and its trailers, if they go on as trailers. */
  responseEnd(trailers: Headers | undefined): {
    readonly rest: Buffer | undefined;
    readonly trailers: Headers | undefined;
  };
}

/** The request's body, for the layers that need it before the request goes on. */
export interface RequestBody {
  /** Up to `maxBytes` of it; `isComplete` says whether that is all. Resolves early with what there is once that many bytes are in. */
  peek(maxBytes: number): Promise<{ readonly bytes: Buffer; readonly isComplete: boolean }>;
}

/** What expressions know of the proxy and of those around it. */
export interface ProxyFacts {
  readonly node: NodeFacts;
  readonly peers: Peers;
}

/** What layers may use of the process. */
export interface LayerContext {
  readonly facts: ProxyFacts;
  readonly clock: Clock;
  readonly log: Logger;
  readonly clusters: Clusters;
  /** Fills in what is wrong with a configuration; any entry refuses the resource (NACK). `path` such as `token_bucket.fill_interval`. */
  readonly problem: (path: string, message: string) => void;
}

/** How to make one kind of layer; registered by the type of its configuration. */
export interface LayerKind {
  /** Full message name, such as `envoy.extensions.filters.http.rbac.v3.RBAC`. */
  readonly type: string;
  /** Undefined where the configuration makes the layer do nothing on every route (no code runs then). */
  compile(name: string, config: Any, context: LayerContext): Layer | undefined;
  /** Message names that may stand in `typed_per_filter_config` for this layer, and how to compile them. Kept in {@link CompiledRoute.layerConfigs}. */
  readonly routeTypes?: Readonly<Record<string, (config: Any, context: LayerContext) => unknown>>;
}
