import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { expressionProblem, type Wanted } from "./check-expression.ts";
import { connectionAttributes, requestAttributes } from "./vocabularies.ts";

describe("what an author is told", () => {
  // prettier-ignore
  test.each<[string, Wanted, string]>([ // expression, wanted, problem
    ["request.path",                               "bool",   "it comes to a string, bool is wanted: the expression at position 1"],
    ["request.path ==",                            "bool",   "expected a value at position 16, found the end"],
    ["request.path == 1",                          "bool",   "== does not go with string and int at position 1"],
    ["true && request.path == 1",                  "bool",   "== does not go with string and int at position 9"],
    ["request.path + 1",                           "string", "+ does not go with string and int at position 1"],
    ["request.method && true",                     "bool",   "&& needs bool, not string, at position 1"],
    ["!request.method",                            "bool",   "! needs bool, not string, at position 2"],
    ["-request.method",                            "int",    "- needs int or double or duration, not string, at position 2"],
    ["request.method ? 1 : 2",                     "int",    "before ? stands bool, not string, at position 1"],
    ["request.headers[1] == 'x'",                  "bool",   "its keys are string, not int, at position 17"],
    ["request.headers",                            "string", "it comes to a map of string, string is wanted: the expression at position 1"],
    ["request",                                    "string", "it comes to a group of attributes, string is wanted: the expression at position 1"],
    ["request.pat == '/'",                         "bool",   'attribute "request.pat" is not known; known are path, url_path,'],
    ["request.auth.claim['x'] == 'y'",             "bool",   'attribute "request.auth.claim" is not known; known are principal, audiences, presenter, claims: at position 14'],
    ["response.code == 200",                       "bool",   'attribute "response" is not known'],
    ["user == 'x'",                                "bool",   'attribute "user" is not known'],
    ["request.path.startsWith(1)",                 "bool",   "startsWith() takes string, not int, at position 25"],
    ["request.path.starts('/')",                   "bool",   'function "starts" is not known at position 14'],
    ["request.path.matches('(')",                  "bool",   "the pattern is not RE2 (missing closing ): `(`) at position 22"],
    ["request.path.matches('(?=a)')",              "bool",   "the pattern is not RE2"],
    ["request.path.matches(request.host)",         "bool",   "matches() needs its pattern written out at position 30"],
    ["request.path.matches('((a{100}){100}){100}')", "bool", "the pattern"],
    ["request.path.exists(x, true)",               "bool",   "exists() is for lists, not string, at position 1"],
    ["[1].exists(1, true)",                        "bool",   "exists() takes a name and an expression"],
    ["[1].exists(x, x)",                           "bool",   "exists() asks a bool, not int, at position 15"],
    ["[1].exists(x, true) && x == 1",              "bool",   'attribute "x" is not known'],
    ["{request.headers: 1}['a']",                  "int",    "a map of string is no key at position 2"],
    ["[1]['a']",                                   "int",    "the place in a list is int, not string, at position 5"],
    ["request.path.x",                             "string", "a string has no members at position 14"],
    ["request.time - request.path",                "string", "- does not go with timestamp and string at position 1"],
    ["request.size > 1",                           "bool",   'attribute "request.size" is not known'],
    ["99999999999999999999",                       "int",    "the number 99999999999999999999 is too large at position 1"],
    ["(".repeat(100),                              "bool",   "nested deeper"],
    ["x".repeat(5_000),                            "bool",   "limit 4096"],
    ["",                                           "bool",   "expected a value at position 1, found the end"],
  ])("%s as %s", (text, wanted, problem) => {
    expect(expressionProblem(text, requestAttributes, wanted)).toContain(problem);
  });

  // prettier-ignore
  test.each<[string, Wanted]>([ // expression, wanted
    ["request.headers['x-tier'] == 'free'",                             "bool"],
    ["request.auth.claims['tier'] == 'gold'",                           "bool"],
    ["request.auth.claims.quota > 5 || request.auth.claims.vip",        "bool"],
    ["request.auth.claims.anything",                                    "string"],
    ["request.path + '/' + request.method",                             "string"],
    ["size(request.path)",                                              "string"],
    ["request.auth.claims.cost",                                        "int"],
    ["int(request.headers['x-cost']) / 2.0",                            "int"],
    ["request.time.getHours() < 6",                                     "bool"],
    ["{'a': 1, 'b': 2}[request.headers['x']]",                          "int"],
    ["request.headers['x'] == null",                                    "bool"],
    ["source.namespace in ['a', 'b']",                                  "bool"],
    ["metadata.filter_metadata['x']['y'].z == 1",                       "bool"],
    ["request.auth.claims.groups.exists(g, g.startsWith('adm'))",       "bool"],
  ])("%s is a fit %s", (text, wanted) => {
    expect(expressionProblem(text, requestAttributes, wanted)).toBeUndefined();
  });

  test("before a request is looked at, only the connection is known", () => {
    expect(expressionProblem("source.namespace == 'a'", connectionAttributes, "bool")).toBeUndefined();
    expect(expressionProblem("request.path == '/'", connectionAttributes, "bool")).toContain('"request" is not known');
  });
});

test("any text at all is told apart without failing, within bounds", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (text) => {
      const problem = expressionProblem(text, requestAttributes, "bool");
      expect(problem === undefined || problem.length > 0).toBe(true);
    }),
  );
});
