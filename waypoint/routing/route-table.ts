/** Virtual hosts and their routes, ready to be walked. */
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { CompiledRoute } from "./compiled-route.ts";
import type { Domains } from "./domains.ts";
import type { RouteIndex } from "./route-index.ts";

/** A route that matched: one, or several of which chance draws one (weighted clusters). */
export interface RouteEntry {
  choose(exchange: Exchange): CompiledRoute | undefined;
}

export interface VirtualHostRoutes {
  readonly index: RouteIndex;
  readonly entries: readonly RouteEntry[];
}

export class RouteTable {
  readonly name: string;
  /** Taken away from requests that come from outside. */
  readonly internalOnlyHeaders: readonly string[];
  readonly #domains: Domains<VirtualHostRoutes>;
  readonly #ignoresPort: boolean;
  readonly #random: () => number;

  constructor(
    name: string,
    domains: Domains<VirtualHostRoutes>,
    options: {
      readonly ignoresPort: boolean;
      readonly random: () => number;
      readonly internalOnlyHeaders: readonly string[];
    },
  ) {
    this.name = name;
    this.#domains = domains;
    this.#ignoresPort = options.ignoresPort;
    this.#random = options.random;
    this.internalOnlyHeaders = options.internalOnlyHeaders;
  }

  /** The first route that matches; undefined for 404. Call again after a layer cleared `exchange.route`. */
  match(exchange: Exchange): CompiledRoute | undefined {
    if (exchange.draw < 0) exchange.draw = this.#random();
    const { request } = exchange;
    const host = this.#domains.find(request.authority, this.#ignoresPort);
    if (host === undefined) return undefined;
    const position = host.index.find(exchange, pathOnly(request.path));
    return position < 0 ? undefined : host.entries[position]?.choose(exchange);
  }
}

/** Without query and fragment. */
export function pathOnly(path: string): string {
  const query = path.indexOf("?");
  const fragment = path.indexOf("#");
  const end = query < 0 || (fragment >= 0 && fragment < query) ? fragment : query;
  return end < 0 ? path : path.slice(0, end);
}
