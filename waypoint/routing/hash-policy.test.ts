import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import { anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import { combineHash, hash64 } from "#waypoint/upstream/hash.ts";
import { aTable } from "./testing.ts";

function hashOf(hash_policy: JsonObject[], facts: RequestFacts): { hash: bigint | undefined; cookies: string[] } {
  const exchange = anExchange(facts);
  const action = aTable([{ match: { prefix: "/" }, route: { cluster: "c", hash_policy } }]).table.match(
    exchange,
  )?.action;
  const cookies: string[] = [];
  return { hash: action?.kind === "forward" ? action.hashPolicy?.hash(exchange, cookies) : undefined, cookies };
}

describe("hash policies", () => {
  test.each<[string, JsonObject[], RequestFacts, bigint | undefined]>([
    ["header", [{ header: { header_name: "X-User" } }], { headers: ["x-user", "ann"] }, hash64("ann")],
    ["header missing", [{ header: { header_name: "x-user" } }], {}, undefined],
    [
      "header in several lines, in any order",
      [{ header: { header_name: "a" } }],
      { headers: ["a", "2", "a", "1"] },
      hash64("12"),
    ],
    [
      "header rewritten",
      [{ header: { header_name: "a", regex_rewrite: { pattern: { regex: "(.*)-.*" }, substitution: "\\1" } } }],
      { headers: ["a", "x-y"] },
      hash64("x"),
    ],
    ["cookie", [{ cookie: { name: "s" } }], { headers: ["cookie", 'a=b; s="v"'] }, hash64("v")],
    ["cookie missing, none made", [{ cookie: { name: "s" } }], {}, undefined],
    ["source", [{ connection_properties: { source_ip: true } }], {}, hash64("10.0.0.7")],
    ["query", [{ query_parameter: { name: "q" } }], { path: "/?q=1" }, hash64("1")],
    [
      "identity",
      [{ filter_state: { key: "io.istio.peer_principal" } }],
      {},
      hash64("spiffe://cluster.local/ns/shop/sa/frontend"),
    ],
    [
      "combined",
      [{ header: { header_name: "a" } }, { query_parameter: { name: "q" } }],
      { headers: ["a", "1"], path: "/?q=2" },
      combineHash(hash64("1"), hash64("2")),
    ],
    [
      "terminal stops where there is a value",
      [{ header: { header_name: "a" }, terminal: true }, { query_parameter: { name: "q" } }],
      { headers: ["a", "1"], path: "/?q=2" },
      hash64("1"),
    ],
    [
      "terminal goes on where there is none",
      [{ header: { header_name: "a" }, terminal: true }, { query_parameter: { name: "q" } }],
      { path: "/?q=2" },
      hash64("2"),
    ],
  ])("%s", (_name, policy, facts, wanted) => {
    expect(hashOf(policy, facts).hash).toBe(wanted);
  });

  test("a cookie is made where there is none, the same for a connection", () => {
    const policy = [
      { cookie: { name: "s", ttl: "60s", path: "/p", attributes: [{ name: "SameSite", value: "Lax" }] } },
    ];
    const { hash, cookies } = hashOf(policy, {});
    const value = hash64("10.0.0.7:4000010.96.0.10:8080").toString(16).padStart(16, "0");
    expect(cookies).toEqual([`s="${value}"; Max-Age=60; Path=/p; SameSite=Lax; HttpOnly`]);
    expect(hash).toBe(hash64(value));
  });
});
