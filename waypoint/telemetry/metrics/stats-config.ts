/** Where the configuration of Istio's stats filter is found. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { Metadata } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { TypedStructSchema as UdpaTypedStructSchema } from "#shared/proto/gen/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";

/** What a structure has to say that it stands for. */
export const statsConfigType = "stats.PluginConfig";

/** Undefined where a filter's configuration is something else. */
export function statsConfig(any: Any | undefined): JsonObject | undefined {
  if (any === undefined) return undefined;
  const struct = anyUnpack(any, TypedStructSchema) ?? anyUnpack(any, UdpaTypedStructSchema);
  return struct?.typeUrl.endsWith(`/${statsConfigType}`) === true ? (struct.value ?? {}) : undefined;
}

/** For TCP chains it stands in the chain's metadata: a proxy without this filter would refuse it among its filters. */
export const chainStats = (metadata: Metadata | undefined): JsonObject | undefined =>
  metadata?.filterMetadata["istio.stats"];
