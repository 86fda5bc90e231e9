/** Whatever a message says that this proxy would not do is told, never passed over. */
import { fromBinary, isFieldSet, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";

/**
 * Reports each field that is set but not `supported` (names as in TypeScript), and each that the schema does not know
 * unless its number is in `newer`.
 */
export function checkFields<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  supported: readonly string[],
  path: string,
  problem: Problem,
  newer: readonly number[] = [],
): void {
  for (const field of schema.fields) {
    if (supported.includes(field.localName) || !isFieldSet(message, field)) continue;
    problem(join(path, field.name), "is not supported");
  }
  for (const { no } of message.$unknown ?? []) {
    if (!newer.includes(no)) problem(path, `has field ${no} of ${schema.typeName}, which this proxy does not know`);
  }
}

export const join = (path: string, field: string): string => (path === "" ? field : `${path}.${field}`);

/** A boolean that newer versions of Envoy's messages have and the schema here does not. */
export function newerFlag(message: { readonly $unknown?: readonly NewerField[] | undefined }, no: number): boolean {
  return (message.$unknown ?? []).some((field) => field.no === no && field.data.some((byte) => byte !== 0));
}

/** The bytes of a newer message field, without their length. */
export function newerMessage(
  message: { readonly $unknown?: readonly NewerField[] | undefined },
  no: number,
): Uint8Array | undefined {
  const data = (message.$unknown ?? []).find((field) => field.no === no)?.data;
  if (data === undefined) return undefined;
  const lengthBytes = data.findIndex((byte) => byte < 0x80) + 1;
  return data.subarray(lengthBytes);
}

/** A newer field of the type Duration, in milliseconds; 0 where it is not set. */
export function newerDuration(
  message: { readonly $unknown?: readonly NewerField[] | undefined },
  no: number,
  path: string,
  problem: Problem,
): number {
  const bytes = newerMessage(message, no);
  if (bytes === undefined) return 0;
  try {
    return readMs(fromBinary(DurationSchema, bytes), path, problem) ?? 0;
  } catch (error) {
    problem(path, `cannot be read: ${explain(error)}`);
    return 0;
  }
}

interface NewerField {
  readonly no: number;
  readonly data: Uint8Array;
}
