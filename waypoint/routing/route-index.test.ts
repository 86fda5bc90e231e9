import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import type { JsonObject } from "@bufbuild/protobuf";
import { anExchange } from "#waypoint/layers/testing.ts";
import { RouteIndex } from "./route-index.ts";
import { pathOnly } from "./route-table.ts";
import { aTable } from "./testing.ts";
import { compileMatch } from "./route-match.ts";
import { fromJson } from "@bufbuild/protobuf";
import { RouteMatchSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";

const words = ["a", "b", "ab", "A"];
const text = fc.array(fc.constantFrom(...words), { maxLength: 3 }).map((parts) => `/${parts.join("/")}`);
const value = fc.constantFrom("1", "2", "3");
const pathForm: fc.Arbitrary<JsonObject> = fc.oneof(
  text.map((path) => ({ path })),
  text.map((prefix) => ({ prefix })),
  text.map((prefix) => ({ prefix, case_sensitive: false })),
  text.map((path) => ({ path, case_sensitive: false })),
  text.filter((one) => one !== "/").map((path_separated_prefix) => ({ path_separated_prefix })),
  text.map((regex) => ({ safe_regex: { regex: `${regex}.*` } })),
  text.map((regex) => ({ safe_regex: { regex: `${regex}?|/b` } })),
);
const headerForm = fc.array(
  fc.record({
    name: fc.constantFrom("h", "i", ":method"),
    string_match: fc.record({ exact: fc.oneof(value, fc.constant("GET")) }),
  }),
  { maxLength: 2 },
);
const matchForm = fc.tuple(pathForm, headerForm).map(([path, headers]) => ({ ...path, headers }));

describe("the index of routes", () => {
  test("finds what walking all routes in order finds", () => {
    const requests = fc.array(
      fc.record({ path: text, headers: fc.array(fc.tuple(fc.constantFrom("h", "i"), value), { maxLength: 3 }) }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(fc.array(matchForm, { minLength: 1, maxLength: 40 }), requests, (matches, asked) => {
        const { table } = aTable(
          matches.map((match, index) => ({ name: String(index), match, direct_response: { status: 200 } })),
        );
        const compiled = matches.map((match) => compileMatch(fromJson(RouteMatchSchema, match), "", () => undefined));
        for (const { path, headers } of asked) {
          const exchange = anExchange({ path, headers: headers.flat() });
          const walked = compiled.findIndex((match) => match.matches(exchange, pathOnly(path)));
          expect(table.match(exchange)?.name).toBe(walked < 0 ? undefined : String(walked));
        }
      }),
      { numRuns: 300 },
    );
  });

  test.each<[string, (index: number) => JsonObject, string, readonly string[]]>([
    ["exact paths", (index) => ({ path: `/item${index}` }), "/item999", []],
    ["prefixes", (index) => ({ path_separated_prefix: `/item${index}` }), "/item999/x", []],
    ["expressions", (index) => ({ safe_regex: { regex: `/item${index}/[a-z]+` } }), "/item999/x", []],
    [
      "values of a header",
      (index) => ({ prefix: "/", headers: [{ name: "user", string_match: { exact: `u${index}` } }] }),
      "/",
      ["user", "u999"],
    ],
  ])("tries a handful of a thousand routes: %s", (_name, form, path, headers) => {
    let tried = 0;
    const matches = Array.from({ length: 1000 }, (_, index) => {
      const match = compileMatch(fromJson(RouteMatchSchema, form(index)), "", () => undefined);
      const counting: typeof match.matches = (exchange, plain) => {
        tried++;
        return match.matches(exchange, plain);
      };
      return { ...match, matches: counting };
    });
    expect(new RouteIndex(matches).find(anExchange({ path, headers }), path)).toBe(999);
    expect(tried).toBeLessThan(5);
  });
});
