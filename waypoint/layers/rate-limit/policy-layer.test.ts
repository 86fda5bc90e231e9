import { create, toJson, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { RateLimitFilterSchema } from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
  RateLimitResponseSchema,
  type RateLimitRequest,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { hitsOf } from "#shared/rate-limits/descriptor-hits.ts";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import { Exchange, type LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";
import { aContext, anEnd, anExchange, noBody, packed, type RequestFacts } from "#waypoint/layers/testing.ts";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";
import { rateLimitSeries } from "./rate-limit-counts.ts";
import { rateLimitPolicyLayer } from "./policy-layer.ts";
import { rateLimitService } from "./testing.ts";

let names = 0;
const limit = (fields: JsonObject = {}): JsonObject => ({
  name: `l${names++}`,
  rates: [{ requests: 2, perMs: "60000" }],
  cost: { value: 1 },
  ...fields,
});
const response: JsonObject = {
  status: 429,
  body: "slow down",
  contentType: "text/plain",
  headers: { "x-limited": "yes" },
  retryAfter: true,
  grpcStatus: 8,
};

function layerOf(policies: readonly JsonObject[], clusters?: Clusters) {
  const context = aContext(clusters);
  const value = { policies: policies.map((each) => ({ name: "shop/p", response, ...each })) };
  // Through the message, so that a misspelt field fails the test.
  const json = toJson(RateLimitFilterSchema, create(RateLimitFilterSchema)) as JsonObject;
  const any = packed(TypedStructSchema, {
    typeUrl: "type.googleapis.com/ambit.policy.v1alpha1.RateLimitFilter",
    value: { ...json, ...value },
  });
  return { layer: rateLimitPolicyLayer.compile("ambit.rate_limit", any, context), problems: context.problems };
}

type Layer = ReturnType<typeof layerOf>["layer"];

interface Asked extends RequestFacts {
  readonly route?: { readonly config: string; readonly name: string };
}

/** Time stands still: nothing is allowed again between two requests, however long the test takes for them. */
const startMs = performance.now();
beforeEach(() => void jest.spyOn(performance, "now").mockReturnValue(startMs));
afterEach(() => void jest.restoreAllMocks());

function ask(layer: Layer, { route, ...facts }: Asked = {}) {
  const plain = anExchange(facts);
  const exchange = new Exchange(plain.connection, plain.stream, startMs, 0);
  if (route !== undefined) {
    exchange.route = {
      name: route.name,
      metadata: new Map([["istio", { config: route.config }]]),
    } as unknown as CompiledRoute;
  }
  const reply = layer?.onRequest?.(exchange, noBody);
  return { exchange, reply: reply as LocalReply | undefined, promised: reply as Promise<LocalReply | undefined> };
}

/** Statuses of so many requests; 0 for those that pass. */
const statuses = (layer: Layer, asked: readonly Asked[]): readonly number[] =>
  asked.map((each) => ask(layer, each).reply?.status ?? 0);

test("the request after the last is refused, with the answer that is configured", () => {
  const { layer, problems } = layerOf([{ limits: [limit({ name: "all" })] }]);
  expect(problems).toEqual([]);
  expect(statuses(layer, [{}, {}, {}])).toEqual([0, 0, 429]);
  const { reply, exchange } = ask(layer);
  expect(reply).toMatchObject({ body: "slow down", flag: "RL", grpcStatus: 8, details: "rate_limited[shop/p/all]" });
  expect(reply?.headers?.get("retry-after")).toBe("60");
  expect(reply?.headers?.get("x-limited")).toBe("yes");
  expect(exchange.metadataOf("ambit.rate_limit")).toEqual({ limited: "shop/p/all" });
});

const from = (principal: string | undefined, extra: Asked = {}): Asked => ({
  ...extra,
  connection: { peerPrincipal: principal },
});
const [ann, bob] = ["spiffe://td/ns/a/sa/ann", "spiffe://td/ns/b/sa/bob"];

describe("keys: who shares a count with whom", () => {
  // prettier-ignore
  test.each([ // key, requests, statuses (2 in a minute)
    ["none",                 [],                                       [from(ann), from(bob), from(ann)],                         [0, 0, 429]],
    ["peer",                 [{ sourcePrincipal: {} }],                [from(ann), from(ann), from(ann), from(bob)],              [0, 0, 429, 0]],
    ["namespace",            [{ sourceNamespace: {} }],                [from(ann), from("spiffe://td/ns/a/sa/x"), from(ann), from(bob)], [0, 0, 429, 0]],
    ["nobody is one caller", [{ sourcePrincipal: {} }],                [from(undefined), from(undefined), from(undefined)],       [0, 0, 429]],
    ["a missing key skips",  [{ header: "x-user", onMissing: "SKIP" }], [{}, {}, {}, {}],                                          [0, 0, 0, 0]],
    ["header",               [{ header: "X-User" }],                   [{ headers: ["x-user", "a"] }, { headers: ["x-user", "a"] }, { headers: ["x-user", "a"] }, { headers: ["x-user", "b"] }], [0, 0, 429, 0]],
    ["a pair",               [{ method: {} }, { path: {} }],           [{ path: "/a?x" }, { path: "/a?y" }, { path: "/a" }, { path: "/a", method: "PUT" }], [0, 0, 429, 0]],
    ["templates",            [{ path: { template: true } }],           [{ path: "/u/1" }, { path: "/u/2" }, { path: "/u/3" }, { path: "/u/me" }], [0, 0, 429, 0]],
    ["query",                [{ queryParam: "u" }],                    [{ path: "/?u=1" }, { path: "/?u=1" }, { path: "/?u=1" }, { path: "/?u=2" }], [0, 0, 429, 0]],
    ["cookie",               [{ cookie: "sid" }],                      [{ headers: ["cookie", "a=1; sid=x"] }, { headers: ["cookie", "sid=x"] }, { headers: ["cookie", "sid=x"] }, { headers: ["cookie", "sid=y"] }], [0, 0, 429, 0]],
    ["several lines of one header", [{ header: "x-user" }],            [{ headers: ["x-user", "a", "x-user", "b"] }, { headers: ["x-user", "a", "x-user", "b"] }, { headers: ["x-user", "a", "x-user", "b"] }, { headers: ["x-user", "a"] }], [0, 0, 429, 0]],
    ["long values that end differently", [{ header: "x-user" }],       ["a", "a", "b"].map((end) => ({ headers: ["x-user", `${"x".repeat(5_000)}${end}`] })).concat({ headers: ["x-user", `${"x".repeat(5_000)}a`] }), [0, 0, 0, 429]],
    ["expression",           [{ expression: "request.path.split('/')[1]" }], [{ path: "/a/1" }, { path: "/a/2" }, { path: "/a/3" }, { path: "/b/1" }], [0, 0, 429, 0]],
    ["an expression without a value", [{ expression: "request.headers['x-user']", onMissing: "SKIP" }], [{}, {}, {}],              [0, 0, 0]],
    ["range",                [{ remoteAddress: { v4PrefixLength: 8, v6PrefixLength: 64 } }], [{}, {}, {}],                        [0, 0, 429]],
  ] as const)("%s", (_why, key, asked: readonly Asked[], expected) => {
    const { layer } = layerOf([{ limits: [limit({ key: key as unknown as JsonObject[] })] }]);
    expect(statuses(layer, asked)).toEqual(expected);
  });
});

test("parts of a key do not run into each other", () => {
  const { layer } = layerOf([
    { limits: [limit({ key: [{ header: "a" }, { header: "b" }], rates: [{ requests: 1, perMs: "60000" }] })] },
  ]);
  const asked = [
    ["a", 'x","b","', "b", ""],
    ["a", "x", "b", ""],
    ["a", "", "b", "x"],
  ].map((headers) => ({ headers }));
  expect(statuses(layer, asked)).toEqual([0, 0, 0]);
});

test("only what matches is counted", () => {
  const policy = { permissions: [{ urlPath: { path: { prefix: "/api" } } }], principals: [{ any: true }] };
  const { layer } = layerOf([{ limits: [limit({ match: [{ policy }], rates: [{ requests: 1, perMs: "60000" }] })] }]);
  expect(statuses(layer, [{ path: "/" }, { path: "/" }, { path: "/api/a" }, { path: "/api/b" }])).toEqual([
    0, 0, 0, 429,
  ]);
});

test("conditions that are expressions; one that comes to nothing does not hold", () => {
  const when = ["request.headers['x-tier'] != 'gold'"];
  const { layer } = layerOf([{ limits: [limit({ match: [{ when }], rates: [{ requests: 1, perMs: "60000" }] })] }]);
  const tier = (text: string): Asked => ({ headers: ["x-tier", text] });
  expect(statuses(layer, [tier("free"), tier("gold"), tier("gold"), {}, {}, tier("free")])).toEqual([
    0, 0, 0, 0, 0, 429,
  ]);
});

test("every window must admit, and who is refused is charged to nobody", () => {
  const rates = [
    { requests: 3, perMs: "1000" },
    { requests: 2, perMs: "60000" },
  ];
  const { layer } = layerOf([
    {
      limits: [
        limit({ rates }),
        limit({
          rates: [{ requests: 3, perMs: "60000" }],
          match: [{ policy: { permissions: [{ urlPath: { path: { exact: "/x" } } }], principals: [{ any: true }] } }],
        }),
      ],
    },
  ]);
  expect(statuses(layer, [{ path: "/" }, { path: "/" }, { path: "/x" }, { path: "/x" }])).toEqual([0, 0, 429, 429]);
});

test("overrides: the first that matches, or no limit at all", () => {
  const who = (name: string) => ({
    policy: {
      permissions: [{ any: true }],
      principals: [{ filterState: { key: "io.istio.peer_principal", stringMatch: { exact: name } } }],
    },
  });
  const { layer } = layerOf([
    {
      limits: [
        limit({
          rates: [{ requests: 1, perMs: "60000" }],
          overrides: [{ match: who(ann), rates: [{ requests: 2, perMs: "60000" }] }, { match: who(bob) }],
        }),
      ],
    },
  ]);
  expect(statuses(layer, [from(ann), from(ann), from(ann)])).toEqual([0, 0, 429]);
  expect(statuses(layer, [from(bob), from(bob), from(bob)])).toEqual([0, 0, 0]);
  expect(statuses(layer, [from("spiffe://td/ns/c/sa/c"), from("spiffe://td/ns/c/sa/c")])).toEqual([0, 429]);
});

test("a shadow counts and tells, and refuses nobody", () => {
  const { layer } = layerOf([
    { shadow: true, limits: [limit({ name: "s", rates: [{ requests: 1, perMs: "60000" }] })] },
  ]);
  expect(statuses(layer, [{}, {}])).toEqual([0, 0]);
  expect(ask(layer).exchange.metadataOf("ambit.rate_limit")).toEqual({ would_limit: "shop/p/s" });
});

test("a shadow that still has room counts as ok, each limit by itself", () => {
  const name = "shop/shadowed";
  const one = [{ requests: 1, perMs: "60000" }];
  const { layer } = layerOf([
    { name, shadow: true, limits: [limit({ name: "tight", rates: one }), limit({ name: "wide" })] },
  ]);
  statuses(layer, [{}, {}]);
  const results = [...rateLimitSeries()].filter(({ policy }) => policy === name).map((each) => each.results);
  expect(results).toEqual([
    { ok: 1, limited: 0, shadow: 1, error: 0 },
    { ok: 2, limited: 0, shadow: 0, error: 0 },
  ]);
});

test("routes: only those that are named, and not those with a limit of their own", () => {
  const config = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/http-route/r";
  const at = (name: string): Asked => ({ route: { config, name } });
  const one = [{ requests: 1, perMs: "60000" }];
  const { layer } = layerOf([{ routes: [`${config}#a`], limits: [limit({ rates: one })] }]);
  expect(statuses(layer, [at("a"), at("a"), at("b"), at("b"), {}, {}])).toEqual([0, 429, 0, 0, 0, 0]);
  const { layer: rest } = layerOf([{ limits: [limit({ rates: one, exceptRoutes: [config] })] }]);
  expect(statuses(rest, [at("a"), at("a"), {}, {}])).toEqual([0, 0, 0, 429]);
});

describe("costs", () => {
  const rates = [{ requests: 10, perMs: "60000" }];
  const { layer } = layerOf([{ limits: [limit({ rates, cost: { requestHeader: "x-cost" } })] }]);
  const costing = (text: string): Asked => ({ headers: ["x-cost", text] });

  test("of a request: what its header says, and 1 where that is no number", () => {
    expect(statuses(layer, [costing("8"), costing("3"), costing("nonsense"), costing("-5"), costing("1")])).toEqual([
      0, 429, 0, 0, 429,
    ]);
  });

  test("of a request: what an expression comes to, and 1 where that is nothing", () => {
    const cost = { requestExpression: "{'big': 8, 'half': 0.5}[request.headers['x-size']]" };
    const { layer } = layerOf([{ limits: [limit({ rates, cost })] }]);
    const sized = (text: string): Asked => ({ headers: ["x-size", text] });
    expect(statuses(layer, [sized("big"), sized("big"), sized("half"), sized("unknown"), sized("half")])).toEqual([
      0, 429, 0, 0, 429,
    ]);
  });

  // prettier-ignore
  test.each<[string, JsonObject, Partial<ExchangeEnd>]>([ // what tells, cost, end
    ["a trailer",          { responseHeader: "x-tokens" },                                    { responseTrailers: new Headers(["x-tokens", "25"]) }],
    ["bytes",              { responseExpression: "response.size / 1024" },                    { bytesSent: 25 * 1024 }],
    ["a trailer, in CEL",  { responseExpression: "int(response.trailers['x-tokens']) + 5" },  { responseTrailers: new Headers(["x-tokens", "20"]) }],
  ])("of an answer: %s", (_what, cost, end) => {
    const { layer } = layerOf([{ limits: [limit({ rates, cost })] }]);
    const { exchange } = ask(layer);
    exchange.response = { status: 200, headers: new Headers() };
    layer?.onEnd?.(exchange, anEnd(end));
    expect(statuses(layer, [{}])).toEqual([429]);
  });

  test("of an answer: charged when it is over", () => {
    const { layer } = layerOf([{ limits: [limit({ rates, cost: { responseHeader: "x-tokens" } })] }]);
    const { exchange, reply } = ask(layer);
    expect(reply).toBeUndefined();
    exchange.response = { status: 200, headers: new Headers(["x-tokens", "25"]) };
    layer?.onEnd?.(exchange, anEnd());
    expect(statuses(layer, [{}])).toEqual([429]);
  });
});

describe("what every answer tells", () => {
  // prettier-ignore
  test.each([ // style, headers of the first answer
    ["DRAFT_VERSION_03", ["x-ratelimit-limit", '2, 2;w=60;name="t"', "x-ratelimit-remaining", "1", "x-ratelimit-reset", "60"]],
    ["IETF",             ["ratelimit-policy", '"t";q=2;w=60', "ratelimit", '"t";r=1;t=60']],
    ["OFF",              []],
  ])("%s", (standardHeaders, expected) => {
    const { layer } = layerOf([{ name: `shop/${standardHeaders}`, response: { ...response, standardHeaders }, limits: [limit({ name: "t" })] }]);
    const { exchange } = ask(layer);
    const head = { status: 200, headers: new Headers() };
    layer?.onResponse?.(exchange, head);
    expect(head.headers.pairs).toEqual(expected);
  });
});

test("a push that leaves a limit as it was gives nobody a fresh start", () => {
  const policy = { name: "shop/kept", limits: [limit({ name: "k", rates: [{ requests: 1, perMs: "60000" }] })] };
  const before = layerOf([policy]).layer;
  expect(statuses(before, [{}])).toEqual([0]);
  const after = layerOf([policy, { limits: [limit()] }]).layer;
  expect(statuses(after, [{}])).toEqual([429]);
  expect(before).toBeDefined();
});

describe("a rate limit service", () => {
  const global = { cluster: "rls", domain: "shop", timeoutMs: 1000 };
  const counted = (fields: JsonObject = {}): JsonObject =>
    limit({ name: "g", scope: "GLOBAL", key: [{ sourcePrincipal: {} }], ...fields });

  test("is asked with the limit's name, the key and the rate", async () => {
    const { asked, clusters } = rateLimitService(() => ({
      overallCode: Code.OK,
      statuses: [{ code: Code.OK, limitRemaining: 1 }],
    }));
    const { layer } = layerOf([{ global, limits: [counted()] }], clusters);
    expect(await ask(layer, from(ann)).promised).toBeUndefined();
    expect(toJson(RateLimitRequestSchema, asked[0] as RateLimitRequest)).toEqual({
      domain: "shop",
      descriptors: [
        {
          entries: [
            { key: "limit", value: "shop/p/g" },
            { key: "source_principal", value: ann },
          ],
          limit: { requestsPerUnit: 2, unit: "MINUTE" },
        },
      ],
      hitsAddend: 1,
    });
  });

  test("over the limit is refused, with the time until it is not", async () => {
    const { clusters } = rateLimitService(() => ({
      overallCode: Code.OVER_LIMIT,
      statuses: [{ code: Code.OVER_LIMIT, limitRemaining: 0, durationUntilReset: { seconds: 17n } }],
    }));
    const { layer } = layerOf([{ global, limits: [counted()] }], clusters);
    const reply = await ask(layer).promised;
    expect(reply).toMatchObject({ status: 429, flag: "RL" });
    expect(reply?.headers?.get("retry-after")).toBe("17");
  });

  // prettier-ignore
  test.each([ // does the policy deny on errors?, answered
    [false, undefined], [true, 500],
  ])("that fails (%s)", async (deniesOnError, expected) => {
    const { clusters } = rateLimitService(() => "fail");
    const { layer } = layerOf([{ global: { ...global, deniesOnError }, limits: [counted()] }], clusters);
    expect((await ask(layer).promised)?.status).toBe(expected);
  });

  const over = { overallCode: Code.OVER_LIMIT, statuses: [{ code: Code.OVER_LIMIT }] };

  test("adds what it wants to requests, answers and refusals; nothing that changes their form", async () => {
    const hostile = [
      { key: ":status", value: "200" },
      { key: "Content-Length", value: "0" },
      { key: "x-split", value: "a\r\nx-b: c" },
      { key: "host", value: "other" },
      { key: "", value: "x" },
    ];
    const added = {
      responseHeadersToAdd: [{ key: "X-Quota", value: "low é" }, ...hostile],
      requestHeadersToAdd: [{ key: "x-plan", value: "free" }, ...hostile],
    };
    let answer: MessageInitShape<typeof RateLimitResponseSchema> = { overallCode: Code.OK, ...added };
    const { clusters } = rateLimitService(() => answer);
    const { layer } = layerOf([{ global, limits: [counted()], response: { ...response, body: "" } }], clusters);
    const passed = ask(layer);
    expect(await passed.promised).toBeUndefined();
    expect(passed.exchange.request.headers.pairs).toEqual(["x-plan", "free"]);
    const told = { status: 200, headers: new Headers() };
    layer?.onResponse?.(passed.exchange, told);
    expect(told.headers.pairs).toEqual(["x-quota", Buffer.from("low é").toString("latin1")]);

    answer = { ...over, ...added, rawBody: Buffer.from([0, 255, 1]) };
    const refused = ask(layer);
    expect((await refused.promised)?.body).toEqual(Buffer.from([0, 255, 1]));
    const head = { status: 429, headers: new Headers() };
    layer?.onResponse?.(refused.exchange, head);
    expect(head.headers.get("x-quota")).toBeDefined();
  });

  test("words of the policy go before those of the service", async () => {
    const { clusters } = rateLimitService(() => ({ ...over, rawBody: Buffer.from("its own") }));
    const { layer } = layerOf([{ global, limits: [counted()] }], clusters);
    expect((await ask(layer).promised)?.body).toBe("slow down");
  });

  // prettier-ignore
  test.each<[string, MessageInitShape<typeof RateLimitResponseSchema>, number | undefined, string | undefined]>([ // what it says, answered, retry-after
    ["nothing",                          {},                                                                                        500,       undefined],
    ["over, and nothing else",           { overallCode: Code.OVER_LIMIT },                                                          429,       "60"],
    ["over, of descriptors not asked for", { overallCode: Code.OVER_LIMIT, statuses: [{ code: Code.OK }, { code: Code.OVER_LIMIT }] }, 429,    "60"],
    ["a time that has passed",           { ...over, statuses: [{ code: Code.OVER_LIMIT, durationUntilReset: { seconds: -5n } }] },  429,       "1"],
    ["one is over, but all is well",     { overallCode: Code.OK, statuses: [{ code: Code.OVER_LIMIT }] },                           undefined, undefined],
  ])("says %s", async (_what, answer, status, retryAfter) => {
    const { clusters } = rateLimitService(() => answer);
    const { layer } = layerOf([{ global: { ...global, deniesOnError: true }, limits: [counted()] }], clusters);
    const reply = await ask(layer).promised;
    expect([reply?.status, reply?.headers?.get("retry-after")]).toEqual([status, retryAfter]);
  });

  test("is asked without counting where the answer tells the cost, which is charged afterwards", async () => {
    let remaining = 1;
    const { asked, clusters } = rateLimitService(() => ({
      overallCode: Code.OK,
      statuses: [{ code: Code.OK, currentLimit: { requestsPerUnit: 2 }, limitRemaining: remaining }],
    }));
    const { layer } = layerOf([{ global, limits: [counted({ cost: { responseHeader: "x-tokens" } })] }], clusters);
    const { exchange, promised } = ask(layer);
    expect(await promised).toBeUndefined();
    expect(asked.flatMap(({ descriptors }) => descriptors.map(hitsOf))).toEqual([0n]);
    exchange.response = { status: 200, headers: new Headers(["x-tokens", "700"]) };
    layer?.onEnd?.(exchange, anEnd());
    await new Promise(setImmediate);
    expect(asked[1]?.hitsAddend).toBe(700);
    remaining = 0;
    expect((await ask(layer).promised)?.status).toBe(429);
  });

  test("units up to a year ride along", async () => {
    const { asked, clusters } = rateLimitService(() => ({ overallCode: Code.OK }));
    const rates = [1, 7, 30, 365].map((days) => ({ requests: 1, perMs: String(days * 86_400_000) }));
    await ask(layerOf([{ global, limits: [counted({ rates })] }], clusters).layer).promised;
    expect(asked[0]?.descriptors.map(({ limit: own }) => own?.unit)).toEqual([4, 7, 5, 6]);
  });

  test("is not asked when a local limit refuses", () => {
    const { asked, clusters } = rateLimitService(() => ({ overallCode: Code.OK }));
    const local = limit({ rates: [{ requests: 1, perMs: "60000" }], cost: { value: 5 } });
    const { layer } = layerOf([{ global, limits: [local, counted()] }], clusters);
    expect(statuses(layer, [{}])).toEqual([429]);
    expect(asked).toEqual([]);
  });
});

// prettier-ignore
test.each([ // policy, what is said
  [{ limits: [limit({ scope: "GLOBAL" })] },                                    "policies[0].limits[0].scope: GLOBAL needs a rate limit service"],
  [{ limits: [limit({ rates: [] })] },                                          "policies[0].limits[0].rates: must not be empty"],
  [{ limits: [limit({ rates: [{ requests: 0, perMs: "1000" }] })] },            "rates[0].requests: must be at least 1"],
  [{ limits: [limit({ match: [{ when: ["request.path"] }] })] },                "limits[0].match[0].when[0]: \"request.path\": it comes to a string, bool is wanted"],
  [{ limits: [limit({ key: [{ expression: "response.code" }] })] },             "limits[0].key[0].expression"],
  [{ limits: [limit({ cost: { requestExpression: "'a'" } })] },                 "limits[0].cost.request_expression"],
  [{ limits: [limit({ key: [{}] })] },                                          "key[0]: names nothing"],
  [{ limits: [limit({ match: [{ policy: { permissions: [], principals: [{ any: true }] } }] })] }, "match[0].policy.permissions: must not be empty"],
])("refused: %j", (policy, message) => {
  expect(layerOf([policy]).problems.join()).toContain(message);
});

test("a field that is not known refuses the configuration", () => {
  expect(layerOf([{ limit: [] }]).problems.join()).toContain("limit");
});
