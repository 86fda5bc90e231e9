import { expect, test } from "@jest/globals";
import { tryCidr } from "#shared/net/cidr.ts";
import { parseIp } from "#shared/net/ip.ts";
import { ChainMatcher, type ChainCriteria, type ChainFacts } from "./chain-match.ts";

const everything: ChainCriteria = {
  destinationPort: undefined,
  prefixRanges: [],
  serverNames: [],
  transportProtocol: "",
  applicationProtocols: [],
  directSourcePrefixRanges: [],
  sourceType: "any",
  sourcePrefixRanges: [],
  sourcePorts: [],
};
const ranges = (...texts: string[]) => texts.map((text) => tryCidr(text)!);
const facts = (destination: string, port: number, more: Partial<ChainFacts> = {}): ChainFacts => ({
  destination: { ip: parseIp(destination), port },
  source: { ip: parseIp("10.9.9.9"), port: 4_000 },
  serverName: "",
  transportProtocol: "raw_buffer",
  applicationProtocols: [],
  ...more,
});
const http = { applicationProtocols: ["http/1.1"] };

const chains: Readonly<Record<string, Partial<ChainCriteria>>> = {
  "shop-80-http": {
    destinationPort: 80,
    prefixRanges: ranges("10.1.0.1"),
    applicationProtocols: ["http/1.0", "http/1.1", "h2c"],
  },
  "shop-80-tcp": { destinationPort: 80, prefixRanges: ranges("10.1.0.1") },
  "shop-81": { destinationPort: 81, prefixRanges: ranges("10.1.0.1", "fd00::1") },
  "range-81": { destinationPort: 81, prefixRanges: ranges("10.1.0.0/20", "fd00::/64") },
  "sni-443": { destinationPort: 443, serverNames: ["a.example.com"] },
  "wildcard-443": { destinationPort: 443, serverNames: ["*.example.com"] },
  "tls-444": { destinationPort: 444, transportProtocol: "tls" },
  "local-445": { destinationPort: 445, sourceType: "same-ip-or-loopback" },
  "port-445": { destinationPort: 445, sourceType: "external", sourcePorts: [4_000] },
  "range-446": { destinationPort: 446, sourcePrefixRanges: ranges("10.9.0.0/16") },
  "direct-http": { prefixRanges: ranges("10.2.0.1"), applicationProtocols: ["http/1.0", "http/1.1", "h2c"] },
  "direct-tcp": { prefixRanges: ranges("10.2.0.1") },
};
const matcher = new ChainMatcher(
  Object.entries(chains).map(([chain, criteria]) => ({ chain, criteria: { ...everything, ...criteria } })),
  undefined,
);

// prettier-ignore
test.each<[ChainFacts, string | undefined, string]>([
  [facts("10.1.0.1", 80, http),                                    "shop-80-http", "what it speaks"],
  [facts("10.1.0.1", 80, { applicationProtocols: ["h2c"] }),       "shop-80-http", "any of those that are named"],
  [facts("10.1.0.1", 80),                                          "shop-80-tcp",  "what is left"],
  [facts("10.1.0.2", 80),                                          undefined,      "another address"],
  [facts("10.1.0.1", 81),                                          "shop-81",      "the longest range"],
  [facts("10.1.15.255", 81),                                       "range-81",     "a range"],
  [facts("10.1.16.0", 81),                                         undefined,      "just past it"],
  [facts("fd00::1", 81),                                           "shop-81",      "IPv6"],
  [facts("fd00::ffff", 81),                                        "range-81",     "an IPv6 range"],
  [facts("10.2.0.1", 9_999, http),                                 "direct-http",  "a workload, any port"],
  [facts("10.2.0.1", 9_999),                                       "direct-tcp",   "the same, other bytes"],
  [facts("10.2.0.1", 80),                                          undefined,      "a port that some chain names never falls back, as in Envoy"],
  [facts("10.3.0.1", 443, { serverName: "a.example.com" }),        "sni-443",      "a name"],
  [facts("10.3.0.1", 443, { serverName: "b.c.example.com" }),      "wildcard-443", "a wildcard, any depth"],
  [facts("10.3.0.1", 443, { serverName: "example.com" }),          undefined,      "not the name itself"],
  [facts("10.3.0.1", 443),                                         undefined,      "no name"],
  [facts("10.3.0.1", 444, { transportProtocol: "tls" }),           "tls-444",      "TLS"],
  [facts("10.3.0.1", 444),                                         undefined,      "no TLS"],
  [facts("10.9.9.9", 445),                                         "local-445",    "the same address"],
  [facts("10.3.0.1", 445),                                         "port-445",     "from elsewhere, and its port"],
  [facts("10.3.0.1", 446),                                         "range-446",    "where it comes from"],
])("%j goes to %s: %s", (connection, chain) => {
  expect(matcher.match(connection)).toBe(chain);
});

test("tells of criteria that two chains share, and falls back where told to", () => {
  const told: string[] = [];
  const entries = ["a", "b"].map((chain) => ({ chain, criteria: { ...everything, destinationPort: 80 } }));
  const shared = new ChainMatcher(entries, "default", (first, second) => void told.push(`${first}/${second}`));
  expect(told).toEqual(["a/b"]);
  expect([shared.match(facts("10.0.0.1", 80)), shared.match(facts("10.0.0.1", 81))]).toEqual(["a", "default"]);
});
