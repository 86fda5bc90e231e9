import { fromJson, toJson, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { RateLimitSchema as RouteLimitSchema } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { RateLimitSchema } from "#shared/proto/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
  RateLimitResponse_RateLimit_Unit as Unit,
  type RateLimitResponseSchema,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import { aContext, anExchange, noBody, packed, type RequestFacts } from "#waypoint/layers/testing.ts";
import type { CompiledRoute } from "#waypoint/routing/compiled-route.ts";
import { globalRateLimitLayer } from "./global-rate-limit.ts";
import { rateLimitService } from "./testing.ts";

type Answer = MessageInitShape<typeof RateLimitResponseSchema>;

const over: Answer = { overallCode: Code.OVER_LIMIT };
const byUser = { actions: [{ request_headers: { header_name: "x-user", descriptor_key: "user" } }] };
const ann: RequestFacts = { headers: ["x-user", "ann"] };

function layerOf(config: JsonObject = {}, answer: Answer | "fail" = { overallCode: Code.OK }) {
  const { asked, deadlines, clusters } = rateLimitService(() => answer);
  const context = aContext(clusters);
  const any = packed(RateLimitSchema, {
    domain: "shop",
    rate_limit_service: { grpc_service: { envoy_grpc: { cluster_name: "rls" } }, transport_api_version: "V3" },
    ...config,
  });
  return { asked, deadlines, context, layer: globalRateLimitLayer.compile("ratelimit", any, context) };
}

async function ask(
  { layer }: Pick<ReturnType<typeof layerOf>, "layer">,
  facts: RequestFacts = ann,
  limits: readonly JsonObject[] = [byUser],
) {
  const exchange = anExchange(facts);
  exchange.route = {
    name: "r",
    layerConfigs: new Map(),
    metadata: new Map(),
    rateLimits: {
      route: limits.map((each) => fromJson(RouteLimitSchema, each)),
      virtualHost: [],
      includesVirtualHost: false,
    },
  } as unknown as CompiledRoute;
  const reply = await layer?.onRequest?.(exchange, noBody);
  const head = { status: 200, headers: new Headers() };
  layer?.onResponse?.(exchange, head);
  return { exchange, reply, told: Object.fromEntries(head.headers) };
}

test("a request is asked for once, with all descriptors that it has", async () => {
  const made = layerOf();
  const whole = { actions: [{ generic_key: { descriptor_value: "all" } }] };
  expect((await ask(made, ann, [byUser, whole])).reply).toBeUndefined();
  expect(made.asked.map((each) => toJson(RateLimitRequestSchema, each))).toEqual([
    {
      domain: "shop",
      descriptors: [{ entries: [{ key: "user", value: "ann" }] }, { entries: [{ key: "generic_key", value: "all" }] }],
    },
  ]);
});

test("without descriptors nobody is asked", async () => {
  const made = layerOf({}, over);
  expect((await ask(made, {}, [byUser])).reply).toBeUndefined();
  expect((await ask(made, ann, [])).reply).toBeUndefined();
  expect(made.asked).toEqual([]);
});

describe("a request over its limit", () => {
  // prettier-ignore
  test.each<[JsonObject, object]>([ // configuration, its answer
    [{},                                                  { status: 429, flag: "RL", grpcStatus: 14, details: "request_rate_limited" }],
    [{ rate_limited_status: { code: "ServiceUnavailable" } }, { status: 503 }],
    [{ rate_limited_status: { code: "OK" } },             { status: 429 }],
    [{ rate_limited_as_resource_exhausted: true },        { status: 429, grpcStatus: 8 }],
  ])("%j", async (config, expected) => {
    const { reply } = await ask(layerOf(config, over));
    expect(reply).toMatchObject(expected);
    expect(reply?.headers?.get("x-envoy-ratelimited")).toBe("true");
  });

  test("unmarked, with a header of the filter and the words of the service", async () => {
    const config = {
      disable_x_envoy_ratelimited_header: true,
      response_headers_to_add: [{ header: { key: "x-why", value: "many" } }],
    };
    const { reply } = await ask(layerOf(config, { ...over, rawBody: Buffer.from("slow down") }));
    expect(reply?.headers?.pairs).toEqual(["x-why", "many"]);
    expect(String(reply?.body)).toBe("slow down");
  });
});

describe("a service that cannot be asked", () => {
  // prettier-ignore
  test.each<[JsonObject, number | undefined]>([ // configuration, the status of the request
    [{},                                                                          undefined],
    [{ failure_mode_deny: true },                                                 500],
    [{ failure_mode_deny: true, status_on_error: { code: "ServiceUnavailable" } }, 503],
  ])("%j", async (config, status) => {
    expect((await ask(layerOf(config, "fail"))).reply?.status).toBe(status);
  });

  test.each<[JsonObject, string]>([
    [{}, "20m"],
    [{ timeout: "0.25s" }, "250m"],
    [{ timeout: "0s" }, ""],
  ])("is waited for: %j", async (config, deadline) => {
    const made = layerOf(config);
    await ask(made);
    expect(made.deadlines).toEqual([deadline]);
  });
});

describe("what the service says", () => {
  const week: number = 7;
  const quota = (requestsPerUnit: number, unit: number, limitRemaining: number, name = "") => ({
    code: Code.OK,
    // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- weeks are newer than the definitions that we generate from
    currentLimit: { requestsPerUnit, unit: unit as Unit, name },
    limitRemaining,
    durationUntilReset: { seconds: BigInt(limitRemaining * 10), nanos: 0 },
  });

  // prettier-ignore
  test.each<[string, ReturnType<typeof quota>[], string]>([ // of which descriptors, x-ratelimit-limit
    ["one",                       [quota(10, Unit.MINUTE, 3, "all")],                          '10, 10;w=60;name="all"'],
    ["the one that leaves least", [quota(10, Unit.MINUTE, 4), quota(99, Unit.DAY, 3)],         "99, 10;w=60, 99;w=86400"],
    ["of every unit",             [quota(1, Unit.SECOND, 3), quota(2, Unit.HOUR, 9), quota(3, week, 9), quota(4, Unit.MONTH, 9), quota(5, Unit.YEAR, 9)], "1, 1;w=1, 2;w=3600, 3;w=604800, 4;w=2592000, 5;w=31536000"],
  ])("of quotas, %s", async (_what, statuses, limit) => {
    const { told } = await ask(layerOf({ enable_x_ratelimit_headers: "DRAFT_VERSION_03" }, { overallCode: Code.OK, statuses }));
    expect(told).toEqual({ "x-ratelimit-limit": limit, "x-ratelimit-remaining": "3", "x-ratelimit-reset": "30" });
  });

  test("goes to the upstream and to the caller", async () => {
    const { exchange, told } = await ask(
      layerOf(
        {},
        {
          overallCode: Code.OK,
          requestHeadersToAdd: [{ key: "x-tier", value: "gold" }],
          responseHeadersToAdd: [{ key: "x-left", value: "3" }],
          statuses: [quota(10, Unit.MINUTE, 3)],
        },
      ),
    );
    expect(exchange.request.headers.get("x-tier")).toBe("gold");
    expect(told).toEqual({ "x-left": "3" });
  });
});

// prettier-ignore
test.each<[JsonObject, string]>([ // configuration, what is said
  [{ domain: "" },                                   "domain: must not be empty"],
  [{ stage: 11 },                                    "stage: 11 is not in 0 to 10"],
  [{ request_type: "internal" },                     'request_type: "internal" is not supported'],
  [{ rate_limit_service: {} },                       "rate_limit_service.grpc_service.envoy_grpc: is missing"],
  [{ response_headers_to_add: Array.from({ length: 11 }, () => ({ header: { key: "a", value: "b" } })) }, "response_headers_to_add: has 11 entries: at most 10"],
])("refused: %j", (config, message) => {
  expect(layerOf(config).context.problems.join()).toContain(message);
});
