/** Where the configuration of Istio's stats filter is found. */
import type { JsonObject } from "@bufbuild/protobuf";
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { FilterChain } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
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

/** Of a TCP chain: in its metadata, where proxies without this filter leave it alone, or among its filters. */
export function chainStats({ metadata, filters }: FilterChain): JsonObject | undefined {
  const inMetadata = metadata?.filterMetadata["istio.stats"];
  if (inMetadata !== undefined) return inMetadata;
  for (const { configType } of filters) {
    const found = configType.case === "typedConfig" ? statsConfig(configType.value) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}
