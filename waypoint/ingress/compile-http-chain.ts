/** HttpConnectionManager → what a connection of its chain runs on. */
import {
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
  type HttpConnectionManager,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { NetworkLayer } from "#waypoint/layers/network-layer.ts";
import { compileRoutes } from "#waypoint/routing/compile-routes.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { HttpRouter } from "#waypoint/routing/router.ts";
import { statsConfig } from "#waypoint/telemetry/metrics/stats-config.ts";
import { AnswerRules, type AnswerSettings } from "./answer-rules.ts";
import { compileCodec } from "./compile-codec.ts";
import { below, type ListenerContext } from "./compile-context.ts";
import { compileHttpFilters } from "./compile-http-filters.ts";
import type { HttpChain } from "./http-chain.ts";
import { compileRequestSettings, requestIdConfig } from "./compile-request-settings.ts";
import { RequestRules } from "./request-rules.ts";
import { fieldTables, refuseUnsupported } from "./supported-fields.ts";

export interface HttpChainParts {
  readonly name: string;
  readonly networkLayers: readonly NetworkLayer[];
  readonly bufferLimitBytes: number | undefined;
}

/** As Envoy's defaults. Milliseconds. */
const streamIdleTimeoutMsDefault = 300_000;
const serverNameDefault = "envoy";

export function compileHttpChain(
  config: HttpConnectionManager,
  { name, networkLayers, bufferLimitBytes }: HttpChainParts,
  context: ListenerContext,
): HttpChain | undefined {
  const { problem, clock, log, clusters, random } = context;
  refuseUnsupported(fieldTables.connectionManager, config, "", problem);
  if (config.routeSpecifier.case !== undefined && config.routeSpecifier.case !== "routeConfig") {
    problem(config.routeSpecifier.case === "rds" ? "rds" : "scoped_routes", "routes have to stand in route_config");
  }
  const routeConfig = config.routeSpecifier.case === "routeConfig" ? config.routeSpecifier.value : undefined;
  if (config.routeSpecifier.case === undefined) problem("route_config", "is missing");
  const { layers, router } = compileHttpFilters(config.httpFilters, context);
  const suppressesEnvoyHeaders = router?.suppressEnvoyHeaders ?? false;
  const routeTypes = new Map(context.layerKinds.flatMap(({ routeTypes = {} }) => Object.entries(routeTypes)));
  const routes =
    routeConfig === undefined
      ? undefined
      : compileRoutes(routeConfig, { ...below(context, "route_config"), routeTypes, suppressesEnvoyHeaders });
  if (routes === undefined) return undefined;
  const maxStreamDurationMs = readMs(
    config.commonHttpProtocolOptions?.maxStreamDuration,
    "common_http_protocol_options.max_stream_duration",
    problem,
  );
  const serverName = config.serverName === "" ? serverNameDefault : config.serverName;
  const stats = config.httpFilters
    .map(({ configType }) => (configType.case === "typedConfig" ? statsConfig(configType.value) : undefined))
    .filter((found) => found !== undefined);
  const telemetry = {
    accessLog: config.accessLog,
    tracing: config.tracing,
    requestId: requestIdConfig(config),
    stats: stats[0],
  };
  return {
    kind: "http",
    name,
    networkLayers,
    codec: compileCodec(config, serverName, context),
    rules: new RequestRules(compileRequestSettings(config, routes.internalOnlyHeaders, context)),
    answers: new AnswerRules({
      serverName,
      serverHeader: serverHeaderOf(config),
      returnsRequestId: config.alwaysSetRequestIdInResponse,
      via: config.via,
    }),
    layers,
    routes,
    router: new HttpRouter({
      clusters,
      clock,
      random,
      suppressesEnvoyHeaders,
      streamIdleTimeoutMs:
        readMs(config.streamIdleTimeout, "stream_idle_timeout", problem) ?? streamIdleTimeoutMsDefault,
      ...(maxStreamDurationMs !== undefined && { maxStreamDurationMs }),
      ...(bufferLimitBytes !== undefined && { bufferLimitBytes }),
    }),
    upgrades: upgradesOf(config, context),
    requestTimeoutMs: readMs(config.requestTimeout, "request_timeout", problem) ?? 0,
    observers: context.telemetry.http(telemetry, name, context),
    clock,
    log,
  };
}

function serverHeaderOf({ serverHeaderTransformation }: HttpConnectionManager): AnswerSettings["serverHeader"] {
  switch (serverHeaderTransformation) {
    case ServerHeader.OVERWRITE:
      return "overwrite";
    case ServerHeader.APPEND_IF_ABSENT:
      return "append-if-absent";
    case ServerHeader.PASS_THROUGH:
      return "pass";
  }
}

function upgradesOf({ upgradeConfigs }: HttpConnectionManager, { problem }: ListenerContext): ReadonlySet<string> {
  const allowed = new Set<string>();
  upgradeConfigs.forEach((config, index) => {
    const path = `upgrade_configs[${index}]`;
    refuseUnsupported(fieldTables.upgradeConfig, config, path, problem);
    const type = config.upgradeType.toLowerCase();
    if (type === "") problem(`${path}.upgrade_type`, "is missing");
    else if (config.enabled ?? true) allowed.add(type);
  });
  return allowed;
}
