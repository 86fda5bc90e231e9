import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { tryCidr } from "#shared/net/cidr.ts";
import { Field } from "./field.ts";
import type { Problem } from "./problem.ts";
import { checkDuration, checkExportTo, hostProblem, ipBlockPattern, portTextPattern } from "./scalars.ts";

describe("patterns that API servers get", () => {
  test("whatever is an address or range fits", () => {
    const address = fc.oneof(fc.ipV4(), fc.ipV6());
    const range = fc.oneof(
      address,
      fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map((parts) => parts.join("/")),
      fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })).map((parts) => parts.join("/")),
    );
    fc.assert(fc.property(range, (text) => tryCidr(text) === undefined || new RegExp(ipBlockPattern).test(text)));
  });

  test.each(["10.0.0.0/33", "256.1.1.1", "10.0.0", "foo", "", "::1/129", "10.0.0.1 "])("%j fits no address", (text) => {
    expect(text).not.toMatch(new RegExp(ipBlockPattern));
  });

  test("exactly 0 to 65535 are ports", () => {
    const form = new RegExp(portTextPattern);
    for (let port = 0; port <= 65_535; port += 7) expect(form.test(String(port))).toBe(true);
    for (const text of ["65535", "65529", "64999"]) expect(text).toMatch(form);
    for (const text of ["65536", "65540", "66000", "70000", "100000", "-1", "", "80-90", "1e3"])
      expect(text).not.toMatch(form);
  });
});

// prettier-ignore
test.each([ // host, what is wrong, if anything
  ["api.example.com",   undefined],
  ["localhost",         undefined],
  ["*.example.com",     undefined],
  ["*",                 undefined],
  ["*-a.example.com",   undefined],
  ["example.com.",      undefined],
  ["a.*.com",           'has "*" in the label "*"'],
  ["**.com",            'has the label "**", which is no wildcard'],
  ["a..b",              'has the label ""'],
  ["-a.b",              'has the label "-a"'],
  ["a.b/",              "ends with a slash"],
  ["10.0.0.1",          'ends in the number "1"'],
  ["a b",               'has the label "a b"'],
  [`${"a".repeat(64)}.b`, `has the label "${"a".repeat(64)}"`],
  ["a.".repeat(200),    "has 400 characters, at most 255 are allowed"],
])("host %j: %s", (host, expected) => {
  expect(hostProblem(host)).toBe(expected);
});

/** What a check says of one value. */
function said(value: unknown, check: (field: Field) => void): readonly string[] {
  const problems: Problem[] = [];
  check(new Field(value, [], problems));
  return problems.map(({ message }) => message);
}

// prettier-ignore
test.each([ // duration, zero allowed, accepted
  ["1ms",   false, true],
  ["1.5s",  false, true],
  ["0s",    false, false],
  ["0s",    true,  true],
  ["100us", false, false],
  ["1.5ms", false, false],
  ["junk",  false, true],  // its form is the schema's matter
])("duration %j (zero allowed: %j) is accepted: %j", (text, zeroAllowed, accepted) => {
  expect(said(text, (field) => checkDuration(field, { zeroAllowed })).length === 0).toBe(accepted);
});

// prettier-ignore
test.each([ // exportTo, nobody allowed, what is said
  [["."],          false, []],
  [["*"],          false, []],
  [["~"],          true,  []],
  [["~"],          false, ['"~" is not a namespace']],
  [["*", "a"],     false, ['"*" stands beside other namespaces']],
  [[".", "shop"],  false, ['"shop" is named twice']],
  [["A"],          false, ['"A" is not a namespace']],
])("exportTo %j", (value, nobodyAllowed, expected) => {
  expect(said(value, (field) => checkExportTo(field, "shop", { nobodyAllowed }))).toEqual(expected);
});
