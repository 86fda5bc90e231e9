/**
 * What is understood of EnvoyFilters: local rate limits, in the three patches that users write for them. Everything else
 * is told, with what to write instead.
 */
import { fromJson, type DescMessage, type JsonObject, type JsonValue, type MessageShape } from "@bufbuild/protobuf";
import { RateLimitSchema, type RateLimit } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import {
  LocalRateLimitSchema,
  type LocalRateLimit,
} from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { ConfigPatch } from "#controlplane/mesh/envoy-filter.ts";

export type Patch =
  | {
      readonly kind: "filter";
      /** Undefined: every port. */
      readonly port: number | undefined;
      /** Name of the filter that it stands before; undefined: it is the first. */
      readonly before: string | undefined;
      readonly name: string;
      readonly config: LocalRateLimit;
    }
  | {
      readonly kind: "route";
      readonly port: number | undefined;
      /** Undefined: every one. */
      readonly virtualHost: string | undefined;
      /** Undefined: what holds for the whole virtual host. */
      readonly route: { readonly name: string | undefined } | undefined;
      /** Name of the filter → its limits there. */
      readonly limits: ReadonlyMap<string, LocalRateLimit>;
      readonly actions: readonly RateLimit[];
    };

/** Why a patch has no effect. */
export class PatchProblem extends Error {}

const limitFilter = "envoy.filters.http.local_ratelimit";
const managerName = "envoy.filters.network.http_connection_manager";

/** What users of other patches look for. */
const instead: Readonly<Record<string, string>> = {
  LISTENER: "listeners follow from Gateways and Services",
  FILTER_CHAIN: "chains follow from the ports of Services",
  NETWORK_FILTER: "for policies on connections write an AuthorizationPolicy, for idle times a DestinationRule",
  HTTP_FILTER:
    "for rate limits write a RateLimitPolicy, for headers a VirtualService, for access an AuthorizationPolicy",
  ROUTE_CONFIGURATION: "for routes and headers write a VirtualService or HTTPRoute",
  VIRTUAL_HOST: "for headers, retries and timeouts write a VirtualService",
  HTTP_ROUTE: "for headers, retries and timeouts write a VirtualService",
  CLUSTER: "for connections, TLS and balancing write a DestinationRule, for further hosts a ServiceEntry",
  EXTENSION_CONFIG: "extensions are not supported",
  BOOTSTRAP: "settings of the process are environment variables of the waypoint",
  LISTENER_FILTER: "how ports are told apart follows from Services: see appProtocol",
};

/** @throws PatchProblem */
export function readPatch(patch: ConfigPatch): Patch {
  const context = textAt(patch.match, "context") ?? "ANY";
  if (context !== "ANY" && context !== "SIDECAR_INBOUND" && context !== "WAYPOINT") {
    throw new PatchProblem(`context ${context} is no waypoint's: write SIDECAR_INBOUND`);
  }
  if (patch.applyTo === "HTTP_FILTER" && (patch.operation === "INSERT_BEFORE" || patch.operation === "INSERT_FIRST")) {
    return readFilter(patch);
  }
  if ((patch.applyTo === "VIRTUAL_HOST" || patch.applyTo === "HTTP_ROUTE") && patch.operation === "MERGE") {
    return readRoute(patch, patch.applyTo);
  }
  throw unsupported(patch);
}

const unsupported = ({ applyTo, operation }: ConfigPatch, what = ""): PatchProblem =>
  new PatchProblem(
    `${applyTo} ${operation}${what === "" ? "" : ` of ${what}`} is not supported: ${instead[applyTo] ?? "only local rate limits are"}`,
  );

function readFilter(patch: ConfigPatch): Patch {
  const { match, value, operation } = patch;
  const name = textAt(value, "name") ?? "";
  const config = value["typed_config"] ?? value["typedConfig"];
  if (!isLimit(config)) throw unsupported(patch, name === "" ? "a filter without a name" : name);
  onlyKeys(value, ["name", "typed_config", "typedConfig"]);
  const listener = objectAt(match, "listener");
  const waypoint = objectAt(match, "waypoint");
  const filter = objectAt(objectAt(listener, "filterChain"), "filter");
  const manager = textAt(filter, "name");
  if (manager !== undefined && manager !== managerName) {
    throw new PatchProblem(`filter "${manager}" is not in a waypoint's chains: write ${managerName}`);
  }
  const sub =
    textAt(objectAt(filter, "subFilter"), "name") ??
    textAt(objectAt(objectAt(waypoint, "filter"), "subFilter"), "name");
  return {
    kind: "filter",
    port: numberAt(listener, "portNumber") ?? numberAt(waypoint, "portNumber"),
    before: operation === "INSERT_FIRST" ? undefined : sub,
    name: name === "" ? limitFilter : name,
    config: limitOf(config),
  };
}

function readRoute(patch: ConfigPatch, applyTo: "VIRTUAL_HOST" | "HTTP_ROUTE"): Patch {
  const { match, value } = patch;
  const isRoute = applyTo === "HTTP_ROUTE";
  const perFilter = objectAt(value, "typed_per_filter_config") ?? objectAt(value, "typedPerFilterConfig") ?? {};
  const action = isRoute ? objectAt(value, "route") : value;
  const actions = action?.["rate_limits"] ?? action?.["rateLimits"] ?? [];
  const known = ["typed_per_filter_config", "typedPerFilterConfig"];
  onlyKeys(value, isRoute ? [...known, "route"] : [...known, "rate_limits", "rateLimits"]);
  if (isRoute) onlyKeys(action ?? {}, ["rate_limits", "rateLimits"], "route.");
  const limits = new Map<string, LocalRateLimit>();
  for (const [name, config] of Object.entries(perFilter)) {
    if (!isLimit(config)) throw unsupported(patch, `configuration for ${name}`);
    limits.set(name, limitOf(config));
  }
  const configuration = objectAt(match, "routeConfiguration");
  const waypoint = objectAt(match, "waypoint");
  const host = objectAt(configuration, "vhost");
  const route = objectAt(host, "route") ?? objectAt(waypoint, "route");
  return {
    kind: "route",
    port: numberAt(configuration, "portNumber") ?? numberAt(waypoint, "portNumber"),
    virtualHost: textAt(host, "name"),
    route: isRoute ? { name: textAt(route, "name") } : undefined,
    limits,
    actions: Array.isArray(actions) ? actions.map((each) => parsed(RateLimitSchema, each, "rate_limits")) : [],
  };
}

function onlyKeys(value: JsonObject, known: readonly string[], prefix = ""): void {
  const other = Object.keys(value).find((key) => !known.includes(key));
  if (other !== undefined) {
    throw new PatchProblem(`${prefix}${other} is not supported: only local rate limits are; write a VirtualService`);
  }
}

const structTypes = new Set(["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"]);

const typeOf = (config: JsonObject, key: string): string => (textAt(config, key) ?? "").replace(/^.*\//, "");

function isLimit(config: JsonValue | undefined): config is JsonObject {
  if (!isObject(config)) return false;
  const type = typeOf(config, "@type");
  const meant = structTypes.has(type) ? typeOf(config, "type_url") || typeOf(config, "typeUrl") : type;
  return meant === LocalRateLimitSchema.typeName;
}

/** Written as itself, or as a struct that stands for it. */
function limitOf(config: JsonObject): LocalRateLimit {
  const { "@type": type, ...fields } = config;
  const isStruct = typeof type === "string" && structTypes.has(type.replace(/^.*\//, ""));
  return parsed(LocalRateLimitSchema, isStruct ? (config["value"] ?? {}) : fields, limitFilter);
}

function parsed<Schema extends DescMessage>(schema: Schema, json: JsonValue, what: string): MessageShape<Schema> {
  try {
    return fromJson(schema, json);
  } catch (error) {
    throw new PatchProblem(`${what} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const isObject = (value: JsonValue | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function objectAt(value: JsonObject | undefined, key: string): JsonObject | undefined {
  const found = value?.[key];
  return isObject(found) ? found : undefined;
}

function textAt(value: JsonObject | undefined, key: string): string | undefined {
  const found = value?.[key];
  return typeof found === "string" && found !== "" ? found : undefined;
}

function numberAt(value: JsonObject | undefined, key: string): number | undefined {
  const found = value?.[key];
  return typeof found === "number" && found !== 0 ? found : undefined;
}
