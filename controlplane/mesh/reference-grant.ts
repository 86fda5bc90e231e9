/** Which objects of other namespaces may refer to objects of this one: Gateway API's ReferenceGrant. */
import type { Field } from "./field.ts";
import type { Meta } from "./meta.ts";

export interface ReferenceGrant {
  readonly meta: Meta;
  readonly from: readonly { readonly group: string; readonly kind: string; readonly namespace: string }[];
  readonly to: readonly {
    readonly group: string;
    readonly kind: string;
    /** undefined: every object of the kind. */
    readonly name: string | undefined;
  }[];
}

export function readReferenceGrant(meta: Meta, spec: Field): ReferenceGrant {
  return {
    meta,
    from: spec
      .at("from")
      .list()
      .map((from) => ({
        group: from.at("group").text(),
        kind: from.at("kind").text(),
        namespace: from.at("namespace").text(),
      })),
    to: spec
      .at("to")
      .list()
      .map((to) => ({
        group: to.at("group").text(),
        kind: to.at("kind").text(),
        name: to.at("name").text() === "" ? undefined : to.at("name").text(),
      })),
  };
}
