/** Matching of JSON values: metadata, and claims of tokens in it. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { MetadataMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/metadata_pb.js";
import type { ValueMatcher } from "#shared/proto/gen/envoy/type/matcher/v3/value_pb.js";
import { compileString, type Problem } from "./string-matcher.ts";

export type ValueTest = (value: JsonValue | undefined) => boolean;

const never: ValueTest = () => false;

export function compileValue(matcher: ValueMatcher | undefined, path: string, problem: Problem): ValueTest {
  const pattern = matcher?.matchPattern;
  switch (pattern?.case) {
    case "nullMatch":
      return (value) => value === null;
    case "boolMatch": {
      const wanted = pattern.value;
      return (value) => value === wanted;
    }
    case "presentMatch": {
      const wanted = pattern.value;
      return (value) => (value !== undefined) === wanted;
    }
    case "stringMatch": {
      const test = compileString(pattern.value, `${path}.string_match`, problem);
      return (value) => typeof value === "string" && test(value);
    }
    case "doubleMatch": {
      const range = pattern.value.matchPattern;
      if (range.case === "exact") return (value) => value === range.value;
      if (range.case === "range") {
        const { start, end } = range.value;
        return (value) => typeof value === "number" && value >= start && value < end;
      }
      problem(`${path}.double_match`, "has no pattern");
      return never;
    }
    case "listMatch": {
      const list = pattern.value.matchPattern;
      if (list.case !== "oneOf") {
        problem(`${path}.list_match`, "only one_of is supported");
        return never;
      }
      const test = compileValue(list.value, `${path}.list_match.one_of`, problem);
      return (value) => Array.isArray(value) && value.some((item) => test(item));
    }
    case "orMatch": {
      const tests = pattern.value.valueMatchers.map((each, index) =>
        compileValue(each, `${path}.or_match.value_matchers[${index}]`, problem),
      );
      if (tests.length < 2) problem(`${path}.or_match.value_matchers`, "needs at least two");
      return (value) => tests.some((test) => test(value));
    }
    case undefined:
      problem(path, "has no pattern");
      return never;
  }
}

/** Where metadata is found, by the name of the filter that wrote it. */
export interface HasMetadata {
  metadataOf(filter: string): JsonObject | undefined;
}

export function compileMetadata(
  matcher: MetadataMatcher,
  path: string,
  problem: Problem,
): (subject: HasMetadata) => boolean {
  const { filter, invert } = matcher;
  if (filter === "") problem(`${path}.filter`, "must not be empty");
  const keys = matcher.path.map(({ segment }, index) => {
    if (segment.case === "key" && segment.value !== "") return segment.value;
    problem(`${path}.path[${index}]`, "has no key");
    return "";
  });
  if (keys.length === 0) problem(`${path}.path`, "must not be empty");
  const test = compileValue(matcher.value, `${path}.value`, problem);
  return (subject) => test(valueAt(subject.metadataOf(filter), keys)) !== invert;
}

/** Own members only: a claim named like a method of objects is absent unless the token has it. */
export function valueAt(object: JsonObject | undefined, keys: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = object;
  for (const key of keys) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, key)) {
      return undefined;
    }
    value = value[key];
  }
  return value;
}
