/** How values of policies are written for Envoy: `x` exact, `x*` prefix, `*x` suffix, `*` anything that is there. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HeaderMatcherSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import type { StringMatcherSchema } from "#shared/proto/gen/envoy/type/matcher/v3/string_pb.js";

export type StringMatcherInit = Exclude<MessageInitShape<typeof StringMatcherSchema>, { $typeName: string }>;
type HeaderMatcherInit = Exclude<MessageInitShape<typeof HeaderMatcherSchema>, { $typeName: string }>;

export const exactly = (value: string): StringMatcherInit => ({ matchPattern: { case: "exact", value } });

export const regex = (text: string): StringMatcherInit => ({
  matchPattern: { case: "safeRegex", value: { regex: text } },
});

/** For RE2. */
export const quoteRegex = (text: string): string => text.replace(/[\\.+*?()|[\]{}^$]/g, "\\$&");

export function stringMatch(value: string): StringMatcherInit {
  if (value === "*") return regex(".+");
  if (value.startsWith("*")) return { matchPattern: { case: "suffix", value: value.slice(1) } };
  if (value.endsWith("*")) return { matchPattern: { case: "prefix", value: value.slice(0, -1) } };
  return exactly(value);
}

/** What comes before the value in what is matched does not count for its wildcard. */
export function prefixedMatch(prefix: string, value: string): StringMatcherInit {
  if (value === "*") return regex(".+");
  if (value.startsWith("*")) return regex(`${prefix}.*${quoteRegex(value.slice(1))}`);
  if (value.endsWith("*")) return { matchPattern: { case: "prefix", value: `${prefix}${value.slice(0, -1)}` } };
  return exactly(`${prefix}${value}`);
}

export function headerMatch(name: string, value: string, ignoreCase = false): HeaderMatcherInit {
  if (value === "*") return { name, headerMatchSpecifier: { case: "presentMatch", value: true } };
  return {
    name,
    headerMatchSpecifier: {
      case: "stringMatch",
      value: { ...stringMatch(value), ...(ignoreCase ? { ignoreCase } : {}) },
    },
  };
}
