import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { compilePathTemplate } from "./path-template.ts";

function compile(template: string) {
  const problems: string[] = [];
  const compiled = compilePathTemplate(template, "at", (path, message) => problems.push(`${path}: ${message}`));
  return { compiled, problems };
}

// What an Envoy 1.40 answered.
// prettier-ignore
test.each<[string, readonly string[], readonly string[]]>([
  // template              matches                                  does not
  ["/",                    ["/"],                                   ["/a", "//", ""]],
  ["/a/",                  ["/a/"],                                 ["/a", "/a/b"]],
  ["/a=b",                 ["/a=b"],                                ["/a"]],
  ["/a.b",                 ["/a.b"],                                ["/axb"]],
  ["/%41",                 ["/%41"],                                ["/A"]],
  ["/*/*/*/*/*/*",         ["/1/2/3/4/5/6"],                        ["/1/2/3/4/5"]],
  ["/a/{x}",               ["/a/b", "/a/x.m", "/a/a=b", "/a/b*"],   ["/a/", "/a/b/", "/a/{q}", "/a/^", "/a/b/c"]],
  ["/a/**",                ["/a/", "/a/b", "/a//b", "/a/b/", "/a/**"], ["/a", "/axx", "/a/[x]", "/a/\""]],
  ["/a/{x=**}",            ["/a/", "/a/b", "/a//b"],                ["/a"]],
  ["/**/a",                ["/x/a", "/x/y/a", "//a"],               ["/a", "/a/"]],
  ["/a/**/",               ["/a/b/", "/a/x/y/b/"],                  ["/a/", "/a/b"]],
  ["/a/{x=**}/b",          ["/a//b", "/a/x/y/b"],                   ["/a/b"]],
  ["/a/{x=**/b}",          ["/a//b", "/a/b/c/b"],                   ["/a/b"]],
  ["/a/{x=b/*}",           ["/a/b/c"],                              ["/a/b/", "/a/c/b"]],
  ["/{x=a/b}/c",           ["/a/b/c"],                              ["/a/c"]],
  ["/{x=*/**}/y",          ["/a/b/y", "/x/y/z/y"],                  ["/x/y", "/y"]],
  ["/a/{x}.m",             ["/a/x.m"],                              ["/a/.m", "/x.m"]],
  ["/*.m",                 ["/x.m", "/*.m"],                        ["/.m", "/a/x.m"]],
  ["/a/{x=**}.m3u8",       ["/a/.m3u8", "/a/b/c.m3u8"],             ["/.m3u8"]],
  ["/a/**x",               ["/a/x", "/a/abx"],                      ["/x"]],
  ["/pre{a}",              ["/prex"],                               ["/pre", "/pre{a}", "/xpre"]],
  ["/{x}/",                ["/a/"],                                 ["/a", "/a/b"]],
])("%s", (template, matching, others) => {
  const { compiled, problems } = compile(template);
  expect(problems).toEqual([]);
  expect([...matching, ...others].filter((path) => compiled?.test(path))).toEqual(matching);
  expect([...matching, ...others].filter((path) => compiled?.match(path) !== undefined)).toEqual(matching);
});

// prettier-ignore
describe("is refused", () => {
  test.each([
    ["a",                         "does not begin with a slash"],
    ["//",                        "empty segment"],
    ["/a//b",                     "empty segment"],
    ["/**/*",                     "must be its last wildcard"],
    ["/{x=**}/{y}",               "must be its last wildcard"],
    ["/{x}/{x}",                  'names "x" twice'],
    ["/{a}/{b}/{c}/{d}/{e}/{f}",  "6 variables, limit 5"],
    ["/{a}{b}",                   "is not a literal"],
    ["/a b",                      "is not a literal"],
    ["/é",                        "is not a literal"],
    ["/a}b",                      "is not a literal"],
    ["/{x",                       "is not a literal"],
    ["/{x=}",                     "no pattern"],
    ["/{x=/a}",                   "no pattern"],
    ["/{x=*b}",                   "no pattern"],
    ["/{1x}",                     "no name"],
    ["/{}",                       "no name"],
    ["/{abcdefghijklmnopq}",      "no name"],
    // Envoy takes these, and the star for a repetition.
    ["/a/b*",                     "behind a literal"],
    ["/a**",                      "behind a literal"],
  ])("%s: %s", (template, why) => {
    expect(compile(template)).toEqual({ compiled: undefined, problems: [expect.stringContaining(why)] });
  });
});

test("variables have values", () => {
  const { compiled } = compile("/api/{version}/{id=*}/{rest=**}");
  expect(compiled?.variables).toEqual(["version", "id", "rest"]);
  expect(compiled?.match("/api/v1/7/a/b")).toEqual(new Map(Object.entries({ version: "v1", id: "7", rest: "a/b" })));
});

test("with names it matches what it matches without", () => {
  const part = fc.constantFrom("a", "b.c", "*", "**");
  const path = fc
    .array(fc.constantFrom("a", "b.c", "/", "//", "x"), { maxLength: 8 })
    .map((parts) => `/${parts.join("")}`);
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), path, (parts, text) => {
      const plain = compile(`/${parts.join("/")}`).compiled;
      const named = compile(`/${parts.map((each, index) => `{v${index}=${each}}`).join("/")}`).compiled;
      expect(named?.match(text) !== undefined).toBe(plain?.test(text) ?? false);
    }),
  );
});
