import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { RateLimitSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import { BoundedTable } from "./bounded-table.ts";
import { compileDescriptor } from "./descriptors.ts";

const compiled = (actions: readonly JsonObject[]) => {
  const problems: string[] = [];
  const maker = compileDescriptor(fromJson(RateLimitSchema, { actions: [...actions] }), "limit", (path, message) => {
    problems.push(`${path}: ${message}`);
  });
  return { maker, problems };
};

/** `key=value` of each entry; undefined where the whole descriptor is dropped. */
function made(actions: readonly JsonObject[], facts: RequestFacts = {}): readonly string[] | undefined {
  const exchange = anExchange(facts);
  exchange.route = {
    metadata: new Map([["mesh", { tier: "gold" }]]),
    action: { kind: "forward", pickCluster: () => "outbound|80||x" },
  } as unknown as CompiledRoute;
  exchange.metadata.set("envoy.filters.http.jwt_authn", { payload: { sub: "ann" } });
  return compiled(actions)
    .maker.make(exchange)
    ?.map(({ key, value }) => `${key}=${value}`);
}

const header = (name: string, extra: JsonObject = {}): JsonObject => ({
  request_headers: { header_name: name, descriptor_key: "h", ...extra },
});
const metadata = (path: readonly string[], extra: JsonObject = {}): JsonObject => ({
  metadata: {
    descriptor_key: "m",
    metadata_key: { key: "envoy.filters.http.jwt_authn", path: path.map((key) => ({ key })) },
    ...extra,
  },
});
const generic: JsonObject = { generic_key: { descriptor_value: "g" } };
const isGet: JsonObject = { name: ":method", string_match: { exact: "GET" } };

// prettier-ignore
test.each<[JsonObject, RequestFacts, readonly string[] | undefined]>([ // action, request, entry (undefined: dropped)
  [generic,                                                             {},                              ["generic_key=g"]],
  [{ generic_key: { descriptor_key: "k", descriptor_value: "g" } },     {},                              ["k=g"]],
  [{ destination_cluster: {} },                                         {},                              ["destination_cluster=outbound|80||x"]],
  [{ remote_address: {} },                                              {},                              ["remote_address=10.0.0.7"]],
  [{ masked_remote_address: { v4_prefix_mask_len: 16 } },               {},                              ["masked_remote_address=10.0.0.0/16"]],
  [header("x-user"),                                                    { headers: ["x-user", "ann"] },  ["h=ann"]],
  [header("X-User"),                                                    { headers: ["x-user", "ann"] },  ["h=ann"]],
  [header("x-user"),                                                    {},                              undefined],
  [header(":path"),                                                     { path: "/a?b" },                ["h=/a?b"]],
  [{ header_value_match: { descriptor_value: "get", headers: [isGet] } }, {},                            ["header_match=get"]],
  [{ header_value_match: { descriptor_value: "get", headers: [isGet] } }, { method: "PUT" },             undefined],
  [{ header_value_match: { descriptor_value: "other", expect_match: false, headers: [isGet] } }, { method: "PUT" }, ["header_match=other"]],
  [{ query_parameter_value_match: { descriptor_value: "q", query_parameters: [{ name: "a", string_match: { exact: "1" } }] } }, { path: "/?a=1" }, ["query_match=q"]],
  [{ query_parameter_value_match: { descriptor_value: "q", query_parameters: [{ name: "a", string_match: { exact: "1" } }] } }, { path: "/?a=2" }, undefined],
  [metadata(["payload", "sub"]),                                        {},                              ["m=ann"]],
  [metadata(["payload", "none"]),                                       {},                              undefined],
  [metadata(["payload", "none"], { default_value: "d" }),               {},                              ["m=d"]],
  [{ metadata: { descriptor_key: "m", source: "ROUTE_ENTRY", metadata_key: { key: "mesh", path: [{ key: "tier" }] } } }, {}, ["m=gold"]],
])("%j", (action, facts, expected) => {
  expect(made([action], facts)).toEqual(expected);
});

describe("several actions", () => {
  test("make one descriptor, in their order", () => {
    expect(made([generic, header("a")], { headers: ["a", "1"] })).toEqual(["generic_key=g", "h=1"]);
  });

  test("one that is missing drops it, or is left out where that is asked for", () => {
    expect(made([generic, header("a")])).toBeUndefined();
    expect(made([generic, header("a", { skip_if_absent: true })])).toEqual(["generic_key=g"]);
    expect(made([header("a", { skip_if_absent: true })])).toBeUndefined();
  });
});

// prettier-ignore
test.each([ // action, what is said
  [{ source_cluster: {} },                                  "source_cluster: is not supported"],
  [{ extension: { name: "cel" } },                          '"cel" is not supported'],
  [{ request_headers: { header_name: "a" } },               "needs header_name and descriptor_key"],
  [{ masked_remote_address: { v4_prefix_mask_len: 33 } },   "masks have at most 32 and 128 bits"],
  [{},                                                      "names no action"],
])("refused: %j", (action, message) => {
  expect(compiled([action]).problems.join()).toContain(message);
});

describe("a bounded table", () => {
  test("the key not asked for longest makes room", () => {
    let evictions = 0;
    const table = new BoundedTable<string>(3, () => evictions++);
    const ask = (key: string): string => table.getOrMake(key, () => `new ${key}`);
    for (const key of ["a", "b", "c"]) ask(key);
    table.getOrMake("a", () => "never");
    ask("d");
    expect(table.size).toBe(3);
    expect(evictions).toBe(1);
    expect(table.getOrMake("a", () => "started anew")).toBe("new a");
    expect(table.getOrMake("b", () => "started anew")).toBe("started anew");
  });

  test("is the one used least lately, however much room there was when it was used", () => {
    const makings: string[] = [];
    const table = new BoundedTable<string>(4);
    const ask = (key: string): void => void table.getOrMake(key, () => (makings.push(key), key));
    for (const key of ["a", "b", "a", "c", "d", "e"]) ask(key);
    // b made room for e, not a.
    expect(makings).toEqual(["a", "b", "c", "d", "e"]);
    ask("a");
    ask("b");
    expect(makings).toEqual(["a", "b", "c", "d", "e", "b"]);
  });
});
