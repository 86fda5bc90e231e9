import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { RateLimitSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { LocalRateLimitSchema } from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { Exchange, type LocalReply } from "#waypoint/http/exchange.ts";
import { aContext, anExchange, noBody, packed, type RequestFacts } from "#waypoint/layers/testing.ts";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import { localRateLimitLayer } from "./local-rate-limit.ts";

const all = { default_value: { numerator: 100 } };
const bucket = (max: number, interval = "1s") => ({ max_tokens: max, tokens_per_fill: max, fill_interval: interval });

function layerOf(config: JsonObject) {
  const context = aContext();
  const any = packed(LocalRateLimitSchema, {
    stat_prefix: "test",
    filter_enabled: all,
    filter_enforced: all,
    ...config,
  });
  return { layer: localRateLimitLayer.compile("local", any, context), problems: context.problems };
}

/** Time stands still: nothing is allowed again between two requests, however long the test takes for them. */
const startMs = performance.now();
beforeEach(() => void jest.spyOn(performance, "now").mockReturnValue(startMs));
afterEach(() => void jest.restoreAllMocks());

interface Asked extends RequestFacts {
  readonly atMs?: number;
  readonly rateLimits?: readonly JsonObject[];
}

function ask(layer: ReturnType<typeof layerOf>["layer"], { atMs = 0, rateLimits = [], ...facts }: Asked = {}) {
  const plain = anExchange(facts);
  const exchange = new Exchange(plain.connection, plain.stream, startMs + atMs, 0);
  exchange.route = {
    name: "r",
    layerConfigs: new Map(),
    metadata: new Map(),
    rateLimits: {
      route: rateLimits.map((each) => fromJson(RateLimitSchema, each)),
      virtualHost: [],
      includesVirtualHost: false,
    },
  } as unknown as CompiledRoute;
  return { exchange, reply: layer?.onRequest?.(exchange, noBody) as LocalReply | undefined };
}

describe("the common bucket", () => {
  test("refuses what comes after the last token, and says so", () => {
    const { layer, problems } = layerOf({
      token_bucket: bucket(2),
      response_headers_to_add: [{ header: { key: "x-why", value: "slow down" } }],
    });
    expect(problems).toEqual([]);
    expect([ask(layer).reply, ask(layer).reply]).toEqual([undefined, undefined]);
    const { reply } = ask(layer);
    expect(reply).toMatchObject({
      status: 429,
      body: "local_rate_limited",
      details: "local_rate_limited",
      flag: "RL",
      grpcStatus: 14,
    });
    expect(reply?.headers?.pairs).toEqual(["x-envoy-ratelimited", "true", "x-why", "slow down"]);
  });

  // prettier-ignore
  test.each([ // configured status, what is answered
    [undefined, 429], [{ code: 503 }, 503], [{ code: 200 }, 429],
  ])("status %j", (status, expected) => {
    const { layer } = layerOf({ token_bucket: bucket(1), ...(status === undefined ? {} : { status }) });
    ask(layer);
    expect(ask(layer).reply?.status).toBe(expected);
  });

  // prettier-ignore
  test.each([ // why, the two shares, is the second request refused?
    ["both",                {},                                                   true],
    ["not enabled",         { filter_enabled: { default_value: {} } },            false],
    ["enabled by default?", { filter_enabled: {} },                               false],
    ["counted only",        { filter_enforced: { default_value: {} } },           false],
  ])("%s", (_why, shares: JsonObject, expected) => {
    const { layer } = layerOf({ token_bucket: bucket(1), ...shares });
    ask(layer);
    expect(ask(layer).reply !== undefined).toBe(expected);
  });

  test("what is counted only can be told to the upstream", () => {
    const { layer } = layerOf({
      token_bucket: bucket(1),
      filter_enforced: { default_value: {} },
      request_headers_to_add_when_not_enforced: [{ header: { key: "x-over", value: "yes" } }],
    });
    ask(layer);
    expect(ask(layer).exchange.request.headers.get("x-over")).toBe("yes");
  });

  test("a call of gRPC may be told that it is out of resources", () => {
    const { layer } = layerOf({ token_bucket: bucket(1), rate_limited_as_resource_exhausted: true });
    ask(layer);
    expect(ask(layer).reply?.grpcStatus).toBe(8);
  });

  test("each connection can have a bucket of its own", () => {
    const { layer } = layerOf({ token_bucket: bucket(1), local_rate_limit_per_downstream_connection: true });
    expect(ask(layer).reply).toBeUndefined();
    expect(ask(layer).reply).toBeUndefined();
  });

  test("answers tell the limit when asked to", () => {
    const { layer } = layerOf({ token_bucket: bucket(3), enable_x_ratelimit_headers: "DRAFT_VERSION_03" });
    const { exchange } = ask(layer);
    const head = { status: 200, headers: anExchange().request.headers };
    layer?.onResponse?.(exchange, head);
    expect(head.headers.pairs).toEqual([
      "x-ratelimit-limit",
      "3",
      "x-ratelimit-remaining",
      "2",
      "x-ratelimit-reset",
      "1",
    ]);
  });
});

describe("descriptors", () => {
  const byUser = [{ actions: [{ request_headers: { header_name: "x-user", descriptor_key: "user" } }] }];
  const user = (name: string): Asked => ({ headers: ["x-user", name], rateLimits: byUser });

  test("an entry without a value stands for every value, each counted apart", () => {
    const { layer } = layerOf({
      token_bucket: bucket(100),
      descriptors: [{ entries: [{ key: "user", value: "" }], token_bucket: bucket(1) }],
    });
    expect(ask(layer, user("ann")).reply).toBeUndefined();
    expect(ask(layer, user("bob")).reply).toBeUndefined();
    expect(ask(layer, user("ann")).reply?.status).toBe(429);
    expect(ask(layer, { rateLimits: byUser }).reply).toBeUndefined();
  });

  test("of the values that come, the twenty used last are remembered", () => {
    const { layer } = layerOf({
      token_bucket: bucket(1000),
      descriptors: [{ entries: [{ key: "user", value: "" }], token_bucket: bucket(1) }],
    });
    const users = Array.from({ length: 21 }, (_, index) => user(`u${index}`));
    const statuses = (asked: readonly Asked[]) => asked.map((each) => ask(layer, each).reply?.status);
    expect(statuses(users)).toEqual(users.map(() => undefined));
    // u0 made room for u20, and begins anew in the place of u1.
    expect(statuses([...users.slice(2), ...users.slice(0, 1)])).toEqual([...users.slice(2).map(() => 429), undefined]);
  });

  test("the strictest is charged first, and nothing after the one that is empty", () => {
    const entry = (key: string) => [{ key, value: "" }];
    const both: Asked = {
      rateLimits: ["loose", "strict"].map((key) => ({
        actions: [{ generic_key: { descriptor_key: key, descriptor_value: "x" } }],
      })),
    };
    const { layer } = layerOf({
      token_bucket: bucket(100),
      descriptors: [
        { entries: entry("loose"), token_bucket: bucket(2) },
        { entries: entry("strict"), token_bucket: bucket(1) },
      ],
    });
    const looseOnly: Asked = { rateLimits: (both.rateLimits ?? []).slice(0, 1) };
    // The second is refused by the strict bucket and leaves the loose one alone, whatever their order in the route.
    expect([both, both, looseOnly, looseOnly].map((each) => ask(layer, each).reply?.status)).toEqual([
      undefined,
      429,
      undefined,
      429,
    ]);
  });

  test("a value of its own goes with its own bucket", () => {
    const { layer } = layerOf({
      token_bucket: bucket(100),
      descriptors: [{ entries: [{ key: "user", value: "ann" }], token_bucket: bucket(1) }],
    });
    ask(layer, user("ann"));
    expect([ask(layer, user("ann")).reply?.status, ask(layer, user("bob")).reply]).toEqual([429, undefined]);
  });

  // prettier-ignore
  test.each([ // is the common bucket charged too?, what the second gets
    [{}, 429], [{ always_consume_default_token_bucket: true }, 429], [{ always_consume_default_token_bucket: false }, undefined],
  ])("the common bucket (%j)", (always: JsonObject, expected) => {
    const { layer } = layerOf({
      token_bucket: bucket(1),
      ...always,
      descriptors: [{ entries: [{ key: "user", value: "" }], token_bucket: bucket(5) }],
    });
    ask(layer, user("ann"));
    expect(ask(layer, user("ann")).reply?.status).toBe(expected);
  });
});

// prettier-ignore
test.each([ // configuration, what is said
  [{ token_bucket: { max_tokens: 0, fill_interval: "1s" } },                    "token_bucket.max_tokens: must be at least 1"],
  [{ token_bucket: { max_tokens: 1, fill_interval: "0.01s" } },                 "token_bucket.fill_interval: must be at least 50 ms"],
  [{ stat_prefix: "", token_bucket: bucket(1) },                                "stat_prefix: must not be empty"],
  [{ token_bucket: bucket(1), stage: 11 },                                      "stage: 11 is not in 0 to 10"],
  [{ token_bucket: bucket(1), descriptors: [{ entries: [{ key: "a", value: "b" }] }] }, "descriptors[0].token_bucket: is missing"],
  [{ token_bucket: bucket(1, "2s"), descriptors: [{ entries: [{ key: "a", value: "b" }], token_bucket: bucket(1, "3s") }] }, "descriptors[0].token_bucket.fill_interval: must be a multiple"],
  [{ token_bucket: bucket(1), descriptors: [1, 1].map(() => ({ entries: [{ key: "a", value: "b" }], token_bucket: bucket(1) })) }, "descriptors[1]: is there twice"],
])("refused: %j", (config, message) => {
  expect(layerOf(config).problems.join()).toContain(message);
});
