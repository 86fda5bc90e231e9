import { expect, test } from "@jest/globals";
import { aliasesOf, expansionsOf, kubernetesSearches, wildcardsOver } from "./dns-names.ts";

const here = { clusterDomain: "cluster.local", namespace: "shop" };

// prettier-ignore
test.each([ // name                          is short for                                                            why
  ["web",                                    ["web.shop.svc.cluster.local"],                                         "a service of the pod's own namespace"],
  ["web.other",                              ["web.other.svc.cluster.local", "web.other.shop.svc.cluster.local"],    "service and namespace; a pod's host name is tried too"],
  ["web.other.svc",                          ["web.other.svc.cluster.local", "web.other.svc.svc.cluster.local"],     "with svc"],
  ["a.web.other",                            ["a.web.other.svc.cluster.local"],                                      "a pod of a headless service"],
  ["a.web.other.svc",                        ["a.web.other.svc.cluster.local"],                                      "the same with svc"],
  ["a.web.other.com",                        [],                                                                     "four labels, none of the cluster"],
  ["web.other.svc.cluster.local",            [],                                                                     "whole already"],
  ["www.a.example.com.uk",                   [],                                                                     "somebody else's"],
])("%s may mean %j: %s", (name, expected, _why) => {
  expect(expansionsOf(name, here)).toEqual(expected);
});

// prettier-ignore
test.each([ // name              covered by
  ["a.b.c.d.e",                  ["*.b.c.d.e", "*.c.d.e", "*.d.e", "*.e"]],
  ["a.b",                        ["*.b"]],
  ["a",                          []],
])("%s is covered by %j", (name, expected) => {
  expect([...wildcardsOver(name)]).toEqual(expected);
});

const searches = kubernetesSearches("shop", "cluster.local");
const aliases = (name: string, given: readonly string[] = searches) =>
  [...aliasesOf(name, { ...here, searches: given })].map((alias) =>
    alias.stripped === undefined ? alias.name : `${alias.name} from ${alias.stripped}`,
  );

test("search domains are taken off, longest first, and what is left may be short for something", () => {
  expect(aliases("api.example.com.shop.svc.cluster.local")).toEqual([
    "api.example.com.shop.svc.cluster.local",
    "api.example.com from api.example.com",
    "api.example.com.svc.cluster.local from api.example.com",
    "api.example.com.shop from api.example.com.shop",
    "api.example.com.shop.svc from api.example.com.shop.svc",
  ]);
});

test("each name is tried once, as it was reached first", () => {
  const all = aliases("web.shop.svc.cluster.local");
  expect(all).toEqual([
    "web.shop.svc.cluster.local",
    "web from web",
    "web.shop from web.shop",
    "web.shop.shop.svc.cluster.local from web.shop",
    "web.shop.svc from web.shop.svc",
    "web.shop.svc.svc.cluster.local from web.shop.svc",
  ]);
  expect(all.length).toBe(new Set(all).size);
});

// prettier-ignore
test.each([ // name                     search                      why
  ["cluster.local",                     ["cluster.local"],          "nothing would be left"],
  ["a.notcluster.local",                ["cluster.local"],          "not a whole label"],
  ["a.example.com",                     ["cluster.local"],          "another suffix"],
])("%s keeps its end beside search %j: %s", (name, given, _why) => {
  expect(aliases(name, given).filter((alias) => alias.includes("from"))).toEqual([]);
});
