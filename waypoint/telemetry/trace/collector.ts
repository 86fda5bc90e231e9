/** Where spans go: the collector that a tracer's configuration names, asked through its cluster, so over the mesh where it is part of it. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { GrpcService } from "#shared/proto/gen/envoy/config/core/v3/grpc_service_pb.js";
import {
  OpenTelemetryConfigSchema,
  type OpenTelemetryConfig,
} from "#shared/proto/gen/envoy/config/trace/v3/opentelemetry_pb.js";
import { ZipkinConfigSchema } from "#shared/proto/gen/envoy/config/trace/v3/zipkin_pb.js";
import type { Tracing_Http } from "#shared/proto/gen/envoy/config/trace/v3/http_tracer_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { TelemetryContext } from "#waypoint/telemetry/telemetry-kinds.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { callUnary } from "#waypoint/upstream/grpc-unary.ts";
import { overHttp, timeoutMsDefault, type Collector, type Send } from "./span-collector.ts";
import { compileZipkin } from "./zipkin-collector.ts";

const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const environmentDetector = "envoy.tracers.opentelemetry.resource_detectors.environment";
const alwaysOn = "envoy.tracers.opentelemetry.samplers.always_on";

export function compileCollector(
  provider: Tracing_Http,
  { clusters, problem, skipped }: TelemetryContext,
): Collector | undefined {
  const any = provider.configType.value;
  const report: Problem = (path, message) => problem(`tracing.provider.${path}`, message);
  const zipkin = any === undefined ? undefined : anyUnpack(any, ZipkinConfigSchema);
  if (zipkin !== undefined) return compileZipkin(zipkin, clusters, report);
  const config = any === undefined ? undefined : anyUnpack(any, OpenTelemetryConfigSchema);
  if (config === undefined) {
    if (skipped !== undefined) skipped(`tracer "${provider.name}"`);
    else problem("tracing.provider", `no tracer "${provider.name}" is known here; OpenTelemetry and Zipkin are`);
    return undefined;
  }
  reportUnknownFields(config, report);
  for (const { name } of config.resourceDetectors) {
    if (name !== environmentDetector) report("resource_detectors", `"${name}" is not known`);
  }
  if (config.sampler !== undefined && config.sampler.name !== alwaysOn) {
    report("sampler", `"${config.sampler.name}" is not known`);
  }
  const send = compileSend(config, clusters, report);
  return (
    send && {
      ...send,
      format: "otlp",
      serviceName: config.serviceName === "" ? "unknown_service:envoy" : config.serviceName,
      usesEnvironment: config.resourceDetectors.length > 0,
      samplesAll: config.sampler !== undefined,
    }
  );
}

function compileSend(
  { grpcService, httpService }: OpenTelemetryConfig,
  clusters: LayerContext["clusters"],
  problem: Problem,
): Send | undefined {
  if (grpcService !== undefined && httpService !== undefined) {
    problem("http_service", "may not stand beside grpc_service");
    return undefined;
  }
  if (grpcService !== undefined) return overGrpc(grpcService, clusters, problem);
  // Without a collector, traces are only handed on.
  return httpService === undefined
    ? { key: "", send: () => Promise.resolve() }
    : overHttp(httpService, "application/x-protobuf", clusters, at("http_service", problem));
}

const at =
  (field: string, problem: Problem): Problem =>
  (path, message) =>
    problem(`${field}.${path}`, message);

function overGrpc(service: GrpcService, clusters: LayerContext["clusters"], problem: Problem): Send | undefined {
  const { targetSpecifier: target } = service;
  if (target.case !== "envoyGrpc") {
    problem("grpc_service", "has to name a cluster (envoy_grpc)");
    return undefined;
  }
  const { clusterName: cluster, authority } = target.value;
  const timeoutMs = readMs(service.timeout, "grpc_service.timeout", problem) ?? timeoutMsDefault;
  const metadata = new Headers(service.initialMetadata.flatMap(({ key, value }) => [key.toLowerCase(), value]));
  return {
    key: JSON.stringify(["grpc", cluster, authority, timeoutMs, metadata.pairs]),
    send: async (message) => {
      await callUnary(clusters, {
        cluster,
        ...(authority === "" ? {} : { authority }),
        method: exportMethod,
        message,
        timeoutMs,
        metadata,
      });
    },
  };
}
