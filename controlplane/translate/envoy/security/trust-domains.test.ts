import { expect, test } from "@jest/globals";
import { namesOfMesh, underEveryName } from "./trust-domains.ts";

// prettier-ignore
test.each([ // trust domain and aliases, what is written, what it means
  [["cluster.local"],       "cluster.local/ns/a/sa/b", ["cluster.local/ns/a/sa/b"]],
  [["td1"],                 "cluster.local/ns/a/sa/b", ["td1/ns/a/sa/b"]],
  [["td1", "td2"],          "cluster.local/ns/a/sa/b", ["td1/ns/a/sa/b", "td2/ns/a/sa/b"]],
  [["td1", "td2"],          "td2/ns/a/sa/b",           ["td1/ns/a/sa/b", "td2/ns/a/sa/b"]],
  [["td1", "td1"],          "td1/ns/a/sa/b",           ["td1/ns/a/sa/b"]],
  [["td1", "td2"],          "td3/ns/a/sa/b",           ["td3/ns/a/sa/b"]],
  [["td1", "td2"],          "*/ns/a/sa/b",             ["*/ns/a/sa/b"]],
  [["td1", "old-td"],       "*-td/ns/a/sa/b",          ["td1/ns/a/sa/b", "*-td/ns/a/sa/b"]],
  [["new-td", "old-td"],    "*-td/ns/a/sa/b",          ["*-td/ns/a/sa/b"]],
  [["td1", "td2"],          "*-x/ns/a/sa/b",           ["*-x/ns/a/sa/b"]],
  [["td1", "old.*"],        "old.example/ns/a/sa/b",   ["td1/ns/a/sa/b", "old.*/ns/a/sa/b"]],
  [["td1", "td2"],          "td2/ns/a/*",              ["td1/ns/a/*", "td2/ns/a/*"]],
  [["td1"],                 "cluster.local/ns/a/*",    ["cluster.local/ns/a/*"]],
  [["td1"],                 "*/sa/b",                  ["*/sa/b"]],
  [["td1"],                 "*",                       ["*"]],
  [["td1"],                 "b",                       ["b"]],
] as const)("mesh %j: %s is %j", (trustDomains, value, expected) => {
  expect(underEveryName(value, { trustDomains })).toEqual(expected);
});

test.each([
  ["td1", ["td1", "td2"]],
  ["td2", ["td1", "td2"]],
  ["td3", ["td3"]],
  ["td*", ["td*"]],
  ["cluster.local", ["cluster.local"]],
])("trust domain %s is %j", (value, expected) => {
  expect(namesOfMesh(value, { trustDomains: ["td1", "td2"] })).toEqual(expected);
});
