import { toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import type { ServedResource } from "#shared/xds/resource-store.ts";
import { contentVersion } from "./address-source.ts";
import type { Resources } from "./hold-store.ts";

/** Messages as they are sent, by name. */
export function encodeAll<D extends DescMessage>(
  schema: D,
  messages: readonly MessageShape<D>[],
  nameOf: (message: MessageShape<D>) => string,
): Resources {
  return new Map(
    messages.map((message): [string, ServedResource] => {
      const value = toBinary(schema, message);
      const name = nameOf(message);
      return [name, { name, version: contentVersion(value), aliases: [], value }];
    }),
  );
}
