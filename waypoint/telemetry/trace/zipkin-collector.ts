/** Zipkin's tracer, as Istio's providers of that name configure it; Jaeger and others take the same. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { HttpServiceSchema, type HttpService } from "#shared/proto/gen/envoy/config/core/v3/http_service_pb.js";
import {
  ZipkinConfig_CollectorEndpointVersion as EndpointVersion,
  ZipkinConfigSchema,
  type ZipkinConfig,
} from "#shared/proto/gen/envoy/config/trace/v3/zipkin_pb.js";
import { explain } from "#shared/errors/mesh-error.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { checkFields, newerMessage } from "#waypoint/upstream/compile/set-fields.ts";
import { overHttp, type Collector } from "./span-collector.ts";

/** Newer than the schema: how traces are handed on (both ways, here), and the collector in another form. */
const traceContextField = 8;
const collectorServiceField = 9;

/** Ids always have 128 bits. */
const supported = [
  "collectorCluster",
  "collectorEndpoint",
  "collectorEndpointVersion",
  "collectorHostname",
  "traceId128bit",
  "sharedSpanContext",
];

export function compileZipkin(
  config: ZipkinConfig,
  clusters: LayerContext["clusters"],
  problem: Problem,
): Collector | undefined {
  checkFields(ZipkinConfigSchema, config, supported, "", problem, [traceContextField, collectorServiceField]);
  if (config.collectorEndpointVersion !== EndpointVersion.HTTP_JSON) {
    problem("collector_endpoint_version", "only HTTP_JSON is known here");
  }
  if (config.sharedSpanContext !== false) {
    problem("shared_span_context", "has to be false: a span of its own is made for each side");
  }
  const service = serviceOf(config, problem);
  const send = service && overHttp(service, "application/json", clusters, problem);
  return send && { ...send, format: "zipkin", serviceName: undefined, usesEnvironment: false, samplesAll: false };
}

/** Older configurations say the same in fields of their own. */
function serviceOf(config: ZipkinConfig, problem: Problem): HttpService | undefined {
  const newer = newerMessage(config, collectorServiceField);
  if (newer !== undefined) {
    try {
      return fromBinary(HttpServiceSchema, newer);
    } catch (error) {
      problem("collector_service", `cannot be read: ${explain(error)}`);
      return undefined;
    }
  }
  const { collectorCluster: cluster, collectorEndpoint: endpoint, collectorHostname: host } = config;
  if (cluster === "") problem("collector_cluster", "is missing");
  if (!endpoint.startsWith("/")) problem("collector_endpoint", `"${endpoint}" is no path`);
  return create(HttpServiceSchema, {
    httpUri: {
      uri: `http://${host === "" ? "zipkin" : host}${endpoint}`,
      httpUpstreamType: { case: "cluster", value: cluster },
    },
  });
}
