/** The two shapes of filters, by kind of chain. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { FilterSchema } from "#shared/proto/gen/envoy/config/listener/v3/listener_components_pb.js";
import type { HttpFilterSchema } from "#shared/proto/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";

export type Chain = "http" | "tcp";
export type HttpFilterInit = Exclude<MessageInitShape<typeof HttpFilterSchema>, { $typeName: string }>;
export type NetworkFilterInit = Exclude<MessageInitShape<typeof FilterSchema>, { $typeName: string }>;

export const httpFilter = (name: string, config: Any): HttpFilterInit => ({
  name,
  configType: { case: "typedConfig", value: config },
});

export const networkFilter = (name: string, config: Any): NetworkFilterInit => ({
  name,
  configType: { case: "typedConfig", value: config },
});
