/** How requests of a chain are traced, and which collector is told. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { HeaderValueOption_HeaderAppendAction as AppendAction } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { OpenTelemetryConfigSchema } from "#shared/proto/gen/envoy/config/trace/v3/opentelemetry_pb.js";
import {
  ZipkinConfig_CollectorEndpointVersion as EndpointVersion,
  ZipkinConfigSchema,
} from "#shared/proto/gen/envoy/config/trace/v3/zipkin_pb.js";
import { EnvironmentResourceDetectorConfigSchema } from "#shared/proto/gen/envoy/extensions/tracers/opentelemetry/resource_detectors/v3/environment_resource_detector_pb.js";
import type { HttpConnectionManager_TracingSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { CustomTagSchema } from "#shared/proto/gen/envoy/type/tracing/v3/custom_tag_pb.js";
import type {
  MeshTelemetry,
  NamedValue,
  OpenTelemetryProvider,
  TracingProvider,
  ZipkinProvider,
} from "#controlplane/mesh/mesh-telemetry.ts";
import type { Telemetry } from "#controlplane/mesh/objects.ts";
import type { TagSource, TracingRule } from "#controlplane/mesh/telemetry.ts";
import { clusterOf } from "../cluster-names.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { duration, pack } from "../messages.ts";
import { concernsServers } from "./in-force.ts";

export type TracingInit = Exclude<MessageInitShape<typeof HttpConnectionManager_TracingSchema>, { $typeName: string }>;
type TagInit = MessageInitShape<typeof CustomTagSchema>;

export interface TracingInForce {
  readonly tracing: TracingInit;
  readonly collector: Destination;
  /** Not decided by the id of a request. */
  readonly ignoresRequestId: boolean;
}

type Merged = Omit<TracingRule, "mode">;

export function tracingInForce(
  context: EnvoyContext,
  telemetries: readonly Telemetry[],
  report: (problem: string) => void,
): TracingInForce | undefined {
  const { telemetry } = context.meshConfig;
  const rule = mergedRule(telemetries);
  const chosen = chosenProvider(telemetry, rule, report);
  if (chosen === undefined) return undefined;
  // What a client says of its trace passes untouched, whether it is sampled or not.
  if (rule.disableSpanReporting === true) return undefined;
  const { name, provider } = chosen;
  const collector = collectorOf(context, name, provider, report);
  if (collector === undefined) return undefined;
  const maxPathTagLength = provider.maxTagLength ?? telemetry.maxPathTagLength;
  return {
    collector,
    ignoresRequestId: rule.useRequestIdForTraceSampling === false,
    tracing: {
      clientSampling: { value: 100 },
      randomSampling: { value: rule.randomSampling ?? telemetry.sampling },
      overallSampling: { value: 100 },
      ...(maxPathTagLength === undefined ? {} : { maxPathTagLength }),
      customTags: [
        ...(rule.enableIstioTags === false ? [] : istioTags(context)),
        ...userTags(customTagsOf(rule) ?? telemetry.customTags, report),
      ],
      provider: {
        name: `envoy.tracers.${provider.kind}`,
        configType: {
          case: "typedConfig",
          value:
            provider.kind === "zipkin"
              ? pack(ZipkinConfigSchema, zipkin(context, provider, collector))
              : pack(OpenTelemetryConfigSchema, openTelemetry(context, provider, collector, report)),
        },
      },
      spawnUpstreamSpan: false,
    },
  };
}

/** None at all leave those of the mesh. */
const customTagsOf = ({ customTags }: Merged): Merged["customTags"] =>
  customTags?.size === 0 ? undefined : customTags;

const mergedRule = (telemetries: readonly Telemetry[]): Merged =>
  telemetries.flatMap(({ tracing }) => tracing.filter(concernsServers)).reduce<Merged>(narrowed, unset);

/** Undefined where nothing is traced, or cannot be, which is told. */
function chosenProvider(
  { defaults, providers }: MeshTelemetry,
  rule: Merged,
  report: (problem: string) => void,
): { readonly name: string; readonly provider: TracingProvider } | undefined {
  const [name] = rule.providers.length > 0 ? rule.providers : defaults.tracing;
  if (name === undefined) return undefined;
  const provider = providers.get(name);
  if (provider?.kind !== "opentelemetry" && provider?.kind !== "zipkin") {
    report(
      provider === undefined
        ? `the mesh has no extension provider "${name}": add it to extensionProviders`
        : `extension provider "${name}" is not of a kind that traces here: use an opentelemetry or zipkin one`,
    );
    return undefined;
  }
  for (const field of provider.unsupported) report(`${field} of extension provider "${name}" is not supported`);
  if (rule.disableContextPropagation === true) report("tracing.disableContextPropagation is not supported");
  return { name, provider };
}

/** What of one object's tracing cannot be done, whoever goes by it. */
export function tracingProblems(mesh: MeshTelemetry, telemetry: Telemetry, report: (problem: string) => void): void {
  const rule = mergedRule([telemetry]);
  chosenProvider(mesh, rule, report);
  userTags(rule.customTags ?? new Map(), report);
}

const unset: Merged = {
  providers: [],
  randomSampling: undefined,
  disableSpanReporting: undefined,
  customTags: undefined,
  useRequestIdForTraceSampling: undefined,
  enableIstioTags: undefined,
  disableContextPropagation: undefined,
};

/** Field by field, what the narrower one says. */
const narrowed = (broad: Merged, narrow: Merged): Merged => ({
  providers: narrow.providers.length > 0 ? narrow.providers : broad.providers,
  randomSampling: narrow.randomSampling ?? broad.randomSampling,
  disableSpanReporting: narrow.disableSpanReporting ?? broad.disableSpanReporting,
  customTags: narrow.customTags ?? broad.customTags,
  useRequestIdForTraceSampling: narrow.useRequestIdForTraceSampling ?? broad.useRequestIdForTraceSampling,
  enableIstioTags: narrow.enableIstioTags ?? broad.enableIstioTags,
  disableContextPropagation: narrow.disableContextPropagation ?? broad.disableContextPropagation,
});

function collectorOf(
  context: EnvoyContext,
  name: string,
  provider: TracingProvider,
  report: (problem: string) => void,
): Destination | undefined {
  const slash = provider.service.indexOf("/");
  const namespace = slash < 0 ? context.waypoint.namespace : provider.service.slice(0, slash);
  const service = context.findService(provider.service.slice(slash + 1), namespace);
  const port = service?.ports.find((each) => each.port === provider.port);
  if (service === undefined || port === undefined) {
    report(`service "${provider.service}" port ${provider.port} of extension provider "${name}" was not found`);
    return undefined;
  }
  return { service, port, subset: "", protocol: "http" };
}

function zipkin(
  context: EnvoyContext,
  { path }: ZipkinProvider,
  { service, port, protocol, subset }: Destination,
): Exclude<MessageInitShape<typeof ZipkinConfigSchema>, { $typeName: string }> {
  return {
    collectorCluster: clusterOf(context, service, port, protocol, subset),
    collectorEndpoint: path,
    collectorHostname: service.hostname,
    collectorEndpointVersion: EndpointVersion.HTTP_JSON,
    traceId128bit: true,
    sharedSpanContext: false,
  };
}

function openTelemetry(
  context: EnvoyContext,
  provider: OpenTelemetryProvider,
  { service, port, protocol, subset }: Destination,
  report: (problem: string) => void,
): Exclude<MessageInitShape<typeof OpenTelemetryConfigSchema>, { $typeName: string }> {
  const cluster = clusterOf(context, service, port, protocol, subset);
  const { waypoint } = context;
  const { http } = provider;
  const common = {
    serviceName: `${waypoint.name}.${waypoint.namespace}`,
    ...(provider.detectsEnvironment ? { resourceDetectors: [environmentDetector] } : {}),
  };
  if (http === undefined) {
    return {
      ...common,
      grpcService: {
        targetSpecifier: {
          case: "envoyGrpc",
          value: { clusterName: cluster, authority: service.hostname },
        },
        ...(provider.grpcTimeoutMs === undefined ? {} : { timeout: duration(provider.grpcTimeoutMs) }),
        initialMetadata: written(provider.grpcMetadata, report).map(({ name, value }) => ({ key: name, value })),
      },
    };
  }
  return {
    ...common,
    httpService: {
      httpUri: {
        uri: `http://${service.hostname}:${port.port}${http.path}`,
        httpUpstreamType: { case: "cluster", value: cluster },
        timeout: duration(http.timeoutMs ?? 0),
      },
      requestHeadersToAdd: written(http.headers, report).map(({ name, value }) => ({
        header: { key: name, value },
        appendAction: AppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      })),
    },
  };
}

const environmentDetector = {
  name: "envoy.tracers.opentelemetry.resource_detectors.environment",
  typedConfig: pack(EnvironmentResourceDetectorConfigSchema),
};

/** The environment of the proxy is its own. */
function written(values: readonly NamedValue[], report: (problem: string) => void): readonly NamedValue[] {
  return values.filter(({ name, environment }) => {
    if (environment !== "") report(`header "${name}": envName is not supported, write its value`);
    return environment === "";
  });
}

const sides = ["source", "destination"] as const;
const peerFields = [
  "workload",
  "namespace",
  "cluster_id",
  "canonical_service",
  "canonical_revision",
  "app",
  "app_version",
  "workload_type",
  "instance_name",
] as const;

/** Who the waypoint is, and who is at both ends: that stands where only our waypoints look, others leave it out. */
function istioTags({ waypoint, proxy, options, meshConfig }: EnvoyContext): readonly TagInit[] {
  const literal = (tag: string, value: string): TagInit => ({
    tag,
    type: { case: "literal", value: { value } },
  });
  const own = [
    literal("istio.canonical_revision", proxy.labels.get("service.istio.io/canonical-revision") ?? "latest"),
    literal("istio.canonical_service", proxy.labels.get("service.istio.io/canonical-name") ?? waypoint.name),
    literal("istio.cluster_id", options.clusterId),
    literal("istio.mesh_id", meshConfig.trustDomain),
    literal("istio.namespace", waypoint.namespace),
  ];
  const peers = sides.flatMap((side) =>
    peerFields.map((field): TagInit => ({
      tag: `istio.${side}_${field}`,
      type: {
        case: "metadata",
        value: {
          kind: { kind: { case: "request", value: {} } },
          metadataKey: {
            key: "istio.peer",
            path: [side, field].map((key) => ({ segment: { case: "key" as const, value: key } })),
          },
        },
      },
    })),
  );
  return [...own, ...dryRuns, ...peers];
}

/** What policies would have done that are only tried; left out where there are none. */
const dryRuns = (["allow", "deny"] as const).flatMap((action) =>
  (
    [
      ["name", "effective_policy_id"],
      ["result", "engine_result"],
    ] as const
  ).map(([tag, key]): TagInit => ({
    tag: `istio.authorization.dry_run.${action}_policy.${tag}`,
    type: {
      case: "metadata",
      value: {
        kind: { kind: { case: "request", value: {} } },
        metadataKey: {
          key: "envoy.filters.http.rbac",
          path: [{ segment: { case: "key", value: `istio_dry_run_${action}_shadow_${key}` } }],
        },
      },
    },
  })),
);

function userTags(tags: ReadonlyMap<string, TagSource>, report: (problem: string) => void): readonly TagInit[] {
  return [...tags]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([tag, source]): TagInit[] => {
      switch (source.kind) {
        case "literal":
          return [{ tag, type: { case: "literal", value: { value: source.value } } }];
        case "environment":
          return [
            { tag, type: { case: "environment", value: { name: source.name, defaultValue: source.defaultValue } } },
          ];
        case "header":
          return [
            { tag, type: { case: "requestHeader", value: { name: source.name, defaultValue: source.defaultValue } } },
          ];
        case "formatter":
          report(`customTags["${tag}"].formatter is not supported`);
          return [];
      }
    });
}
