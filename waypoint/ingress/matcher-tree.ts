/**
 * Which filter chain a connection belongs to, where a listener says it as a tree (`filter_chain_matcher`): facts of the
 * connection are looked up in maps, ranges or conditions, branch by branch, until one names a chain.
 *
 * A branch that leads to nothing counts as one that has not matched: what its level says for that case holds. Ranges of
 * addresses are tried from the longest to the shortest.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { isLoopback, type Ip } from "#shared/net/ip.ts";
import { maskIp, tryCidr, type Cidr } from "#shared/net/cidr.ts";
import {
  ApplicationProtocolInputSchema,
  DestinationIPInputSchema,
  DestinationPortInputSchema,
  DirectSourceIPInputSchema,
  FilterStateInputSchema,
  ServerNameInputSchema,
  SourceIPInputSchema,
  SourcePortInputSchema,
  SourceTypeInputSchema,
  TransportProtocolInputSchema,
} from "#shared/proto/gen/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.js";
import type { TypedExtensionConfig } from "#shared/proto/gen/xds/core/v3/extension_pb.js";
import { IPMatcherSchema, type IPMatcher_IPRangeMatcher } from "#shared/proto/gen/xds/type/matcher/v3/ip_pb.js";
import type {
  Matcher,
  Matcher_MatcherList_Predicate,
  Matcher_MatcherList_Predicate_SinglePredicate,
  Matcher_MatcherTree,
  Matcher_MatcherTree_MatchMap,
  Matcher_OnMatch,
} from "#shared/proto/gen/xds/type/matcher/v3/matcher_pb.js";
import type { StringMatcher } from "#shared/proto/gen/xds/type/matcher/v3/string_pb.js";
import { compilePart, compileSafeRegex, type Problem } from "#waypoint/matching/string-matcher.ts";
import type { ChainFacts } from "./chain-match.ts";
import { filterStateKeys, type FilterStateKey } from "./filter-state.ts";

/** The name of a chain; undefined: none. */
export type FindChain = (facts: ChainFacts) => string | undefined;

/** Undefined where the connection has no such fact. */
type Input = (facts: ChainFacts) => string | undefined;

type Test = (facts: ChainFacts) => boolean;

const nowhere: FindChain = () => undefined;
const never: Test = () => false;

/** Deeper than any configuration in use; keeps a hostile one from filling the stack. */
const deepest = 32;

export function compileMatcherTree(matcher: Matcher, path: string, problem: Problem, depth = 0): FindChain {
  if (depth > deepest) return refuse(problem, path, "is nested too deeply");
  const otherwise = matcher.onNoMatch && compileBranch(matcher.onNoMatch, `${path}.on_no_match`, problem, depth);
  const { matcherType: type } = matcher;
  const find = ((): FindChain => {
    switch (type.case) {
      case "matcherTree":
        return compileTree(type.value, `${path}.matcher_tree`, problem, depth);
      case "matcherList":
        return firstOf(
          type.value.matchers.map(({ predicate, onMatch }, index) => {
            const at = `${path}.matcher_list.matchers[${index}]`;
            const test = compilePredicate(predicate, `${at}.predicate`, problem, depth);
            const next = compileBranch(onMatch, `${at}.on_match`, problem, depth);
            return (facts) => (test(facts) ? next(facts) : undefined);
          }),
        );
      case undefined:
        if (otherwise === undefined) problem(path, "is empty");
        return nowhere;
    }
  })();
  return otherwise === undefined ? find : (facts) => find(facts) ?? otherwise(facts);
}

function refuse(problem: Problem, path: string, message: string): FindChain {
  problem(path, message);
  return nowhere;
}

function firstOf(all: readonly FindChain[]): FindChain {
  return (facts) => {
    for (const find of all) {
      const found = find(facts);
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

function compileBranch(branch: Matcher_OnMatch | undefined, path: string, problem: Problem, depth: number): FindChain {
  const next = branch?.onMatch;
  switch (next?.case) {
    case "matcher":
      return compileMatcherTree(next.value, `${path}.matcher`, problem, depth + 1);
    case "action": {
      const name = unpacked(next.value, StringValueSchema)?.value;
      if (name === undefined) return refuse(problem, `${path}.action`, "has to hold the name of a chain (StringValue)");
      return () => name;
    }
    case undefined:
      return refuse(problem, path, "says neither a matcher nor an action");
  }
}

function compileTree(
  { input, treeType }: Matcher_MatcherTree,
  path: string,
  problem: Problem,
  depth: number,
): FindChain {
  const read = compileInput(input, `${path}.input`, problem);
  switch (treeType.case) {
    case "exactMatchMap": {
      const branches = compileMap(treeType.value, `${path}.exact_match_map`, problem, depth);
      return (facts) => {
        const value = read(facts);
        return value === undefined ? undefined : branches.get(value)?.(facts);
      };
    }
    case "prefixMatchMap": {
      const branches = [...compileMap(treeType.value, `${path}.prefix_match_map`, problem, depth)].toSorted(
        ([a], [b]) => b.length - a.length,
      );
      const all = branches.map(
        ([prefix, next]): FindChain =>
          (facts) =>
            read(facts)?.startsWith(prefix) === true ? next(facts) : undefined,
      );
      return firstOf(all);
    }
    case "customMatch": {
      const at = `${path}.custom_match`;
      const ranges = unpacked(treeType.value, IPMatcherSchema);
      if (ranges === undefined)
        return refuse(problem, at, `"${treeType.value.name}" is not known; ranges of addresses are`);
      return compileRanges(ranges.rangeMatchers, read, at, problem, depth);
    }
    case undefined:
      return refuse(problem, path, "has nothing to look the input up in");
  }
}

function compileMap(
  { map }: Matcher_MatcherTree_MatchMap,
  path: string,
  problem: Problem,
  depth: number,
): ReadonlyMap<string, FindChain> {
  const entries = Object.entries(map);
  if (entries.length === 0) problem(path, "is empty");
  return new Map(entries.map(([key, next]) => [key, compileBranch(next, `${path}.map["${key}"]`, problem, depth)]));
}

interface RangeEntry {
  readonly next: FindChain;
  /** Not to be looked at where a longer range holds the address, too. */
  readonly isExclusive: boolean;
}

/** Ranges by their masked text; lengths in use are few, so each is one look-up. */
function compileRanges(
  matchers: readonly IPMatcher_IPRangeMatcher[],
  read: Input,
  path: string,
  problem: Problem,
  depth: number,
): FindChain {
  const byRange = new Map<string, RangeEntry[]>();
  const lengths = { v4: new Set<number>(), v6: new Set<number>() };
  matchers.forEach(({ ranges, onMatch, exclusive }, index) => {
    const at = `${path}.range_matchers[${index}]`;
    const entry = { next: compileBranch(onMatch, `${at}.on_match`, problem, depth), isExclusive: exclusive };
    if (ranges.length === 0) problem(`${at}.ranges`, "is empty");
    ranges.forEach(({ addressPrefix, prefixLen = 0 }, position) => {
      const text = `${addressPrefix}/${prefixLen}`;
      const range: Cidr | undefined = tryCidr(text);
      if (range === undefined) {
        problem(`${at}.ranges[${position}]`, `"${text}" is no range of addresses`);
        return;
      }
      const key = maskIp(range.base, range.length);
      lengths[range.base.includes(":") ? "v6" : "v4"].add(range.length);
      const known = byRange.get(key);
      if (known === undefined) byRange.set(key, [entry]);
      else if (!known.includes(entry)) known.push(entry);
    });
  });
  const longestFirst = (all: ReadonlySet<number>) => [...all].toSorted((a, b) => b - a);
  const [v4, v6] = [longestFirst(lengths.v4), longestFirst(lengths.v6)];
  return (facts) => {
    const ip = read(facts) as Ip | undefined;
    if (ip === undefined) return undefined;
    let isInLonger = false;
    for (const length of ip.includes(":") ? v6 : v4) {
      const entries = byRange.get(maskIp(ip, length));
      if (entries === undefined) continue;
      for (const { next, isExclusive } of entries) {
        const found = isExclusive && isInLonger ? undefined : next(facts);
        if (found !== undefined) return found;
      }
      isInLonger = true;
    }
    return undefined;
  };
}

function compilePredicate(
  predicate: Matcher_MatcherList_Predicate | undefined,
  path: string,
  problem: Problem,
  depth: number,
): Test {
  if (depth > deepest) {
    problem(path, "is nested too deeply");
    return never;
  }
  const type = predicate?.matchType;
  const all = (list: readonly Matcher_MatcherList_Predicate[], field: string) => {
    if (list.length < 2) problem(`${path}.${field}`, "needs at least two");
    return list.map((each, index) =>
      compilePredicate(each, `${path}.${field}.predicate[${index}]`, problem, depth + 1),
    );
  };
  switch (type?.case) {
    case "singlePredicate":
      return compileSingle(type.value, `${path}.single_predicate`, problem);
    case "orMatcher": {
      const tests = all(type.value.predicate, "or_matcher");
      return (facts) => tests.some((test) => test(facts));
    }
    case "andMatcher": {
      const tests = all(type.value.predicate, "and_matcher");
      return (facts) => tests.every((test) => test(facts));
    }
    case "notMatcher": {
      const test = compilePredicate(type.value, `${path}.not_matcher`, problem, depth + 1);
      return (facts) => !test(facts);
    }
    case undefined:
      problem(path, "is empty");
      return never;
  }
}

function compileSingle(
  { input, matcher }: Matcher_MatcherList_Predicate_SinglePredicate,
  path: string,
  problem: Problem,
): Test {
  const read = compileInput(input, `${path}.input`, problem);
  if (matcher.case !== "valueMatch") {
    problem(path, matcher.case === undefined ? "has no value_match" : `"${matcher.value.name}" is not known`);
    return never;
  }
  const test = compileValue(matcher.value, `${path}.value_match`, problem);
  return (facts) => {
    const value = read(facts);
    return value !== undefined && test(value);
  };
}

function compileValue({ matchPattern, ignoreCase }: StringMatcher, path: string, problem: Problem) {
  switch (matchPattern.case) {
    case "exact": {
      const wanted = ignoreCase ? matchPattern.value.toLowerCase() : matchPattern.value;
      return (value: string) => (ignoreCase ? value.toLowerCase() : value) === wanted;
    }
    case "prefix":
    case "suffix":
    case "contains":
      return compilePart(matchPattern.case, matchPattern.value, ignoreCase);
    case "safeRegex":
      return compileSafeRegex(matchPattern.value.regex, `${path}.safe_regex`, problem);
    case undefined:
      problem(path, "has no pattern that this proxy knows");
      return () => false;
  }
}

/** What each input reads of a connection, as text. */
const inputs: readonly { readonly schema: DescMessage; readonly read: Input }[] = [
  { schema: DestinationIPInputSchema, read: ({ destination }) => destination.ip },
  { schema: DestinationPortInputSchema, read: ({ destination }) => String(destination.port) },
  { schema: SourceIPInputSchema, read: ({ source }) => source.ip },
  { schema: SourcePortInputSchema, read: ({ source }) => String(source.port) },
  // A tunnel proves where its client is, and nobody else says otherwise.
  { schema: DirectSourceIPInputSchema, read: ({ source }) => source.ip },
  {
    schema: SourceTypeInputSchema,
    read: ({ source, destination }) => (isLoopback(source.ip) || source.ip === destination.ip ? "local" : undefined),
  },
  { schema: ServerNameInputSchema, read: ({ serverName }) => (serverName === "" ? undefined : serverName) },
  { schema: TransportProtocolInputSchema, read: ({ transportProtocol }) => transportProtocol },
  {
    schema: ApplicationProtocolInputSchema,
    read: ({ applicationProtocols }) =>
      applicationProtocols.length === 0 ? undefined : applicationProtocols.map((name) => `'${name}'`).join(","),
  },
];

function compileInput(input: TypedExtensionConfig | undefined, path: string, problem: Problem): Input {
  const type = input?.typedConfig?.typeUrl ?? "";
  const known = inputs.find(({ schema }) => type.endsWith(`/${schema.typeName}`));
  if (known !== undefined) return known.read;
  const state = input && unpacked(input, FilterStateInputSchema);
  if (state === undefined) problem(path, `"${type}" is no input that this proxy knows`);
  else if (!filterStateKeys.has(state.key)) problem(`${path}.key`, `"${state.key}" is not known here`);
  else return ({ filterState }) => filterState?.(state.key as FilterStateKey);
  return () => undefined;
}

const unpacked = <Desc extends DescMessage>(
  { typedConfig }: TypedExtensionConfig,
  schema: Desc,
): MessageShape<Desc> | undefined => typedConfig && anyUnpack(typedConfig, schema);
