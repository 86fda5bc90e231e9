import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { parseSpiffeId } from "#shared/identity/spiffe-id.ts";
import { tryCidr } from "#shared/net/cidr.ts";
import { ip, workloadOf } from "#shared/testing/mesh-fixtures.ts";
import { compileMatch, compilePolicy, compileString } from "./compile-policy.ts";
import { explainPolicy } from "./explain.ts";
import { decide, dryRunMatches, type PolicyConnection } from "./decide.ts";
import { emptyMatch, type Policy, type PolicyMatch, type PolicyRule, type StringMatch } from "./policy.ts";
import { PolicyStore } from "./policy-store.ts";

const plaintext: PolicyConnection = { sourceIp: ip("127.0.0.1"), destinationIp: ip("10.0.0.2"), destinationPort: 80 };
const shop: PolicyConnection = { ...plaintext, sourceIdentity: parseSpiffeId("spiffe://td/ns/shop/sa/cart") };
const other: PolicyConnection = {
  ...plaintext,
  sourceIp: ip("127.0.0.2"),
  destinationIp: ip("10.0.0.3"),
  destinationPort: 81,
  sourceIdentity: parseSpiffeId("spiffe://td/ns/other/sa/else"),
};

const policyOf = (name: string, rules: readonly PolicyRule[], wish: Partial<Policy> = {}): Policy => ({
  key: `ns/${name}`,
  name,
  namespace: "ns",
  scope: "NAMESPACE",
  action: "ALLOW",
  dryRun: false,
  rules,
  ...wish,
});

const exact = (value: string): StringMatch => ({ kind: "exact", value });
const cidr = (text: string) => tryCidr(text) ?? { base: ip("0.0.0.0"), length: 0 };

describe("how rules combine", () => {
  const port = (destinationPort: number): PolicyMatch => ({ ...emptyMatch, destinationPorts: [destinationPort] });
  const from = (namespace: string): PolicyMatch => ({ ...emptyMatch, namespaces: [exact(namespace)] });

  // prettier-ignore
  test.each([
    [[],                                          false, "no rule never matches"],
    [[[]],                                        true,  "a rule without clauses matches"],
    [[[[]]],                                      true,  "a clause without matches is true"],
    [[[[emptyMatch]]],                               false, "a match that names nothing never matches"],
    [[[[emptyMatch, port(80)]]],                     true,  "but does not spoil the others"],
    [[[[port(81), port(80)]]],                    true,  "matches are ORed"],
    [[[[port(80)], [from("shop")]]],              true,  "clauses are ANDed"],
    [[[[port(81)], [from("shop")]]],              false, "wrong port"],
    [[[[port(80)], [from("prod")]]],              false, "wrong namespace"],
    [[[[port(80), port(81)], [from("prod"), from("shop")]]], true, "OR within AND"],
    [[[[port(81)]], [[port(80)]]],                true,  "rules are ORed"],
    [[[[port(81)]], []],                          true,  "an empty rule among them matches"],
    [[[[{ ...emptyMatch, destinationPorts: [80], namespaces: [exact("prod")] }]]], false, "kinds within a match are ANDed"],
    [[[[{ ...emptyMatch, destinationPorts: [80], notDestinationPorts: [80] }]]],   false, "a kind and its negation are ANDed"],
    [[[[{ ...emptyMatch, destinationPorts: [80], notDestinationPorts: [81] }]]],   true,  "and may both hold"],
  ] as [PolicyRule[], boolean, string][])("%#: %j is %s: %s", (rules, matches) => {
    expect(compilePolicy(policyOf("p", rules)).matchedRule(shop) >= 0).toBe(matches);
  });

  test("the rule that matched is named", () => {
    expect(compilePolicy(policyOf("p", [[[port(81)]], [[port(80)]]])).matchedRule(shop)).toBe(1);
  });
});

describe("fields", () => {
  // prettier-ignore
  test.each([ // match                                                          plaintext shop   other
    [{ namespaces: [exact("shop")] },                                           false, true,  false],
    [{ notNamespaces: [exact("shop")] },                                        true,  false, true],
    [{ namespaces: [{ kind: "presence" }] },                                    false, true,  true],
    [{ principals: [exact("td/ns/shop/sa/cart")] },                             false, true,  false],
    [{ notPrincipals: [exact("td/ns/shop/sa/cart")] },                          true,  false, true],
    [{ notPrincipals: [{ kind: "presence" }] },                                 true,  false, false],
    [{ principals: [exact("spiffe://td/ns/shop/sa/cart")] },                    false, false, false],
    [{ principals: [exact("cluster.local/ns/shop/sa/cart")] },                  false, false, false],
    [{ principals: [{ kind: "prefix", value: "" }] },                           false, true,  true],
    [{ serviceAccounts: [{ namespace: "shop", serviceAccount: "cart" }] },      false, true,  false],
    [{ notServiceAccounts: [{ namespace: "shop", serviceAccount: "cart" }] },   true,  false, true],
    [{ serviceAccounts: [{ namespace: "shop", serviceAccount: "else" }] },      false, false, false],
    [{ sourceIps: [cidr("127.0.0.1/32")] },                                     true,  true,  false],
    [{ notSourceIps: [cidr("127.0.0.1/32")] },                                  false, false, true],
    [{ sourceIps: [cidr("127.0.0.0/24")] },                                     true,  true,  true],
    [{ sourceIps: [cidr("::/0")] },                                             false, false, false],
    [{ destinationIps: [cidr("10.0.0.2")] },                                    true,  true,  false],
    [{ notDestinationIps: [cidr("10.0.0.2")] },                                 false, false, true],
    [{ destinationPorts: [80] },                                                true,  true,  false],
    [{ notDestinationPorts: [80] },                                             false, false, true],
  ] as [Partial<PolicyMatch>, boolean, boolean, boolean][])("%#: %j", (match, ...expected) => {
    const test = compileMatch({ ...emptyMatch, ...match });
    expect([plaintext, shop, other].map(test)).toEqual(expected);
  });

  // prettier-ignore
  test.each([
    [exact("a"),                        ["a"],         ["", "ab", "A"]],
    [exact(""),                         [""],          ["a"]],
    [{ kind: "prefix", value: "a" },    ["a", "ab"],   ["", "ba"]],
    [{ kind: "prefix", value: "" },     ["", "a"],     []],
    [{ kind: "suffix", value: "a" },    ["a", "ba"],   ["", "ab"]],
    [{ kind: "suffix", value: "" },     ["", "a"],     []],
    [{ kind: "presence" },              ["a", "*"],    [""]],
    [exact("*"),                        ["*"],         ["a"]],
  ] as [StringMatch, string[], string[]][])("%j takes %j and not %j", (match, taken, refused) => {
    const test = compileString(match);
    expect([...taken, ...refused].map(test)).toEqual([...taken.map(() => true), ...refused.map(() => false)]);
  });

  test("many values give what each alone gives", () => {
    const values = fc.array(fc.constantFrom("shop", "other", "sh", "op", ""), { maxLength: 4 });
    fc.assert(
      fc.property(values, fc.constantFrom("exact", "prefix", "suffix"), (words, kind) => {
        const matches = words.map((value): StringMatch => ({ kind, value }));
        const alone = matches.some((one) => compileMatch({ ...emptyMatch, namespaces: [one] })(shop));
        expect(compileMatch({ ...emptyMatch, namespaces: matches })(shop)).toBe(alone);
      }),
    );
  });
});

describe("verdicts", () => {
  const workload = workloadOf("w");
  const all: readonly PolicyRule[] = [[]];
  const none: readonly PolicyRule[] = [];
  const deny = { action: "DENY" } as const;

  // prettier-ignore
  test.each([
    [[],                                                                          true,  undefined],
    [[policyOf("p", none)],                                                       false, undefined],
    [[policyOf("p", all)],                                                        true,  "ns/p"],
    [[policyOf("p", none, deny)],                                                 true,  undefined],
    [[policyOf("p", all, deny)],                                                  false, "ns/p"],
    [[policyOf("a", all), policyOf("d", all, deny)],                              false, "ns/d"],
    [[policyOf("a", none), policyOf("b", all)],                                   true,  "ns/b"],
    [[policyOf("p", all, { ...deny, dryRun: true })],                             true,  undefined],
    [[policyOf("p", none, { dryRun: true })],                                     true,  undefined],
    [[policyOf("p", all, { namespace: "else", key: "else/p", ...deny })],         true,  undefined],
    [[policyOf("p", all, { scope: "WORKLOAD_SELECTOR", ...deny })],               true,  undefined],
    [[policyOf("p", all, { scope: "GLOBAL", namespace: "istio-system", key: "istio-system/p", ...deny })], false, "istio-system/p"],
  ] as [Policy[], boolean, string | undefined][])("%#", (policies, allowed, policy) => {
    const store = new PolicyStore();
    store.apply({ upserts: policies, removals: [] });
    const verdict = decide(store.policiesFor(workload), shop);
    expect(verdict.allowed).toBe(allowed);
    expect(verdict.policy).toBe(policy);
    expect(verdict.why).toContain(policy ?? "");
  });

  test("a selector policy holds where it is named; one that is not here is skipped", () => {
    const store = new PolicyStore();
    store.apply({ upserts: [policyOf("p", all, { ...deny, scope: "WORKLOAD_SELECTOR" })], removals: [] });
    const named = workloadOf("w", { authorizationPolicies: ["ns/missing", "ns/p"] });
    expect(decide(store.policiesFor(named), shop)).toMatchObject({ allowed: false, policy: "ns/p", rule: 0 });
  });

  test("dry-run policies are told, and change nothing", () => {
    const store = new PolicyStore();
    store.apply({ upserts: [policyOf("p", all, { ...deny, dryRun: true })], removals: [] });
    const set = store.policiesFor(workload);
    expect(dryRunMatches(set, shop).map(({ key }) => key)).toEqual(["ns/p"]);
    expect(decide(set, shop).allowed).toBe(true);
  });

  test("changes are seen at once, and leave nothing behind", () => {
    const store = new PolicyStore();
    store.apply({ upserts: [policyOf("p", all, deny)], removals: [] });
    expect(decide(store.policiesFor(workload), shop).allowed).toBe(false);
    store.apply({ upserts: [policyOf("p", none, deny)], removals: [] });
    expect(decide(store.policiesFor(workload), shop).allowed).toBe(true);
    expect(store.keysOfNamespace("ns")).toEqual(["ns/p"]);
    store.apply({ upserts: [policyOf("p", none, { scope: "WORKLOAD_SELECTOR" })], removals: [] });
    expect(store.keysOfNamespace("ns")).toEqual([]);
    store.apply({ upserts: [], removals: ["ns/p", "ns/never-was"] });
    expect(store.all()).toEqual([]);
  });
});

describe("explanations", () => {
  const mixed = policyOf("p", [
    [[{ ...emptyMatch, destinationPorts: [81] }]],
    [[{ ...emptyMatch, namespaces: [{ kind: "prefix", value: "sh" }], notSourceIps: [cidr("10.0.0.0/8")] }], []],
  ]);

  test("name every condition with what it was compared with", () => {
    expect(explainPolicy(mixed, shop)).toEqual({
      key: "ns/p",
      action: "ALLOW",
      dryRun: false,
      matchedRule: 1,
      matches: [
        {
          rule: 0,
          clause: 0,
          match: 0,
          holds: false,
          fields: [{ field: "destinationPorts", wanted: ["81"], found: "80", holds: false }],
        },
        {
          rule: 1,
          clause: 0,
          match: 0,
          holds: true,
          fields: [
            { field: "namespaces", wanted: ["sh*"], found: "shop", holds: true },
            { field: "notSourceIps", wanted: ["10.0.0.0/8"], found: "127.0.0.1", holds: true },
          ],
        },
      ],
    });
  });

  test("agree with the decision", () => {
    const match = fc.record({
      destinationPorts: fc.subarray([80, 81]),
      notDestinationPorts: fc.subarray([80, 81]),
      namespaces: fc.subarray([exact("shop"), exact("other")]),
      notPrincipals: fc.subarray<StringMatch>([{ kind: "presence" }]),
    });
    const rules = fc.array(fc.array(fc.array(match, { maxLength: 2 }), { maxLength: 2 }), { maxLength: 2 });
    fc.assert(
      fc.property(rules, fc.constantFrom(plaintext, shop, other), (shapes, connection) => {
        const policy = policyOf(
          "p",
          shapes.map((rule) => rule.map((clause) => clause.map((one) => ({ ...emptyMatch, ...one })))),
        );
        expect(explainPolicy(policy, connection).matchedRule ?? -1).toBe(compilePolicy(policy).matchedRule(connection));
      }),
    );
  });
});
