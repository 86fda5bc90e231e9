import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { TypedStructSchema as UdpaTypedStructSchema } from "#shared/proto/gen/udpa/type/v1/typed_struct_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";

/** What a filter's configuration is: the type of its message, or the one that a TypedStruct says it stands for. */
export function configType(config: Any): string {
  const struct = anyUnpack(config, TypedStructSchema) ?? anyUnpack(config, UdpaTypedStructSchema);
  const { typeUrl } = struct ?? config;
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}
