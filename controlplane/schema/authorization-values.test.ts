import { expect, test } from "@jest/globals";
import { pathTemplateProblem } from "./authorization-values.ts";

test.each([
  ["/{*}", undefined],
  ["/a/{*}/b/{**}", undefined],
  ["/{**}/a/b", undefined],
  ["/a/{**}/", undefined],
  ["/{**}/{*}", 'has "{*}" behind "{**}"'],
  ["/{**}/a/{**}", 'has "{**}" behind "{**}"'],
  ["/a//{*}", "has an empty segment"],
  ["/a{*}", 'has the segment "a{*}"'],
  ["a/{*}", "does not begin with a slash"],
])("path template %s: %s", (text, problem) => {
  expect(pathTemplateProblem(text)).toBe(problem);
});
