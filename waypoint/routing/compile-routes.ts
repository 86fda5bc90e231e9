/** Compiles Envoy's RouteConfiguration into a {@link RouteTable}. */
import type { Any } from "@bufbuild/protobuf/wkt";
import type { RouteConfiguration } from "#shared/proto/gen/envoy/config/route/v3/route_pb.js";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import { RouteTable } from "./route-table.ts";

export interface RouteContext extends LayerContext {
  /** What may stand in `typed_per_filter_config`: message name → compiler, of all kinds of layers. */
  readonly routeTypes: ReadonlyMap<string, (config: Any, context: LayerContext) => unknown>;
  /** `suppress_envoy_headers` of the router. */
  readonly suppressesEnvoyHeaders?: boolean;
}

/** Every mistake goes to `context.problem`; the table is then not to be used. */
export function compileRoutes(_config: RouteConfiguration, _context: RouteContext): RouteTable {
  return new RouteTable();
}
