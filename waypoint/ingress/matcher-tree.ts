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

export interface MatcherTree {
  readonly find: FindChain;
  /** What it looks at of tunnels. */
  readonly usesState: ReadonlySet<FilterStateKey>;
}

/** What all of a tree has in common while it is compiled. */
interface TreeContext {
  readonly problem: Problem;
  readonly usesState: Set<FilterStateKey>;
}

/** Undefined where the connection has no such fact. */
type Input = (facts: ChainFacts) => string | undefined;

type Test = (facts: ChainFacts) => boolean;

const nowhere: FindChain = () => undefined;
const never: Test = () => false;

/** Deeper than any configuration in use; keeps a hostile one from filling the stack. */
const deepest = 32;

export function compileMatcherTree(matcher: Matcher, path: string, problem: Problem): MatcherTree {
  const usesState = new Set<FilterStateKey>();
  return { find: compileMatcher(matcher, path, { problem, usesState }, 0), usesState };
}

function compileMatcher(matcher: Matcher, path: string, tree: TreeContext, depth: number): FindChain {
  if (depth > deepest) return refuse(tree, path, "is nested too deeply");
  const otherwise = matcher.onNoMatch && compileBranch(matcher.onNoMatch, `${path}.on_no_match`, tree, depth);
  const { matcherType: type } = matcher;
  const find = ((): FindChain => {
    switch (type.case) {
      case "matcherTree":
        return compileTree(type.value, `${path}.matcher_tree`, tree, depth);
      case "matcherList":
        return firstOf(
          type.value.matchers.map(({ predicate, onMatch }, index) => {
            const at = `${path}.matcher_list.matchers[${index}]`;
            const test = compilePredicate(predicate, `${at}.predicate`, tree, depth);
            const next = compileBranch(onMatch, `${at}.on_match`, tree, depth);
            return (facts) => (test(facts) ? next(facts) : undefined);
          }),
        );
      case undefined:
        if (otherwise === undefined) tree.problem(path, "is empty");
        return nowhere;
    }
  })();
  return otherwise === undefined ? find : (facts) => find(facts) ?? otherwise(facts);
}

function refuse(tree: TreeContext, path: string, message: string): FindChain {
  tree.problem(path, message);
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

function compileBranch(branch: Matcher_OnMatch | undefined, path: string, tree: TreeContext, depth: number): FindChain {
  const next = branch?.onMatch;
  switch (next?.case) {
    case "matcher":
      return compileMatcher(next.value, `${path}.matcher`, tree, depth + 1);
    case "action": {
      const name = unpacked(next.value, StringValueSchema)?.value;
      if (name === undefined) return refuse(tree, `${path}.action`, "has to hold the name of a chain (StringValue)");
      return () => name;
    }
    case undefined:
      return refuse(tree, path, "says neither a matcher nor an action");
  }
}

function compileTree(
  { input, treeType }: Matcher_MatcherTree,
  path: string,
  tree: TreeContext,
  depth: number,
): FindChain {
  const read = compileInput(input, `${path}.input`, tree);
  switch (treeType.case) {
    case "exactMatchMap": {
      const branches = compileMap(treeType.value, `${path}.exact_match_map`, tree, depth);
      return (facts) => {
        const value = read(facts);
        return value === undefined ? undefined : branches.get(value)?.(facts);
      };
    }
    case "prefixMatchMap": {
      const branches = [...compileMap(treeType.value, `${path}.prefix_match_map`, tree, depth)].toSorted(
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
        return refuse(tree, at, `"${treeType.value.name}" is not known; ranges of addresses are`);
      return compileRanges(ranges.rangeMatchers, read, at, tree, depth);
    }
    case undefined:
      return refuse(tree, path, "has nothing to look the input up in");
  }
}

function compileMap(
  { map }: Matcher_MatcherTree_MatchMap,
  path: string,
  tree: TreeContext,
  depth: number,
): ReadonlyMap<string, FindChain> {
  const entries = Object.entries(map);
  if (entries.length === 0) tree.problem(path, "is empty");
  return new Map(entries.map(([key, next]) => [key, compileBranch(next, `${path}.map["${key}"]`, tree, depth)]));
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
  tree: TreeContext,
  depth: number,
): FindChain {
  const byRange = new Map<string, RangeEntry[]>();
  const lengths = { v4: new Set<number>(), v6: new Set<number>() };
  matchers.forEach(({ ranges, onMatch, exclusive }, index) => {
    const at = `${path}.range_matchers[${index}]`;
    const entry = { next: compileBranch(onMatch, `${at}.on_match`, tree, depth), isExclusive: exclusive };
    if (ranges.length === 0) tree.problem(`${at}.ranges`, "is empty");
    ranges.forEach(({ addressPrefix, prefixLen = 0 }, position) => {
      const text = `${addressPrefix}/${prefixLen}`;
      const range: Cidr | undefined = tryCidr(text);
      if (range === undefined) {
        tree.problem(`${at}.ranges[${position}]`, `"${text}" is no range of addresses`);
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
  tree: TreeContext,
  depth: number,
): Test {
  if (depth > deepest) {
    tree.problem(path, "is nested too deeply");
    return never;
  }
  const type = predicate?.matchType;
  const all = (list: readonly Matcher_MatcherList_Predicate[], field: string) => {
    if (list.length < 2) tree.problem(`${path}.${field}`, "needs at least two");
    return list.map((each, index) => compilePredicate(each, `${path}.${field}.predicate[${index}]`, tree, depth + 1));
  };
  switch (type?.case) {
    case "singlePredicate":
      return compileSingle(type.value, `${path}.single_predicate`, tree);
    case "orMatcher": {
      const tests = all(type.value.predicate, "or_matcher");
      return (facts) => tests.some((test) => test(facts));
    }
    case "andMatcher": {
      const tests = all(type.value.predicate, "and_matcher");
      return (facts) => tests.every((test) => test(facts));
    }
    case "notMatcher": {
      const test = compilePredicate(type.value, `${path}.not_matcher`, tree, depth + 1);
      return (facts) => !test(facts);
    }
    case undefined:
      tree.problem(path, "is empty");
      return never;
  }
}

function compileSingle(
  { input, matcher }: Matcher_MatcherList_Predicate_SinglePredicate,
  path: string,
  tree: TreeContext,
): Test {
  const read = compileInput(input, `${path}.input`, tree);
  if (matcher.case !== "valueMatch") {
    tree.problem(path, matcher.case === undefined ? "has no value_match" : `"${matcher.value.name}" is not known`);
    return never;
  }
  const test = compileValue(matcher.value, `${path}.value_match`, tree);
  return (facts) => {
    const value = read(facts);
    return value !== undefined && test(value);
  };
}

function compileValue({ matchPattern, ignoreCase }: StringMatcher, path: string, tree: TreeContext) {
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
      return compileSafeRegex(matchPattern.value.regex, `${path}.safe_regex`, tree.problem);
    case undefined:
      tree.problem(path, "has no pattern that this proxy knows");
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

function compileInput(input: TypedExtensionConfig | undefined, path: string, tree: TreeContext): Input {
  const type = input?.typedConfig?.typeUrl ?? "";
  const known = inputs.find(({ schema }) => type.endsWith(`/${schema.typeName}`));
  if (known !== undefined) return known.read;
  const state = input && unpacked(input, FilterStateInputSchema);
  if (state === undefined) tree.problem(path, `"${type}" is no input that this proxy knows`);
  else if (!filterStateKeys.has(state.key)) tree.problem(`${path}.key`, `"${state.key}" is not known here`);
  else {
    const key = state.key as FilterStateKey;
    tree.usesState.add(key);
    return ({ filterState }) => filterState?.(key);
  }
  return () => undefined;
}

const unpacked = <Desc extends DescMessage>(
  { typedConfig }: TypedExtensionConfig,
  schema: Desc,
): MessageShape<Desc> | undefined => typedConfig && anyUnpack(typedConfig, schema);
