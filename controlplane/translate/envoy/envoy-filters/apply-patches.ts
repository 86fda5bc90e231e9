/** What EnvoyFilters add to a chain: local rate limits, as filters and as what routes say of them. */
import { anyPack, type Any } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RouteSchema, VirtualHostSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import {
  LocalRateLimitSchema,
  type LocalRateLimit,
} from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { HttpFilterSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { Patch } from "./read-patch.ts";

type Init<T> = Exclude<T, { $typeName: string }>;
type HttpFilterInit = MessageInitShape<typeof HttpFilterSchema>;
type RouteInit = Init<MessageInitShape<typeof RouteSchema>>;
type VirtualHostInit = Init<MessageInitShape<typeof VirtualHostSchema>>;

type FilterPatch = Extract<Patch, { kind: "filter" }>;
type RoutePatch = Extract<Patch, { kind: "route" }>;

const holdsFor = ({ port }: Patch, ownPort: number | undefined): boolean => port === undefined || port === ownPort;

export function withFilters(
  filters: readonly HttpFilterInit[],
  patches: readonly Patch[],
  port: number | undefined,
): HttpFilterInit[] {
  const result = [...filters];
  for (const patch of patches) if (patch.kind === "filter" && holdsFor(patch, port)) insert(result, patch);
  return result;
}

/** A filter that is there already gives way: two of one name would count every request twice. */
function insert(filters: HttpFilterInit[], { name, before, config }: FilterPatch): void {
  const at = before === undefined ? 0 : filters.findIndex((filter) => filter.name === before);
  if (at < 0) return;
  const added: HttpFilterInit = {
    name,
    configType: { case: "typedConfig", value: anyPack(LocalRateLimitSchema, config) },
  };
  const existing = filters.findIndex((filter) => filter.name === name);
  if (existing >= 0) filters[existing] = added;
  else filters.splice(at, 0, added);
}

export function withRoutePatches(
  host: VirtualHostInit,
  all: readonly MessageInitShape<typeof RouteSchema>[],
  patches: readonly Patch[],
  port: number | undefined,
): VirtualHostInit {
  const routes = all as readonly RouteInit[];
  const mine = patches.filter(
    (patch): patch is RoutePatch =>
      patch.kind === "route" &&
      holdsFor(patch, port) &&
      (patch.virtualHost === undefined || patch.virtualHost === host.name),
  );
  if (mine.length === 0) return { ...host, routes: [...routes] };
  const ofHost = mine.filter(({ route }) => route === undefined);
  return {
    ...host,
    ...merged(host, ofHost),
    rateLimits: [...(host.rateLimits ?? []), ...ofHost.flatMap(({ actions }) => actions)],
    routes: routes.map((route) => patchedRoute(route, mine)),
  };
}

function patchedRoute(route: RouteInit, patches: readonly RoutePatch[]): RouteInit {
  const mine = patches.filter((patch) => patch.route !== undefined && (patch.route.name ?? route.name) === route.name);
  if (mine.length === 0) return route;
  const { action } = route;
  const limits = mine.flatMap(({ actions }) => actions);
  return {
    ...route,
    ...merged(route, mine),
    ...(action?.case === "route" && limits.length > 0
      ? {
          action: {
            case: "route",
            value: { ...action.value, rateLimits: [...(action.value.rateLimits ?? []), ...limits] },
          },
        }
      : {}),
  } as RouteInit;
}

function merged(
  { typedPerFilterConfig = {} }: { readonly typedPerFilterConfig?: RouteInit["typedPerFilterConfig"] },
  patches: readonly RoutePatch[],
) {
  const own = patches.flatMap(({ limits }) => [...limits].map(([name, limit]) => [name, packed(limit)] as const));
  return { typedPerFilterConfig: { ...typedPerFilterConfig, ...Object.fromEntries(own) } };
}

const packed = (limit: LocalRateLimit): Any => anyPack(LocalRateLimitSchema, limit);
