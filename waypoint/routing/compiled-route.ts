/** A route as the request path uses it. Made by `compile-routes.ts`. */
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";

export interface CompiledRoute {
  readonly name: string;
  /** What the layers were told for this route, virtual host and route configuration together (most specific wins), by layer name. */
  readonly layerConfigs: ReadonlyMap<string, unknown>;
  readonly action: RouteAction;
  /** `metadata.filter_metadata`. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** Runs once, after the layers and before the first attempt: header operations, host and path rewrite. */
  editRequest(exchange: Exchange): void;
  editResponse(exchange: Exchange, head: ResponseHead): void;
}

export type RouteAction = { readonly kind: "reply"; reply(exchange: Exchange): LocalReply } | ForwardAction;

export interface ForwardAction {
  readonly kind: "forward";
  /** Name of the cluster, drawn by weight where there are several; the draw holds for every attempt. */
  readonly pickCluster: (exchange: Exchange, random: () => number) => string;
  /** Milliseconds; 0 for none. */
  readonly timeoutMs: number;
}
