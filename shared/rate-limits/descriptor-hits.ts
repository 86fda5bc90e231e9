/**
 * How many hits one descriptor of a rate limit question counts: its field `hits_addend` (3), newer than the definitions that
 * we generate from, so it stands among the unknown fields. Where it is set, that of the whole question does not count.
 */
import { fromBinary, toBinary, create } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { UInt64ValueSchema } from "@bufbuild/protobuf/wkt";
import type { RateLimitDescriptor } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";

const hitsField = 3;

/** Undefined where the question's own holds. */
export function hitsOf({ $unknown = [] }: RateLimitDescriptor): bigint | undefined {
  const field = $unknown.findLast(({ no, wireType }) => no === hitsField && wireType === WireType.LengthDelimited);
  return field && fromBinary(UInt64ValueSchema, new BinaryReader(field.data).bytes()).value;
}

/** 0: asks, and counts nothing. */
export function setHits(descriptor: RateLimitDescriptor, hits: bigint): void {
  const value = toBinary(UInt64ValueSchema, create(UInt64ValueSchema, { value: hits }));
  const data = new BinaryWriter().bytes(value).finish();
  descriptor.$unknown = [{ no: hitsField, wireType: WireType.LengthDelimited, data }];
}
