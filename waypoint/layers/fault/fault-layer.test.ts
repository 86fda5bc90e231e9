import { describe, expect, test } from "@jest/globals";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { HTTPFaultSchema } from "#shared/proto/gen/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { aContext, anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import { aTable } from "#waypoint/routing/testing.ts";
import { FaultLayer } from "./fault-layer.ts";
import { compileFault } from "./fault-rules.ts";

const name = "envoy.filters.http.fault";
const percent = (numerator: number, denominator = "HUNDRED") => ({ numerator, denominator });
const abort = { http_status: 503, percentage: percent(100) };

function aLayer(fault: JsonObject, random: () => number = () => 0.5, clock = new FakeClock()) {
  const context = aContext();
  const rules = compileFault(fromJson(HTTPFaultSchema, fault), context);
  expect(context.problems).toEqual([]);
  return { layer: new FaultLayer(name, rules, clock, random), clock };
}

async function ask(fault: JsonObject, facts: RequestFacts, random?: () => number) {
  const { layer, clock } = aLayer(fault, random);
  const exchange = anExchange(facts);
  const result = layer.onRequest(exchange);
  const before = clock.now();
  if (result instanceof Promise) {
    let delayed = 0;
    const reply = result.finally(() => (delayed = clock.now() - before));
    await clock.advance(10_000);
    return { delayed, reply: await reply, flags: [...exchange.flags] };
  }
  return { delayed: 0, reply: result, flags: [...exchange.flags] };
}

describe("aborts", () => {
  test.each<[string, JsonObject, RequestFacts, number | undefined]>([
    ["all", { abort }, {}, 503],
    ["none without a percentage", { abort: { http_status: 503 } }, {}, undefined],
    ["half, drawn at 0.5", { abort: { http_status: 503, percentage: percent(50) } }, {}, undefined],
    ["more than half", { abort: { http_status: 503, percentage: percent(5001, "TEN_THOUSAND") } }, {}, 503],
    ["millionths", { abort: { http_status: 503, percentage: percent(500_001, "MILLION") } }, {}, 503],
    [
      "headers that match",
      { abort, headers: [{ name: "a", string_match: { exact: "1" } }] },
      { headers: ["a", "1"] },
      503,
    ],
    ["headers that do not", { abort, headers: [{ name: "a", string_match: { exact: "1" } }] }, {}, undefined],
    ["a node", { abort, downstream_nodes: ["n"] }, { headers: ["x-envoy-downstream-service-node", "n"] }, 503],
    ["another node", { abort, downstream_nodes: ["n"] }, {}, undefined],
    [
      "a header's status",
      { abort: { header_abort: {}, percentage: percent(100) } },
      { headers: ["x-envoy-fault-abort-request", "418"] },
      418,
    ],
    ["no header", { abort: { header_abort: {}, percentage: percent(100) } }, {}, undefined],
    [
      "a header where none is allowed",
      { abort: { http_status: 500 } },
      { headers: ["x-envoy-fault-abort-request", "418"] },
      undefined,
    ],
    [
      "a header lowers the percentage",
      { abort: { header_abort: {}, percentage: percent(100) } },
      { headers: ["x-envoy-fault-abort-request", "418", "x-envoy-fault-abort-request-percentage", "50"] },
      undefined,
    ],
    [
      "and cannot raise it",
      { abort: { header_abort: {}, percentage: percent(10) } },
      { headers: ["x-envoy-fault-abort-request", "418", "x-envoy-fault-abort-request-percentage", "100"] },
      undefined,
    ],
    [
      "status outside of HTTP's",
      { abort: { header_abort: {}, percentage: percent(100) } },
      { headers: ["x-envoy-fault-abort-request", "601"] },
      undefined,
    ],
  ])("%s", async (_name, fault, facts, status) => {
    const { reply, flags } = await ask(fault, facts);
    expect(reply?.status).toBe(status);
    const said = reply ?? { body: "fault filter abort", flag: "FI", details: "fault_filter_abort" };
    expect(said).toMatchObject({ body: "fault filter abort", flag: "FI", details: "fault_filter_abort" });
    expect(flags).toEqual([]);
  });

  test.each([
    [{ abort: { grpc_status: 14, percentage: percent(100) } }, [], 14],
    [{ abort: { header_abort: {}, percentage: percent(100) } }, ["x-envoy-fault-abort-grpc-request", "8"], 8],
  ])("gRPC %j", async (fault, headers, grpcStatus) => {
    const { reply } = await ask(fault, { headers: ["content-type", "application/grpc", ...headers] });
    expect(reply).toMatchObject({ status: 200, grpcStatus, flag: "FI" });
  });
});

describe("delays", () => {
  const delay = { fixed_delay: "2s", percentage: percent(100) };

  test("then the abort, drawn apart", async () => {
    expect(await ask({ delay }, {})).toMatchObject({ delayed: 2000, reply: undefined, flags: ["DI"] });
    expect(await ask({ delay, abort }, {})).toMatchObject({ delayed: 2000, reply: { status: 503 }, flags: ["DI"] });
    const draws = [0.9, 0.1];
    const half = {
      delay: { fixed_delay: "2s", percentage: percent(50) },
      abort: { http_status: 503, percentage: percent(50) },
    };
    expect(await ask(half, {}, () => draws.shift() ?? 0)).toMatchObject({
      delayed: 0,
      reply: { status: 503 },
      flags: [],
    });
  });

  test("as a header asks", async () => {
    const fault = { delay: { header_delay: {}, percentage: percent(100) } };
    expect(await ask(fault, { headers: ["x-envoy-fault-delay-request", "150"] })).toMatchObject({ delayed: 150 });
    expect(await ask(fault, {})).toMatchObject({ delayed: 0 });
  });

  test("end with the request", async () => {
    const { layer, clock } = aLayer({ delay, max_active_faults: 1 });
    const exchange = anExchange();
    const waiting = layer.onRequest(exchange);
    expect(layer.onRequest(anExchange())).toBeUndefined();
    layer.onEnd(exchange);
    await waiting;
    expect(clock.pending).toBe(0);
    expect(layer.onRequest(anExchange())).toBeInstanceOf(Promise);
  });
});

test("a route's fault takes the place of the listener's", () => {
  const { layer } = aLayer({ abort });
  const route = {
    match: { prefix: "/" },
    route: { cluster: "c" },
    typed_per_filter_config: {
      [name]: {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        abort: { ...abort, http_status: 418 },
      },
    },
  };
  const exchange = anExchange();
  exchange.route = aTable([route]).table.match(exchange);
  expect(layer.onRequest(exchange)).toMatchObject({ status: 418 });
});

test.each<[JsonObject, string]>([
  [{ abort: {} }, "abort: set one of http_status, grpc_status and header_abort"],
  [{ delay: {} }, "delay: set one of fixed_delay and header_delay"],
  [{ response_rate_limit: {} }, "response_rate_limit: is not supported"],
  [{ abort: { http_status: 600 } }, "abort.http_status: 600 is not between 200 and 599"],
])("%j is refused", (fault, problem) => {
  const context = aContext();
  compileFault(fromJson(HTTPFaultSchema, fault), context);
  expect(context.problems).toContain(problem);
});
