/** The connection manager of a chain whose requests are looked at. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { RouteSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  HeaderValueOptionSchema,
} from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { CorsSchema } from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { FilterConfigSchema as ForwardProxySchema } from "#shared/proto/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { FilterConfigSchema as GrpcStatsSchema } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import { GrpcWebSchema } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js";
import { HeaderMutationSchema } from "#shared/proto/gen/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { RouterSchema } from "#shared/proto/gen/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  HttpConnectionManager_CodecType as CodecType,
  HttpConnectionManager_ForwardClientCertDetails as ForwardClientCert,
  HttpConnectionManager_PathWithEscapedSlashesAction as EscapedSlashes,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
  HttpConnectionManagerSchema,
  type HttpFilterSchema,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { UuidRequestIdConfigSchema } from "#shared/proto/gen/envoy/extensions/request_id/uuid/v3/uuid_pb.js";
import { PreserveCaseFormatterConfigSchema } from "#shared/proto/gen/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.js";
import type { PortProtocol } from "#controlplane/translate/protocol.ts";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import { dnsCache } from "./clusters.ts";
import type { EnvoyContext } from "./context.ts";
import { duration, pack } from "./messages.ts";
import { withFilters, withRoutePatches } from "./envoy-filters/apply-patches.ts";
import { patchesInForce } from "./envoy-filters/in-force.ts";
import { rateLimitFilters } from "./rate-limits/rate-limit-filters.ts";
import { httpSecurityFilters } from "./security/security-filters.ts";
import { telemetryFor } from "./telemetry.ts";

type HttpFilterInit = MessageInitShape<typeof HttpFilterSchema>;
type FilterInit = MessageInitShape<typeof FilterSchema>;

export interface HttpChain {
  /** Of the chain, and so of its statistics. */
  readonly name: string;
  /** undefined: for workloads that are addressed themselves. */
  readonly service: ServiceInfo | undefined;
  /** undefined: whichever is addressed. */
  readonly port: number | undefined;
  readonly protocol: PortProtocol;
  readonly routes: readonly MessageInitShape<typeof RouteSchema>[];
  readonly virtualHost: string;
  /** Which Host headers are taken. */
  readonly domains: readonly string[];
  /** Names are looked up as requests ask for them. */
  readonly forwardsByName: boolean;
}

const identityAnnotation = "ambient.istio.io/xfcc-include-client-identity";
const maxDirectResponseBytes = 1024 * 1024;

export function connectionManager(context: EnvoyContext, chain: HttpChain): FilterInit {
  const { proxyHeaders, pathNormalization } = context.meshConfig;
  const telemetry = telemetryFor(context, chain.service);
  const patches = patchesInForce(context);
  const config = pack(HttpConnectionManagerSchema, {
    codecType: CodecType.AUTO,
    statPrefix: chain.name,
    routeSpecifier: {
      case: "routeConfig",
      value: {
        name: chain.name,
        validateClusters: false,
        ignorePortInHostMatching: chain.forwardsByName,
        maxDirectResponseBodySizeBytes: maxDirectResponseBytes,
        virtualHosts: [
          withRoutePatches(
            {
              name: chain.virtualHost,
              domains: [...chain.domains],
              includeRequestAttemptCount: !proxyHeaders.attemptCountDisabled,
            },
            chain.routes,
            patches,
            chain.port,
          ),
        ],
      },
    },
    httpFilters: withFilters(httpFilters(context, chain), patches, chain.port),
    useRemoteAddress: false,
    generateRequestId: !proxyHeaders.requestIdDisabled,
    // What a client says about certificates is not proven.
    forwardClientCertDetails: ForwardClientCert.SANITIZE,
    serverName: proxyHeaders.server ?? "istio-envoy",
    serverHeaderTransformation: proxyHeaders.serverDisabled ? ServerHeader.PASS_THROUGH : ServerHeader.OVERWRITE,
    appendXForwardedPort: proxyHeaders.forwardedPort,
    upgradeConfigs: [{ upgradeType: "websocket" }],
    streamIdleTimeout: duration(0),
    normalizePath: pathNormalization !== "NONE",
    mergeSlashes: pathNormalization === "MERGE_SLASHES" || pathNormalization === "DECODE_AND_MERGE_SLASHES",
    pathWithEscapedSlashesAction:
      pathNormalization === "DECODE_AND_MERGE_SLASHES"
        ? EscapedSlashes.UNESCAPE_AND_FORWARD
        : EscapedSlashes.KEEP_UNCHANGED,
    ...http1Options(context),
    ...(isHttp2(chain.protocol) ? { http2ProtocolOptions: {} } : {}),
    ...(context.proxy.idleTimeoutMs === undefined
      ? {}
      : { commonHttpProtocolOptions: { idleTimeout: duration(context.proxy.idleTimeoutMs) } }),
    accessLog: [...telemetry.accessLog],
    ...(telemetry.tracing === undefined ? {} : { tracing: telemetry.tracing }),
    ...(telemetry.ignoresRequestId ? { requestIdExtension: { typedConfig: drawnRequestId } } : {}),
  });
  return {
    name: "envoy.filters.network.http_connection_manager",
    configType: { case: "typedConfig", value: config },
  };
}

/** Which requests are traced is not read from their ids. */
const drawnRequestId = pack(UuidRequestIdConfigSchema, { useRequestIdForTraceSampling: false });

function http1Options({ proxy, meshConfig }: EnvoyContext) {
  const keepsCase = meshConfig.proxyHeaders.preserveHttp1HeaderCase;
  if (!proxy.acceptsHttp10 && !keepsCase) return {};
  return {
    httpProtocolOptions: {
      acceptHttp10: proxy.acceptsHttp10,
      ...(keepsCase
        ? {
            headerKeyFormat: {
              headerFormat: {
                case: "statefulFormatter",
                value: {
                  name: "preserve_case",
                  typedConfig: pack(PreserveCaseFormatterConfigSchema),
                },
              },
            } as const,
          }
        : {}),
    },
  };
}

const isHttp2 = (protocol: PortProtocol): boolean =>
  protocol === "http2" || protocol === "grpc" || protocol === "grpc-web";

const filter = (name: string, typedConfig: ReturnType<typeof pack>): HttpFilterInit => ({
  name,
  configType: { case: "typedConfig", value: typedConfig },
});

function httpFilters(context: EnvoyContext, { service, protocol, forwardsByName }: HttpChain): HttpFilterInit[] {
  const limits = rateLimitFilters(context, service);
  return [
    ...(tellsIdentity(context) ? [clientIdentity] : []),
    ...limits.early,
    ...httpSecurityFilters(context, { service }),
    ...limits.late,
    ...(protocol === "grpc-web" ? [filter("envoy.filters.http.grpc_web", pack(GrpcWebSchema))] : []),
    filter(
      "envoy.filters.http.grpc_stats",
      pack(GrpcStatsSchema, {
        emitFilterState: true,
        perMethodStatSpecifier: { case: "statsForAllMethods", value: { value: false } },
      }),
    ),
    filter("envoy.filters.http.fault", pack(HTTPFaultSchema)),
    filter("envoy.filters.http.cors", pack(CorsSchema)),
    ...(forwardsByName ? [forwardProxy] : []),
    ...telemetryFor(context, service).httpFilters,
    filter(
      "envoy.filters.http.router",
      pack(RouterSchema, { suppressEnvoyHeaders: context.meshConfig.proxyHeaders.envoyDebugHeadersDisabled }),
    ),
  ];
}

const forwardProxy = filter(
  "envoy.filters.http.dynamic_forward_proxy",
  pack(ForwardProxySchema, { implementationSpecifier: { case: "dnsCacheConfig", value: dnsCache } }),
);

/** Asked for on the Gateway. */
function tellsIdentity({ world, waypoint }: EnvoyContext): boolean {
  const gateway = world.get("Gateway", waypoint.namespace, waypoint.name);
  return [gateway?.infrastructure?.annotations, gateway?.meta.annotations].some(
    (annotations) => annotations?.get(identityAnnotation)?.toLowerCase() === "true",
  );
}

/** Who the client is, as the tunnel proved it. What the client wrote there itself is gone by now. */
const clientIdentity = filter(
  "envoy.filters.http.header_mutation",
  pack(HeaderMutationSchema, {
    mutations: {
      requestMutations: [
        {
          action: {
            case: "append",
            value: create(HeaderValueOptionSchema, {
              header: {
                key: "x-forwarded-client-cert",
                value:
                  "By=%FILTER_STATE(io.istio.local_principal:PLAIN)%;URI=%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
              },
              appendAction: AppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            }),
          },
        },
      ],
    },
  }),
);
