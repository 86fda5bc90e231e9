import { describe, expect, test } from "@jest/globals";
import { compileCel } from "./cel-evaluator.ts";
import { CelError } from "./cel-parser.ts";
import type { Schema } from "./schema.ts";
import { unreadableRules, validateRules } from "./validation-rules.ts";

const self = {
  name: "web",
  size: 3,
  tags: ["a", "b"],
  ports: [{ number: 80, name: "http" }, { number: 443 }],
  map: { x: 1 },
  namespace: "shop",
};
const evaluate = (text: string) => compileCel(text)(new Map([["self", self]]), { steps: 10_000 });

// prettier-ignore
test.each<[string, unknown]>([
  ["self.size > 2 && self.size <= 3",                          true],
  ["!(self.name == 'db')",                                     true],
  ["has(self.size) ? 'yes' : 'no'",                            "yes"],
  ["has(self.nothing) || self.name.startsWith('w')",           true],
  ["(has(self.a) ? 1 : 0) + (has(self.name) ? 1 : 0) <= 1",    true],
  ["self.tags.all(t, size(t) == 1)",                           true],
  ["self.ports.exists(p, has(p.name) && p.name == 'http')",    true],
  ["self.ports.exists_one(p, p.number == 443)",                true],
  ["self.ports.filter(p, p.number > 100).size()",              1],
  ["self.ports.map(p, p.number)",                              [80, 443]],
  ["self.tags + ['c'] == ['a','b','c']",                       true],
  ["'a' in self.tags && !('z' in self.map) && 'x' in self.map", true],
  ["self.name.matches('^[a-z]+$')",                            true],
  ["self.map.all(k, k.size() < 2)",                            true],
  ["self.ports[0].number == 80 && self.map['x'] == 1",         true],
  ["self.size / 2 == 1 && self.size % 2 == 1 && -self.size < 0", true],
  ["self.missing.deep == 1 || true",                           true],
  ["false && self.missing",                                    false],
  ["self.?missing.orValue(5) == 5",                            true],
  ["self.?size.orValue(5) == 3",                               true],
  ["self.__namespace__ == \"shop\"",                           true],
  ["duration('1m30s') > duration('80s')",                      true],
  ["1 + 2 * 3 == 7 && (1 + 2) * 3 == 9",                       true],
  ["r'\\d' == '\\\\d'",                                        true],
])("%s is %j", (text, expected) => {
  expect(evaluate(text)).toEqual(expected);
});

// prettier-ignore
test.each(["self.", "self.size >", "(1", "frobnicate(self)", "self.name ! 1", "'open", "[1,,2]", `${"(".repeat(100)}1${")".repeat(100)}`])("%s is refused when it is compiled", (text) => {
  expect(() => compileCel(text)).toThrow(CelError);
});

test.each(["self.nothing == 1", "self.name > 1", "1 / 0 == 1", "other == 1", "self.tags[9] == 'a'"])(
  "%s fails when it is evaluated",
  (text) => {
    expect(() => evaluate(text)).toThrow(CelError);
  },
);

test("a rule cannot take more than its steps", () => {
  const many = compileCel("self.all(a, self.all(b, self.all(c, true)))");
  expect(() => many(new Map([["self", Array.from({ length: 200 }, (_, at) => at)]]), { steps: 10_000 })).toThrow(
    "too many steps",
  );
});

describe("rules of a schema", () => {
  const schema: Schema = {
    type: "object",
    properties: {
      spec: {
        type: "object",
        "x-kubernetes-validations": [{ rule: "has(self.a) != has(self.b)", message: "one of a and b" }],
        properties: {
          a: {
            type: "integer",
            "x-kubernetes-validations": [
              { rule: "self >= oldSelf", messageExpression: "'not below ' + string(oldSelf)" },
            ],
          },
          b: { type: "string" },
        },
      },
    },
  };
  // prettier-ignore
  test.each<[string, object, object | undefined, string[]]>([
    ["hold",                       { spec: { a: 1 } },         undefined,          []],
    ["are told by field",          { spec: {} },               undefined,          ['spec: Invalid value: "object": one of a and b']],
    ["compare with what was",      { spec: { a: 1 } },         { spec: { a: 2 } }, ["spec.a: Invalid value: 1: not below 2"]],
    ["of updates wait for one",    { spec: { a: 1 } },         { spec: {} },       []],
  ])("%s", (_name, value, previous, expected) => {
    expect(validateRules(value, previous, schema).map(({ field, message }) => `${field}: ${message}`)).toEqual(expected);
  });

  test("that cannot be read are named", () => {
    expect(
      unreadableRules({
        type: "object",
        properties: { a: { type: "string", "x-kubernetes-validations": [{ rule: "ip(self).family() == 4" }] } },
      }),
    ).toEqual(["a: ip(self).family() == 4"]);
  });
});
