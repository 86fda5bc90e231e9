/**
 * `envoy.filters.http.dynamic_forward_proxy`: in Envoy it looks the request's host up before the router needs it. Here
 * the cluster does, when it is asked for a host (`upstream/`), so nothing is left for a layer to do.
 */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { FilterConfigSchema } from "#shared/proto/gen/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js";
import type { LayerKind } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";

export const forwardProxyLayer: LayerKind = {
  type: FilterConfigSchema.typeName,
  compile(_name, any, { problem }) {
    const config = anyUnpack(any, FilterConfigSchema);
    if (config === undefined) return undefined;
    reportUnknownFields(config, problem);
    if (config.implementationSpecifier.case === "subClusterConfig") {
      problem("sub_cluster_config", "is not supported: write dns_cache_config");
    }
    if (config.saveUpstreamAddress) problem("save_upstream_address", "is not supported: nothing reads it here");
    return undefined;
  },
};
