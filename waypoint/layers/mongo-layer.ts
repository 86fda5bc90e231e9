/** Statistics of MongoDB's protocol. Nobody reads them here; the bytes pass in any case. */
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { MongoProxySchema } from "#shared/proto/gen/envoy/extensions/filters/network/mongo_proxy/v3/mongo_proxy_pb.js";
import { checkFields } from "#waypoint/upstream/compile/set-fields.ts";
import type { NetworkLayerKind } from "./network-layer.ts";

/** What changes the bytes or their time is refused. */
const supported = ["statPrefix", "commands"];

export const mongoLayer: NetworkLayerKind = {
  type: MongoProxySchema.typeName,
  compile(_name, any, { problem }) {
    const config = anyUnpack(any, MongoProxySchema);
    if (config !== undefined) checkFields(MongoProxySchema, config, supported, "", problem);
    return undefined;
  },
};
