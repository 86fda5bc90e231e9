import { describe, expect, test } from "@jest/globals";
import { ApiError } from "./api-error.ts";
import {
  checkFieldSelector,
  fromSelectorObject,
  matchesFields,
  matchesLabels,
  parseFieldSelector,
  parseLabelSelector,
} from "./selectors.ts";

const labels = { app: "web", tier: "front", version: "3", "istio.io/rev": "a" };

describe("label selectors", () => {
  // prettier-ignore
  test.each([ // selector                        matches  why
    ["",                                          true,    "nothing is asked"],
    ["app=web",                                   true,    "equality"],
    ["app==web,tier=front",                       true,    "all must hold"],
    ["app=web,tier=back",                         false,   "one does not"],
    ["app!=db",                                   true,    "inequality"],
    ["missing!=x",                                true,    "an absent label differs from every value"],
    ["app in (db, web)",                          true,    "set with spaces"],
    ["app notin (db,web)",                        false,   "excluded"],
    ["missing notin (a)",                         true,    "an absent label is in no set"],
    ["app",                                       true,    "presence"],
    ["!app",                                      false,   "absence"],
    ["!missing,istio.io/rev=a",                   true,    "a key with a prefix"],
    ["version>2",                                 true,    "greater"],
    ["version<2",                                 false,   "less"],
    ["app in (web),tier in (front,back)",         true,    "commas inside parentheses"],
    ["app=",                                      false,   "the empty value is a value"],
  ])("%j matches: %j (%s)", (text, expected) => {
    expect(matchesLabels(parseLabelSelector(text), labels)).toBe(expected);
  });

  test.each(["a b", "=x", "app in web", "app=we b", "-x=y", "version>a", `app=${"x".repeat(64)}`])(
    "%j is refused",
    (text) => {
      expect(() => parseLabelSelector(text)).toThrow(ApiError);
    },
  );

  test("the object form means the same", () => {
    const selector = fromSelectorObject({
      matchLabels: { app: "web" },
      matchExpressions: [
        { key: "tier", operator: "NotIn", values: ["back"] },
        { key: "x", operator: "DoesNotExist" },
      ],
    });
    expect(matchesLabels(selector, labels)).toBe(true);
    expect(matchesLabels(selector, { ...labels, x: "" })).toBe(false);
  });
});

describe("field selectors", () => {
  const pod = { metadata: { name: "a", namespace: "n" }, spec: { nodeName: "node-1" }, status: { phase: "Running" } };
  // prettier-ignore
  test.each([
    ["metadata.name=a",                      true,  "name"],
    ["status.phase!=Running",                false, "inequality"],
    ["spec.nodeName=node-1,status.phase==Running", true, "both"],
    ["status.podIP=",                        true,  "absent is the empty text"],
    ["spec.hostNetwork=false",               true,  "an absent flag is false"],
  ])("%j matches: %j (%s)", (text, expected) => {
    expect(matchesFields(parseFieldSelector(text), pod)).toBe(expected);
  });

  test("an unknown path is refused rather than matching nothing", () => {
    expect(() => checkFieldSelector("pods", parseFieldSelector("spec.image=x"))).toThrow(
      "field label not supported: spec.image",
    );
    expect(() => parseFieldSelector("metadata.name")).toThrow(ApiError);
  });
});
