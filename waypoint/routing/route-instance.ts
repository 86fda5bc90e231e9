/** A compiled route: facts, and the edits that its requests and answers get. */
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { CompiledRoute, RouteAction, RouteRateLimits } from "./compiled-route.ts";
import type { HeaderEdit } from "./header-edits.ts";
import { rewriteHost, type HostRewrite } from "./host-rewrite.ts";
import type { PathRewrite } from "./path-rewrite.ts";
import type { Scope } from "./scope.ts";

export interface RouteFacts extends Pick<
  CompiledRoute,
  "name" | "virtualHost" | "metadata" | "decorator" | "tracing" | "statPrefix"
> {
  readonly rateLimits: RouteRateLimits;
  readonly action: RouteAction;
  readonly scope: Scope;
  /** Of a weighted cluster, "" for none: takes the place of what the client said before the route looks at it. */
  readonly weightedHost?: string;
  readonly hostRewrite: HostRewrite | undefined;
  readonly pathRewrite: PathRewrite | undefined;
  readonly keepsOriginal: boolean;
}

export class RouteInstance implements CompiledRoute {
  readonly name: string;
  readonly virtualHost: string;
  readonly action: RouteAction;
  readonly layerConfigs: ReadonlyMap<string, unknown>;
  readonly layerDisabled: ReadonlyMap<string, boolean>;
  readonly metadata: CompiledRoute["metadata"];
  readonly rateLimits: RouteRateLimits;
  readonly decorator: CompiledRoute["decorator"];
  readonly tracing: CompiledRoute["tracing"];
  readonly statPrefix: string;
  readonly #requestEdits: readonly HeaderEdit[];
  readonly #responseEdits: readonly HeaderEdit[];
  readonly #weightedHost: string;
  readonly #hostRewrite: HostRewrite | undefined;
  readonly #pathRewrite: PathRewrite | undefined;
  readonly #hostOptions: { readonly appendsForwardedHost: boolean; readonly keepsOriginal: boolean };

  constructor(facts: RouteFacts) {
    this.name = facts.name;
    this.virtualHost = facts.virtualHost;
    this.action = facts.action;
    this.layerConfigs = facts.scope.layerConfigs;
    this.layerDisabled = facts.scope.layerDisabled;
    this.metadata = facts.metadata;
    this.rateLimits = facts.rateLimits;
    this.decorator = facts.decorator;
    this.tracing = facts.tracing;
    this.statPrefix = facts.statPrefix;
    this.#requestEdits = facts.scope.requestEdits;
    this.#responseEdits = facts.scope.responseEdits;
    this.#weightedHost = facts.weightedHost ?? "";
    this.#hostRewrite = facts.hostRewrite;
    this.#pathRewrite = facts.pathRewrite;
    this.#hostOptions = {
      appendsForwardedHost: facts.action.kind === "forward" && facts.action.appendsForwardedHost,
      keepsOriginal: facts.keepsOriginal,
    };
  }

  editRequest(exchange: Exchange): void {
    const { request } = exchange;
    // Values of header operations see the path and the host as they came.
    for (const edit of this.#requestEdits) edit(request.headers, exchange, undefined);
    if (this.#weightedHost !== "") request.authority = this.#weightedHost;
    if (this.#hostRewrite !== undefined) {
      const authority = this.#hostRewrite(request);
      if (authority) rewriteHost(request, authority, this.#hostOptions);
    }
    if (this.#pathRewrite !== undefined) {
      const path = this.#pathRewrite(request.path);
      if (this.#hostOptions.keepsOriginal) request.headers.set("x-envoy-original-path", request.path);
      request.path = path;
    }
  }

  editResponse(exchange: Exchange, head: ResponseHead): void {
    for (const edit of this.#responseEdits) edit(head.headers, exchange, head);
  }
}
