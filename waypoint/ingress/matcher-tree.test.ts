import { expect, test } from "@jest/globals";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { parseIp } from "#shared/net/ip.ts";
import { MatcherSchema } from "#shared/proto/gen/xds/type/matcher/v3/matcher_pb.js";
import { anyTypes } from "#waypoint/xds/any-types.ts";
import type { ChainFacts } from "./chain-match.ts";
import { compileMatcherTree } from "./matcher-tree.ts";

const any = (type: string, fields: JsonObject = {}): JsonObject => ({
  "@type": `type.googleapis.com/${type}`,
  ...fields,
});
const input = (type: string, fields: JsonObject = {}): JsonObject => ({
  name: type,
  typed_config: any(`envoy.extensions.matching.common_inputs.network.v3.${type}`, fields),
});
const chain = (name: string): JsonObject => ({
  action: { name, typed_config: any("google.protobuf.StringValue", { value: name }) },
});
const map = (from: JsonObject, branches: JsonObject, more: JsonObject = {}): JsonObject => ({
  matcher_tree: { input: from, exact_match_map: { map: branches } },
  ...more,
});
interface Range {
  readonly at: readonly string[];
  readonly to: JsonObject;
  readonly exclusive?: boolean;
}
const ranges = (...all: readonly Range[]): JsonObject => ({
  matcher_tree: {
    input: input("DestinationIPInput"),
    custom_match: {
      name: "ip",
      typed_config: any("xds.type.matcher.v3.IPMatcher", {
        range_matchers: all.map(({ at, to, exclusive = false }) => ({
          ranges: at.map((text) => ({
            address_prefix: text.split("/")[0] ?? "",
            prefix_len: Number(text.split("/")[1]),
          })),
          on_match: to,
          exclusive,
        })),
      }),
    },
  },
});
const onPort = (port: number, name: string): JsonObject => ({
  matcher: map(input("DestinationPortInput"), { [port]: chain(name) }),
});

const facts = (destination: string, port: number, more: Partial<ChainFacts> = {}): ChainFacts => ({
  destination: { ip: parseIp(destination), port },
  source: { ip: parseIp("10.9.9.9"), port: 4_000 },
  serverName: "",
  transportProtocol: "raw_buffer",
  applicationProtocols: [],
  ...more,
});

function compile(json: JsonObject) {
  const problems: string[] = [];
  const matcher = fromJson(MatcherSchema, json, { registry: anyTypes });
  const { find } = compileMatcherTree(matcher, "m", (path, message) => void problems.push(`${path}: ${message}`));
  return { find, problems };
}

const nested = ranges(
  { at: ["10.0.0.0/8", "fd00::/16"], to: onPort(80, "wide 80") },
  { at: ["10.1.0.0/16"], to: onPort(81, "narrow 81") },
  { at: ["10.1.0.1/32"], to: onPort(82, "one 82") },
  { at: ["10.1.0.1/32"], to: onPort(83, "one 83") },
  { at: ["0.0.0.0/0"], to: chain("anywhere"), exclusive: true },
);
const withAuthority = map(
  input("FilterStateInput", { key: "io.istio.connect_authority" }),
  { "shop.example:80": chain("by name") },
  { on_no_match: { matcher: nested } },
);
const spoken = map(
  input("ApplicationProtocolInput"),
  { "'h2c'": chain("http"), "'http/1.1'": chain("http") },
  { on_no_match: chain("tcp") },
);
const prefixes: JsonObject = {
  matcher_tree: {
    input: input("ServerNameInput"),
    prefix_match_map: { map: { a: chain("a"), "a.b": onPort(80, "a.b 80") } },
  },
};
const list: JsonObject = {
  matcher_list: {
    matchers: [
      {
        predicate: {
          and_matcher: {
            predicate: [
              { single_predicate: { input: input("TransportProtocolInput"), value_match: { exact: "tls" } } },
              {
                not_matcher: {
                  single_predicate: {
                    input: input("ServerNameInput"),
                    value_match: { suffix: ".Example", ignore_case: true },
                  },
                },
              },
            ],
          },
        },
        on_match: chain("other tls"),
      },
      {
        predicate: {
          single_predicate: { input: input("SourceIPInput"), value_match: { safe_regex: { regex: "10\\..*" } } },
        },
        on_match: onPort(90, "from 10"),
      },
      {
        predicate: {
          or_matcher: {
            predicate: [
              { single_predicate: { input: input("SourceTypeInput"), value_match: { exact: "local" } } },
              { single_predicate: { input: input("SourcePortInput"), value_match: { prefix: "40" } } },
            ],
          },
        },
        on_match: chain("local or 40"),
      },
    ],
  },
};

// prettier-ignore
test.each<[string, JsonObject, ChainFacts, string | undefined]>([
  ["the longest range",                                     nested,        facts("10.1.2.3", 81),                                      "narrow 81"],
  ["several entries for one range, in their order",         nested,        facts("10.1.0.1", 83),                                      "one 83"],
  ["a shorter range, where the longer one leads nowhere",   nested,        facts("10.1.0.1", 80),                                      "wide 80"],
  ["never an exclusive one then",                           nested,        facts("10.1.0.1", 99),                                      undefined],
  ["an exclusive one that is alone",                        nested,        facts("11.0.0.1", 99),                                      "anywhere"],
  ["IPv6",                                                  nested,        facts("fd00::1", 80),                                       "wide 80"],
  ["families apart",                                        nested,        facts("fe80::1", 80),                                       undefined],
  ["what the tunnel was asked for",                         withAuthority, facts("10.1.0.1", 99, { filterState: () => "shop.example:80" }), "by name"],
  ["the rest, where that is something else",                withAuthority, facts("10.1.0.1", 82, { filterState: () => "10.1.0.1:82" }), "one 82"],
  ["the rest, outside of tunnels",                          withAuthority, facts("10.1.0.1", 82),                                      "one 82"],
  ["what is spoken",                                        spoken,        facts("10.1.0.1", 80, { applicationProtocols: ["h2c"] }),   "http"],
  ["what else is spoken",                                   spoken,        facts("10.1.0.1", 80, { applicationProtocols: ["h2", "http/1.1"] }), "tcp"],
  ["nothing known to be spoken",                            spoken,        facts("10.1.0.1", 80),                                      "tcp"],
  ["the longest prefix",                                    prefixes,      facts("10.1.0.1", 80, { serverName: "a.b.c" }),             "a.b 80"],
  ["a shorter prefix, where the longer one leads nowhere",  prefixes,      facts("10.1.0.1", 81, { serverName: "a.b.c" }),             "a"],
  ["no prefix without a name",                              prefixes,      facts("10.1.0.1", 80),                                      undefined],
  ["all conditions together",                               list,          facts("10.1.0.1", 80, { transportProtocol: "tls", serverName: "a.test" }), "other tls"],
  ["not where one is turned round",                         list,          facts("10.1.0.1", 90, { transportProtocol: "tls", serverName: "a.EXAMPLE" }), "from 10"],
  ["the next condition, where a branch leads nowhere",      list,          facts("10.1.0.1", 91),                                      "local or 40"],
  ["the same address on both sides",                        list,          facts("10.9.9.9", 91, { source: { ip: parseIp("10.9.9.9"), port: 5 } }), "local or 40"],
])("%s", (_what, json, connection, expected) => {
  const { find, problems } = compile(json);
  expect(problems).toEqual([]);
  expect(find(connection)).toBe(expected);
});

let deep = chain("end");
for (let depth = 0; depth < 40; depth++) deep = { matcher: { on_no_match: deep } };

// prettier-ignore
test.each<[string, JsonObject, string]>([
  ["an input that is none",      map({ name: "x", typed_config: any("google.protobuf.StringValue", { value: "" }) }, { a: chain("a") }), 'm.matcher_tree.input: "type.googleapis.com/google.protobuf.StringValue" is no input that this proxy knows'],
  ["filter state of others",     map(input("FilterStateInput", { key: "k" }), { a: chain("a") }), 'm.matcher_tree.input.key: "k" is not known here'],
  ["an action of another kind",  map(input("DestinationPortInput"), { 80: { action: { name: "a", typed_config: any("google.protobuf.BoolValue", { value: true }) } } }), 'm.matcher_tree.exact_match_map.map["80"].action: has to hold the name of a chain (StringValue)'],
  ["a branch to nowhere",        map(input("DestinationPortInput"), { 80: {} }), 'm.matcher_tree.exact_match_map.map["80"]: says neither a matcher nor an action'],
  ["an empty map",               map(input("DestinationPortInput"), {}), "m.matcher_tree.exact_match_map: is empty"],
  ["a range that is none",       ranges({ at: ["10.0.0.0/99"], to: chain("a") }), 'm.matcher_tree.custom_match.range_matchers[0].ranges[0]: "10.0.0.0/99" is no range of addresses'],
  ["no range",                   ranges({ at: [], to: chain("a") }), "m.matcher_tree.custom_match.range_matchers[0].ranges: is empty"],
  ["nothing at all",             {}, "m: is empty"],
  ["a depth without end",        { on_no_match: deep }, "is nested too deeply"],
])("tells of %s", (_what, json, problem) => {
  expect(compile(json).problems.join("\n")).toContain(problem);
});
