import { fromBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";

/** Full name of the message in it; empty where it names none. */
export const typeNameOf = (any: Any | undefined): string => any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) ?? "";

/** Undefined, and told, where the bytes are not such a message. */
export function unpack<Desc extends DescMessage>(
  schema: Desc,
  any: Any,
  path: string,
  problem: Problem,
): MessageShape<Desc> | undefined {
  try {
    return fromBinary(schema, any.value);
  } catch (error) {
    problem(path, `cannot be read as ${schema.typeName}: ${explain(error)}`);
    return undefined;
  }
}
