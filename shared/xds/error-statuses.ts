/**
 * The statuses of HTTP that count as errors of a host: `outlier_detection` (8) of Envoy's HttpProtocolOptions, newer than
 * the definitions that we generate from. Its `error_matcher` can be any condition on an answer; what is meant here is a
 * list of statuses.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { HeaderMatcherSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";

/** Of HttpProtocolOptions. */
export const errorStatusesField = 8;

const fields = {
  /** Of the outlier detection. */
  errorMatcher: 1,
  /** Of a matcher, and of the alternatives in it. */
  orMatch: 1,
  rules: 1,
  /** Of a matcher, and of what it says of headers. */
  responseHeaders: 7,
  headers: 1,
};
/** Alternatives within alternatives; nobody writes more than two. */
const deepest = 8;

const field = (no: number, bytes: Uint8Array): Uint8Array =>
  new BinaryWriter().tag(no, WireType.LengthDelimited).bytes(bytes).finish();

/** The bytes of the field, without their length. */
export function encodeErrorStatuses(statuses: readonly number[]): Uint8Array {
  const matchers = statuses.map((status) => field(fields.responseHeaders, field(fields.headers, statusIs(status))));
  const [single = new Uint8Array()] = matchers;
  // Alternatives are two or more.
  const matcher =
    matchers.length === 1
      ? single
      : field(fields.orMatch, Buffer.concat(matchers.map((each) => field(fields.rules, each))));
  return field(fields.errorMatcher, matcher);
}

const statusIs = (status: number): Uint8Array =>
  toBinary(
    HeaderMatcherSchema,
    create(HeaderMatcherSchema, {
      name: ":status",
      headerMatchSpecifier: {
        case: "stringMatch",
        value: { matchPattern: { case: "exact", value: String(status) } },
      },
    }),
  );

/**
 * Undefined where something else is asked for than single statuses.
 * @throws where the bytes are no message
 */
export function decodeErrorStatuses(bytes: Uint8Array): ReadonlySet<number> | undefined {
  const [matcher, ...others] = messagesIn(bytes);
  if (matcher?.no !== fields.errorMatcher || others.length > 0) return undefined;
  const statuses = new Set<number>();
  return collect(matcher.bytes, statuses, 0) ? statuses : undefined;
}

function collect(matcher: Uint8Array, statuses: Set<number>, depth: number): boolean {
  const [condition, ...others] = messagesIn(matcher);
  if (condition === undefined || others.length > 0 || depth > deepest) return false;
  const parts = messagesIn(condition.bytes);
  switch (condition.no) {
    case fields.orMatch:
      return (
        parts.length > 0 && parts.every(({ no, bytes }) => no === fields.rules && collect(bytes, statuses, depth + 1))
      );
    case fields.responseHeaders: {
      const [header, ...more] = parts;
      const status = header?.no === fields.headers && more.length === 0 ? statusOf(header.bytes) : undefined;
      if (status !== undefined) statuses.add(status);
      return status !== undefined;
    }
    default:
      return false;
  }
}

function statusOf(bytes: Uint8Array): number | undefined {
  const { name, invertMatch, headerMatchSpecifier: specifier } = fromBinary(HeaderMatcherSchema, bytes);
  if (name !== ":status" || invertMatch || specifier.case !== "stringMatch") return undefined;
  const { matchPattern } = specifier.value;
  return matchPattern.case === "exact" && /^\d{3}$/.test(matchPattern.value) ? Number(matchPattern.value) : undefined;
}

interface Part {
  readonly no: number;
  readonly bytes: Uint8Array;
}

/** Fields that are no messages have the number 0 here, which none of ours has. */
function messagesIn(bytes: Uint8Array): readonly Part[] {
  const reader = new BinaryReader(bytes);
  const parts: Part[] = [];
  while (reader.pos < reader.len) {
    const [no, type] = reader.tag();
    if (type === WireType.LengthDelimited) parts.push({ no, bytes: reader.bytes() });
    else {
      reader.skip(type);
      parts.push({ no: 0, bytes: new Uint8Array() });
    }
  }
  return parts;
}
