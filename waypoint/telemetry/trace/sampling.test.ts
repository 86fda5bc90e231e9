import { expect, test } from "@jest/globals";
import { anExchange } from "#waypoint/layers/testing.ts";
import { decide } from "./sampling.ts";

const id = (note: string, first = "80000000") => `${first}-0d6c-${note}b3f-9c1d-2e3f4a5b6c7d`;
const none = { client: 0, random: 0, overall: 1 };
const half = { ...none, random: 0.5 };
const usual = { decides: true, isNoted: true };

test.each<[string, readonly string[], typeof none, typeof usual, boolean, string | undefined]>([
  ["no chance", ["x-request-id", id("4")], none, usual, false, id("4")],
  ["an id below the share", ["x-request-id", id("4", "10000000")], half, usual, true, id("9", "10000000")],
  ["an id above the share", ["x-request-id", id("4", "f0000000")], half, usual, false, id("4", "f0000000")],
  ["sampled before", ["x-request-id", id("9")], none, usual, true, id("9")],
  ["forced before", ["x-request-id", id("a")], none, usual, true, id("a")],
  ["sampled before, but above the cap", ["x-request-id", id("9")], { ...none, overall: 0.1 }, usual, false, id("9")],
  [
    "the client asks",
    ["x-request-id", id("4"), "x-client-trace-id", "1"],
    { ...none, client: 1 },
    usual,
    true,
    id("b"),
  ],
  ["the client asks in vain", ["x-request-id", id("4"), "x-client-trace-id", "1"], none, usual, false, id("4")],
  [
    "nothing is noted",
    ["x-request-id", id("4", "10000000")],
    half,
    { ...usual, isNoted: false },
    true,
    id("4", "10000000"),
  ],
  [
    "ids do not count",
    ["x-request-id", id("9", "f0000000")],
    half,
    { ...usual, decides: false },
    true,
    id("9", "f0000000"),
  ],
  ["no UUID", ["x-request-id", "mine"], half, usual, true, "mine"],
])("%s", (_name, headers, sampling, rules, expected, told) => {
  const exchange = anExchange({ headers });
  expect(decide(exchange, sampling, rules, () => 0.25)).toBe(expected);
  expect(exchange.request.headers.get("x-request-id")).toBe(told);
});
