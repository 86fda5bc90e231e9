/** What is observed of a chain's traffic: access logs, traces, and what users change about metrics. */
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type { AccessLogSchema } from "#shared/proto/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import type {
  HttpConnectionManager_TracingSchema,
  HttpFilterSchema,
} from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { ServiceInfo } from "#controlplane/translate/services.ts";
import type { Destination, EnvoyContext } from "./context.ts";
import { pack } from "./messages.ts";
import { accessLogs } from "./telemetry/access-logs.ts";
import { telemetriesInForce } from "./telemetry/in-force.ts";
import { statsConfig, statsType } from "./telemetry/metrics.ts";
import { tracingInForce } from "./telemetry/tracing.ts";

export interface ChainTelemetry {
  readonly accessLog: readonly MessageInitShape<typeof AccessLogSchema>[];
  readonly tracing: MessageInitShape<typeof HttpConnectionManager_TracingSchema> | undefined;
  /** Traces are chosen by chance, not by the id of a request. */
  readonly ignoresRequestId: boolean;
  readonly httpFilters: readonly MessageInitShape<typeof HttpFilterSchema>[];
  /** For the metadata of a TCP chain: filters that a proxy does not know cannot be left out there. */
  readonly chainMetadata: Readonly<Record<string, JsonObject>> | undefined;
  /** The collectors that are told: clusters are made for them. */
  readonly destinations: readonly Destination[];
  /** What is asked for and cannot be done, one sentence each. */
  readonly problems: readonly string[];
}

const made = new WeakMap<EnvoyContext, Map<ServiceInfo | undefined, ChainTelemetry>>();

/** `service` is undefined for workloads that are addressed themselves. */
export function telemetryFor(context: EnvoyContext, service: ServiceInfo | undefined): ChainTelemetry {
  let byService = made.get(context);
  if (byService === undefined) made.set(context, (byService = new Map()));
  let found = byService.get(service);
  if (found === undefined) byService.set(service, (found = makeTelemetry(context, service)));
  return found;
}

function makeTelemetry(context: EnvoyContext, service: ServiceInfo | undefined): ChainTelemetry {
  const problems: string[] = [];
  const report = (problem: string) => void problems.push(`Telemetry: ${problem}`);
  const telemetries = telemetriesInForce(context, service);
  const traced = tracingInForce(context, telemetries, report);
  const stats = statsConfig(context.meshConfig.telemetry, telemetries, report);
  return {
    accessLog: accessLogs(context.meshConfig.telemetry, telemetries, report),
    tracing: traced?.tracing,
    ignoresRequestId: traced?.ignoresRequestId ?? false,
    httpFilters: stats === undefined ? [] : [statsFilter(stats)],
    chainMetadata: stats === undefined ? undefined : { "istio.stats": stats },
    destinations: traced === undefined ? [] : [traced.collector],
    problems,
  };
}

const statsFilter = (value: JsonObject): MessageInitShape<typeof HttpFilterSchema> => ({
  name: "istio.stats",
  isOptional: true,
  configType: { case: "typedConfig", value: pack(TypedStructSchema, { typeUrl: statsType, value }) },
});
