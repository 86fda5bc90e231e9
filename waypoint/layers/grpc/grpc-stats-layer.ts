/**
 * `envoy.filters.http.grpc_stats`: whether messages of gRPC calls are counted. They are counted where bodies pass and
 * told by telemetry (`istio_request_messages_total`), so this only reads the configuration.
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { FilterConfigSchema } from "#shared/proto/gen/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js";
import type { LayerKind } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";

export const grpcStatsLayer: LayerKind = {
  type: FilterConfigSchema.typeName,
  compile(_name, any, { problem }) {
    const config = anyUnpack(any, FilterConfigSchema);
    if (config !== undefined) reportUnknownFields(config, problem);
    return undefined;
  },
};
