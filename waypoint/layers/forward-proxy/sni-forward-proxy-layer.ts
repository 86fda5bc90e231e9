/**
 * `envoy.filters.network.sni_dynamic_forward_proxy`: in Envoy it looks the server name of a TLS connection up. Here the
 * cluster does, when the TCP chain asks it for a host by that name; what is left is to refuse who names none.
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { FilterConfigSchema } from "#shared/proto/gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.js";
import type { NetworkLayerKind } from "#waypoint/layers/network-layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";

export const sniForwardProxyLayer: NetworkLayerKind = {
  type: FilterConfigSchema.typeName,
  compile(name, any, { problem }) {
    const config = anyUnpack(any, FilterConfigSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, problem);
    const port = config.portSpecifier.value ?? 0;
    if (port === 0 || port > 65_535) problem("port_value", `${port} is no port`);
    return {
      name,
      onConnection: (connection) => {
        if (connection.connection.serverName === undefined) return { details: "no_server_name" };
        connection.dynamicPort = port;
        return undefined;
      },
    };
  },
};
