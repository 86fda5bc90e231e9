/** Virtual hosts and their routes, ready to be walked. */
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { CompiledRoute } from "./compiled-route.ts";

export class RouteTable {
  /** The first route that matches; undefined for 404. Call again after a layer cleared `exchange.route`. */
  match(_exchange: Exchange): CompiledRoute | undefined {
    return undefined;
  }
}
