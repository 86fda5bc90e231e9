/** What policies of Gateway API's form name: an object of their own namespace, or a part of it. */
import type { Field } from "./field.ts";

export interface SectionTarget {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  /** Name of a service's port, or of a route's rule; undefined: all of it. */
  readonly sectionName: string | undefined;
}

export const readSectionTargets = (spec: Field): readonly SectionTarget[] =>
  spec
    .at("targetRefs")
    .list()
    .map((ref) => ({
      group: ref.at("group").text(),
      kind: ref.at("kind").text(),
      name: ref.at("name").text(),
      sectionName: ref.at("sectionName").text() || undefined,
    }));
