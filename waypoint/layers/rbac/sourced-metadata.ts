/**
 * `sourced_metadata` of permissions and principals (fields 14 and 13): newer than the definitions that we generate from,
 * so it is read from the unknown fields of its message.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { MetadataMatcherSchema, type MetadataMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/metadata_pb.js";

export const sourcedMetadataFields: Readonly<Record<string, number>> = {
  "envoy.config.rbac.v3.Permission": 14,
  "envoy.config.rbac.v3.Principal": 13,
};

export interface SourcedMetadata {
  readonly matcher: MetadataMatcher;
  readonly source: "dynamic" | "route";
}

interface HasUnknown {
  readonly $typeName: string;
  readonly $unknown?: readonly { readonly no: number; readonly data: Uint8Array }[] | undefined;
}

/** Undefined where it is not there. @throws Error where it cannot be read */
export function readSourcedMetadata(message: HasUnknown): SourcedMetadata | undefined {
  const number = sourcedMetadataFields[message.$typeName];
  const field = message.$unknown?.findLast(({ no }) => no === number);
  if (field === undefined) return undefined;
  const reader = new BinaryReader(new BinaryReader(field.data).bytes());
  let matcher: MetadataMatcher | undefined;
  let source = 0;
  while (reader.pos < reader.len) {
    const [no, wireType] = reader.tag();
    if (no === 1) matcher = fromBinary(MetadataMatcherSchema, reader.bytes());
    else if (no === 2) source = reader.uint32();
    else reader.skip(wireType, no);
  }
  if (matcher === undefined) throw new Error("has no metadata_matcher");
  if (source > 1) throw new Error(`metadata_source ${source} is not known`);
  return { matcher, source: source === 0 ? "dynamic" : "route" };
}
