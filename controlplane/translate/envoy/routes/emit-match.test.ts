import { describe, expect, test } from "@jest/globals";
import { RE2JS } from "re2js";
import { emitMatch } from "./emit-match.ts";
import type { EntryMatch } from "./route-entry.ts";

const ofCallers = (callers: string): EntryMatch => ({
  callers,
  path: { kind: "prefix", value: "/" },
  ignoreCase: false,
  headers: [],
  queryParams: [],
  claims: [],
});

/** Whether a route for callers of namespace `web` takes this one. */
function takes(trustDomains: readonly string[], caller: string): boolean {
  const matchers = emitMatch(ofCallers("web"), trustDomains).filterState.map(({ matcher }) =>
    matcher.case === "stringMatch" ? matcher.value.matchPattern : undefined,
  );
  return matchers.every((pattern) => {
    if (pattern?.case === "prefix") return caller.startsWith(pattern.value);
    if (pattern?.case === "safeRegex") return RE2JS.compile(pattern.value.regex).matches(caller);
    throw new Error(`unexpected matcher ${pattern?.case ?? "of nothing"}`);
  });
}

// prettier-ignore
describe.each<[string, readonly string[], readonly string[], readonly string[]]>([ // what, names of the mesh, taken, left
  ["one name",                 ["cluster.local"],                  ["spiffe://cluster.local/ns/web/sa/a"], ["spiffe://cluster.local/ns/webs/sa/a", "spiffe://other/ns/web/sa/a", ""]],
  ["several",                  ["cluster.local", "old.example"],   ["spiffe://cluster.local/ns/web/sa/a", "spiffe://old.example/ns/web/sa/a"], ["spiffe://oldxexample/ns/web/sa/a", "spiffe://old.example/ns/other/sa/a", "spiffe://cluster.local/ns/web/sa/"]],
  ["one that ends like this",  ["cluster.local", "*.example"],     ["spiffe://new.example/ns/web/sa/a"], ["spiffe://new.example.net/ns/web/sa/a", "spiffe://a/b.example/ns/web/sa/a"]],
  ["one that begins like this", ["cluster.local", "old-*"],        ["spiffe://old-1/ns/web/sa/a"], ["spiffe://new/ns/web/sa/a", "spiffe://old-1/ns/x/sa/y/ns/web/sa/a"]],
])("a route for callers of one namespace, in a mesh with %s", (_what, trustDomains, taken, left) => {
  test.each(taken)("takes %s", (caller) => expect(takes(trustDomains, caller)).toBe(true));
  test.each(left)('leaves "%s"', (caller) => expect(takes(trustDomains, caller)).toBe(false));
});
