import { describe, expect, test } from "@jest/globals";
import { decideEnrolment, enablementDefault, parseEnablement } from "./enrolment.ts";
import type { PodFacts } from "./pod-facts.ts";

const mode = "istio.io/dataplane-mode";
const rules = {
  enablement: parseEnablement(enablementDefault),
  excludedNamespaces: new Set(["kube-system"]),
  systemNamespace: "istio-system",
};
const pod: PodFacts = {
  uid: "u",
  name: "cart",
  namespace: "shop",
  serviceAccount: "cart",
  labels: {},
  annotations: {},
  ips: [],
  hostNetwork: false,
  phase: "Running",
  isTerminating: false,
};
const ambient = { [mode]: "ambient" };
const none = { [mode]: "none" };

// prettier-ignore
test.each([ // pod                                                            namespace   captured  why
  [{},                                                                        {},         false,    "nobody asked"],
  [{ labels: ambient },                                                       {},         true,     "its own label"],
  [{},                                                                        ambient,    true,     "its namespace's label"],
  [{ labels: none },                                                          ambient,    false,    "none beats the namespace"],
  [{ labels: ambient },                                                       none,       true,     "its own label beats the namespace's none"],
  [{ labels: { [mode]: "Ambient" } },                                         {},         false,    "values are compared exactly"],
  [{ labels: { [mode]: "" } },                                                ambient,    true,     "an empty value is not none"],
  [{ hostNetwork: true, labels: ambient },                                    ambient,    false,    "the host's network is nobody's to capture"],
  [{ annotations: { "sidecar.istio.io/status": "{}" } },                      ambient,    false,    "it has a sidecar"],
  [{ annotations: { "sidecar.istio.io/status": "" } },                        ambient,    false,    "presence counts, not the value"],
  [{ namespace: "kube-system", labels: ambient },                             ambient,    false,    "an excluded namespace beats labels"],
  [{ phase: "Succeeded", labels: ambient },                                   ambient,    false,    "it has ended"],
  [{ phase: "Failed", labels: ambient },                                      ambient,    false,    "it has ended"],
  [{ phase: "Pending", labels: ambient },                                     {},         true,     "a starting pod is captured"],
  [{ namespace: "istio-system", labels: { app: "ztunnel", ...ambient } },     ambient,    false,    "ztunnel does not capture itself"],
  [{ namespace: "shop", labels: { app: "ztunnel" } },                         ambient,    true,     "a name alone does not exempt"],
  [{ namespace: "istio-system", labels: { app: "shop" } },                    ambient,    true,     "nor does the namespace alone"],
] as const)("%# pod %j in namespace %j: captured %s: %s", (change, namespaceLabels, captured, _why) => {
  const verdict = decideEnrolment({ ...pod, ...change }, namespaceLabels, rules);
  expect(verdict.captured).toBe(captured);
  expect(verdict.why).not.toBe("");
});

test("the reason names what decided", () => {
  expect(decideEnrolment(pod, {}, rules).why).toBe(`neither it nor namespace shop has label ${mode}`);
  expect(decideEnrolment({ ...pod, labels: none }, ambient, rules).why).toBe(`its label ${mode} is "none"`);
  expect(decideEnrolment(pod, ambient, rules).why).toBe("entry 2 of AMBIENT_ENABLEMENT_SELECTOR selects it");
});

describe("selectors", () => {
  const decide = (yaml: string, labels: Record<string, string>, namespaceLabels = {}) =>
    decideEnrolment({ ...pod, labels }, namespaceLabels, { ...rules, enablement: parseEnablement(yaml) }).captured;

  // prettier-ignore
  test.each([ // selectors                                                                           labels          captured  why
    ["[]",                                                                                          { a: "b" },      false,    "no entry selects nothing"],
    ["[{}]",                                                                                        {},              true,     "an empty selector selects everything"],
    ["[{podSelector: {matchLabels: {a: b, c: d}}}]",                                                { a: "b" },      false,    "labels are ANDed"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: In, values: [b, c]}]}}]",               { a: "c" },      true,     "In"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}]",                  {},              false,    "In needs the label"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}}]",               {},              true,     "NotIn takes an absent label"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: Exists}]}}]",                           { a: "" },       true,     "Exists takes an empty value"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}}]",                     { a: "" },       false,    "DoesNotExist"],
    ["[{podSelector: {matchExpressions: [{key: constructor, operator: Exists}]}}]",                 {},              false,    "only own labels count"],
    ["[{podSelector: {matchLabels: {x: y}}}, {podSelector: {matchLabels: {a: b}}}]",                { a: "b" },      true,     "entries are ORed"],
    ["[{namespaceSelector: {matchLabels: {x: y}}}]",                                                { x: "y" },      false,    "the pod's label is not its namespace's"],
  ])("%s with %j is %s: %s", (yaml, labels, captured, _why) => {
    expect(decide(yaml, labels as Record<string, string>)).toBe(captured);
  });

  // prettier-ignore
  test.each([ // selectors                                                              named         why
    ["{}",                                                                             /array/,       "a list is needed"],
    ["[{podSelectors: {}}]",                                                           /podSelectors/, "a mistyped field would select everything"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]",     /0\.podSelector\.matchExpressions\.0\.operator/, "operators are exact"],
    ["[{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",                  /values/,      "In needs values"],
    ["[{podSelector: {matchLabels: {a: 1}}}]",                                         /matchLabels\.a/, "values are text"],
    ["[",                                                                              /AMBIENT_ENABLEMENT_SELECTOR/, "broken YAML"],
  ])("%s is refused naming %s: %s", (yaml, named, _why) => {
    expect(() => parseEnablement(yaml)).toThrow(named);
  });
});
