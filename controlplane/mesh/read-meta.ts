/** What objects of many kinds have alike: metadata, conditions, references, selectors. */
import { ShapeError, type Field } from "./field.ts";
import type { Condition, Labels, Meta, TargetRef } from "./objects.ts";

const none: Labels = new Map();

export function readMeta(object: Field): Meta {
  const meta = object.at("metadata");
  const name = meta.at("name").text();
  if (name === "") throw new ShapeError("metadata.name", "a name", undefined);
  return {
    name,
    namespace: meta.at("namespace").text(),
    uid: meta.at("uid").text(),
    labels: textMapAt(meta, "labels"),
    annotations: textMapAt(meta, "annotations"),
    generation: meta.at("generation").whole(),
    createdMs: readTime(meta.at("creationTimestamp")),
    isDeleting: meta.at("deletionTimestamp").isPresent,
    generateName: meta.at("generateName").text(),
    owners: meta
      .at("ownerReferences")
      .list()
      .map((owner) => ({
        kind: owner.at("kind").text(),
        name: owner.at("name").text(),
        isController: owner.at("controller").flag(),
      })),
  };
}

function readTime(field: Field): number {
  const text = field.text();
  if (text === "") return 0;
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw new ShapeError(field.path, "a time such as 2026-01-31T12:00:00Z", text);
  return time;
}

export function readConditions(object: Field): readonly Condition[] {
  return object
    .at("status")
    .at("conditions")
    .list()
    .map((condition) => ({
      type: condition.at("type").text(),
      status: condition.at("status").text(),
      reason: condition.at("reason").text(),
      message: condition.at("message").text(),
      lastTransitionTime: condition.at("lastTransitionTime").text(),
    }));
}

export function readTargetRef(ref: Field): TargetRef {
  return {
    group: ref.at("group").text(),
    kind: ref.at("kind").text(),
    name: ref.at("name").text(),
    namespace: ref.at("namespace").text(),
  };
}

export function readTargetRefs(spec: Field): readonly TargetRef[] {
  const single = spec.at("targetRef");
  return [...spec.at("targetRefs").list(), ...(single.isPresent ? [single] : [])].map(readTargetRef);
}

export function readSelector(spec: Field): Labels | undefined {
  const selector = spec.at("selector");
  return selector.isPresent ? selector.at("matchLabels").textMap() : undefined;
}

export function textMapAt(parent: Field, name: string): Labels {
  const field = parent.at(name);
  return field.isPresent ? field.textMap() : none;
}
