/** Where spans go: the collector that a tracer's configuration names, asked through its cluster, so over the mesh where it is part of it. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { GrpcService } from "#shared/proto/gen/envoy/config/core/v3/grpc_service_pb.js";
import type { HttpService } from "#shared/proto/gen/envoy/config/core/v3/http_service_pb.js";
import {
  OpenTelemetryConfigSchema,
  type OpenTelemetryConfig,
} from "#shared/proto/gen/envoy/config/trace/v3/opentelemetry_pb.js";
import type { Tracing_Http } from "#shared/proto/gen/envoy/config/trace/v3/http_tracer_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { callUnary } from "#waypoint/upstream/grpc-unary.ts";
import { callHttp } from "#waypoint/upstream/http-call.ts";

export interface Collector {
  /** Equal for collectors that are one and the same. */
  readonly key: string;
  readonly serviceName: string;
  readonly usesEnvironment: boolean;
  readonly samplesAll: boolean;
  readonly send: (message: Uint8Array) => Promise<void>;
}

const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/** Where nothing is said. Milliseconds. */
const timeoutMsDefault = 5_000;
const maxAnswerBytes = 1024 * 1024;
const environmentDetector = "envoy.tracers.opentelemetry.resource_detectors.environment";
const alwaysOn = "envoy.tracers.opentelemetry.samplers.always_on";

export function compileCollector(provider: Tracing_Http, { clusters, problem }: LayerContext): Collector | undefined {
  const any = provider.configType.value;
  const config = any === undefined ? undefined : anyUnpack(any, OpenTelemetryConfigSchema);
  if (config === undefined) {
    problem("tracing.provider", `no tracer "${provider.name}" is known here; OpenTelemetry is`);
    return undefined;
  }
  const report: Problem = (path, message) => problem(`tracing.provider.${path}`, message);
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
      serviceName: config.serviceName === "" ? "unknown_service:envoy" : config.serviceName,
      usesEnvironment: config.resourceDetectors.length > 0,
      samplesAll: config.sampler !== undefined,
    }
  );
}

type Send = Pick<Collector, "key" | "send">;

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
    : overHttp(httpService, clusters, problem);
}

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

function overHttp(service: HttpService, clusters: LayerContext["clusters"], problem: Problem): Send | undefined {
  const { httpUri } = service;
  const upstream = httpUri?.httpUpstreamType;
  const uri = httpUri === undefined ? null : URL.parse(httpUri.uri);
  if (upstream?.case !== "cluster" || uri === null) {
    problem("http_service.http_uri", "needs a URI and a cluster");
    return undefined;
  }
  const cluster = upstream.value;
  const timeoutMs = readMs(httpUri?.timeout, "http_service.http_uri.timeout", problem) || timeoutMsDefault;
  const added = service.requestHeadersToAdd.flatMap(({ header }) =>
    header === undefined ? [] : [header.key.toLowerCase(), header.value],
  );
  return {
    key: JSON.stringify(["http", cluster, uri.href, timeoutMs, added]),
    send: async (message) => {
      const headers = new Headers(["content-type", "application/x-protobuf", ...added]);
      headers.append("content-length", String(message.length));
      const { status } = await callHttp(clusters, {
        cluster,
        head: { method: "POST", scheme: "http", authority: uri.host, path: uri.pathname + uri.search, headers },
        body: Buffer.from(message),
        timeoutMs,
        maxAnswerBytes,
      });
      if (status < 200 || status > 299) {
        throw new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot send spans to "${cluster}": it answered ${status}`);
      }
    },
  };
}
