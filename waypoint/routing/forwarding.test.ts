import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResetReason, UpstreamStream } from "#waypoint/http/streams.ts";
import type { RequestFacts } from "#waypoint/layers/testing.ts";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { HttpRouter, type RouterOptions } from "./router.ts";
import { aHost, aTable, Client, clustersOf, FakeCluster, routed } from "./testing.ts";

interface World {
  readonly cluster: FakeCluster;
  readonly clock: FakeClock;
  readonly client: Client;
  readonly exchange: Exchange;
  readonly upstream: UpstreamStream;
}

interface Setup {
  readonly action?: JsonObject;
  readonly host?: JsonObject;
  readonly facts?: RequestFacts;
  readonly hasBody?: boolean;
  readonly cluster?: FakeCluster;
  readonly others?: readonly FakeCluster[];
  readonly options?: Partial<RouterOptions>;
}

const timeout = "0s";

function forward(setup: Setup = {}): World {
  const clock = new FakeClock();
  const cluster = setup.cluster ?? new FakeCluster("c", [aHost("a"), aHost("b"), aHost("c")]);
  const clusters = clustersOf(cluster, ...(setup.others ?? []));
  const router = new HttpRouter({ clusters, clock, random: () => 0.5, ...setup.options });
  const routes = [{ match: { prefix: "/" }, route: { cluster: "c", timeout, ...setup.action } }];
  const table = aTable({ virtual_hosts: [{ name: "v", domains: ["*"], routes, ...setup.host }] });
  expect(table.problems).toEqual([]);
  const { exchange, route } = routed(table, setup.facts ?? {});
  const client = new Client();
  const upstream = router.forward(exchange, route, setup.hasBody !== true, client);
  return { cluster, clock, client, exchange, upstream };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const retry = (policy: JsonObject): Setup => ({ action: { retry_policy: policy } });
const istioDefault: JsonObject = {
  retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
  num_retries: 2,
  retry_host_predicate: [
    {
      name: "envoy.retry_host_predicates.previous_hosts",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
      },
    },
  ],
  host_selection_retry_max_attempts: "5",
};

describe("one attempt", () => {
  test("request and answer go through, counted at the host while they last", () => {
    const { cluster, client, exchange } = forward({ facts: { path: "/x", headers: ["a", "1"] } });
    const { last } = cluster;
    expect([last.head.path, last.head.headers.get("a"), last.endsWithHead]).toEqual(["/x", "1", true]);
    expect([last.host.active, cluster.requests]).toEqual([1, 1]);
    last.reader.inform({ status: 103, headers: new Headers() });
    last.answer(200, ["b", "2"], "hello");
    expect(client.heard).toEqual(["inform 103", "head 200", "data hello", "end"]);
    expect(client.answer?.headers.get("x-envoy-upstream-service-time")).toMatch(/^\d+$/);
    expect([last.host.active, cluster.requests, cluster.outcomes]).toEqual([
      0,
      0,
      [{ kind: "answered", status: 200, grpcStatus: undefined }],
    ]);
    expect([exchange.attempts, exchange.upstreamHost?.key, exchange.upstreamCluster]).toEqual([1, "a", "c"]);
  });

  test("bodies stream both ways, and both sides are slowed down", () => {
    const { cluster, client, upstream } = forward({ hasBody: true });
    const { last } = cluster;
    expect(upstream.write(Buffer.from("1"))).toBe(true);
    last.takesMore = false;
    expect(upstream.write(Buffer.from("2"))).toBe(false);
    last.reader.drained();
    upstream.end(new Headers(["t", "1"]));
    expect([last.body, last.ended]).toEqual([["1", "2"], true]);
    last.reader.head({ status: 200, headers: new Headers() }, false);
    upstream.pause();
    expect(last.paused).toBe(true);
    upstream.resume();
    expect(last.paused).toBe(false);
    last.reader.end(new Headers(["grpc-status", "0"]));
    expect(client.heard).toEqual(["drained", "head 200", "end grpc-status 0"]);
  });

  test("an answer before the end of the request ends the request", () => {
    const { cluster, client, upstream } = forward({ hasBody: true });
    upstream.write(Buffer.from("1"));
    cluster.last.answer(413);
    expect([client.heard, cluster.last.wasReset, upstream.write(Buffer.from("2"))]).toEqual([
      ["head 413 end"],
      true,
      true,
    ]);
  });

  test("a client that goes away takes the attempt with it, and no blame is laid", () => {
    const { cluster, client, upstream } = forward();
    upstream.reset("local-reset");
    cluster.last.reader.reset("remote-reset", "");
    expect([cluster.last.wasReset, cluster.last.host.active, cluster.requests, cluster.outcomes]).toEqual([
      true,
      0,
      0,
      [],
    ]);
    expect(client.heard).toEqual([]);
  });

  test("gRPC is judged by its trailers", () => {
    const { cluster } = forward({ facts: { headers: ["content-type", "application/grpc"] } });
    cluster.last.reader.head({ status: 200, headers: new Headers() }, false);
    expect(cluster.outcomes).toEqual([]);
    cluster.last.reader.end(new Headers(["grpc-status", "14"]));
    expect(cluster.outcomes).toEqual([{ kind: "answered", status: 200, grpcStatus: 14 }]);
  });

  test("envoy headers can be kept out", () => {
    const { cluster, client } = forward({ action: { timeout: "3s" }, options: { suppressesEnvoyHeaders: true } });
    cluster.last.answer(200);
    expect(client.answer?.headers.pairs).toEqual([]);
    expect(cluster.last.head.headers.pairs).toEqual([]);
  });

  test("the host's name becomes the authority, attempts are counted", () => {
    const cluster = new FakeCluster("c", [aHost("a", "a.example")]);
    const action = { auto_host_rewrite: true, append_x_forwarded_host: true };
    const host = { include_request_attempt_count: true, include_attempt_count_in_response: true };
    const { client } = forward({ cluster, action, host });
    const { head } = cluster.last;
    expect([head.authority, head.headers.get("x-forwarded-host"), head.headers.get("x-envoy-attempt-count")]).toEqual([
      "a.example",
      "catalog.shop",
      "1",
    ]);
    cluster.last.answer(200);
    expect(client.answer?.headers.get("x-envoy-attempt-count")).toBe("1");
  });

  test("a consistent hash is computed where the balancer asks for one, with its cookie", () => {
    const cluster = new FakeCluster("c");
    cluster.hashes = true;
    const { client } = forward({ cluster, action: { hash_policy: [{ cookie: { name: "s", ttl: "0s" } }] } });
    expect(typeof cluster.picks[0]?.hash).toBe("bigint");
    cluster.last.answer(200);
    expect(client.answer?.headers.get("set-cookie")).toMatch(/^s="[0-9a-f]{16}"; HttpOnly$/);
  });
});

describe("answers of our own", () => {
  test.each<[ResetReason, string, number, string, string]>([
    ["connect-failure", "delayed connect error: Connection refused", 503, "UF", "remote connection failure"],
    ["connect-timeout", "", 503, "UF", "connection timeout"],
    ["connection-termination", "", 503, "UC", "connection termination"],
    ["remote-reset", "", 503, "UR", "remote reset"],
    ["refused-stream", "", 503, "UR", "remote refused stream reset"],
    ["protocol-error", "", 502, "UPE", "protocol error"],
    ["overflow", "", 503, "UO", "overflow"],
  ])("%s", (reason, detail, status, flag, text) => {
    const { cluster, client } = forward();
    cluster.last.reader.reset(reason, detail);
    expect(client.reply_).toMatchObject({
      status,
      flag,
      body: `upstream connect error or disconnect/reset before headers. reset reason: ${text}`,
    });
    expect([cluster.last.host.active, cluster.requests]).toEqual([0, 0]);
  });

  test("a reset in the middle of an answer breaks it off", () => {
    const { cluster, client, exchange } = forward();
    cluster.last.reader.head({ status: 200, headers: new Headers() }, false);
    cluster.last.reader.reset("connection-termination", "");
    expect(client.heard).toEqual(["head 200", "reset connection-termination"]);
    expect([[...exchange.flags], exchange.responseCodeDetails]).toEqual([
      ["UC"],
      "upstream_reset_after_response_started{connection_termination}",
    ]);
  });

  test.each<[string, Setup, object]>([
    ["no cluster", { action: { cluster: "other" } }, { status: 503, flag: "NC", details: "cluster_not_found" }],
    [
      "no cluster, 500",
      { action: { cluster: "other", cluster_not_found_response_code: "INTERNAL_SERVER_ERROR" } },
      { status: 500, flag: "NC" },
    ],
    ["no host", { cluster: new FakeCluster("c", []) }, { status: 503, flag: "UH", body: "no healthy upstream" }],
  ])("%s", async (_name, setup, wanted) => {
    const { client } = forward(setup);
    // Nothing before the caller knows where to write.
    expect(client.heard).toEqual([]);
    await turn();
    expect(client.reply_).toMatchObject(wanted);
  });

  test("a circuit breaker that is open", async () => {
    const cluster = new FakeCluster("c");
    cluster.maxRequests = 0;
    const { client } = forward({ cluster });
    await turn();
    expect(client.reply_?.headers?.get("x-envoy-overloaded")).toBe("true");
    expect(client.reply_).toMatchObject({ status: 503, flag: "UO" });
  });

  test("a cluster that is not ready is waited for", async () => {
    const cluster = new FakeCluster("c");
    cluster.ready = turn().then(() => undefined);
    const { client, upstream } = forward({ cluster, hasBody: true });
    expect([upstream.write(Buffer.from("1")), cluster.sent.length]).toEqual([false, 0]);
    await turn();
    await turn();
    expect([cluster.last.body, client.heard]).toEqual([["1"], ["drained"]]);
  });

  test("a host that fails in the middle of sending is heard of later", async () => {
    const cluster = new FakeCluster("c");
    cluster.onSend = (request) => request.reader.reset("connect-failure", "no route");
    const { client } = forward({ cluster });
    expect(client.heard).toEqual([]);
    await turn();
    expect(client.reply_?.flag).toBe("UF");
    expect(cluster.requests).toBe(0);
  });
});

describe("retries", () => {
  const codes = (status: number, headers: readonly string[] = []) => ({ status, headers });
  test.each<[string, JsonObject, { status: number; headers: readonly string[] } | ResetReason, boolean]>([
    ["5xx", { retry_on: "5xx" }, codes(500), true],
    ["5xx", { retry_on: "5xx" }, codes(499), false],
    ["5xx", { retry_on: "5xx" }, "connect-failure", true],
    ["5xx", { retry_on: "5xx" }, "overflow", false],
    ["gateway-error", { retry_on: "gateway-error" }, codes(503), true],
    ["gateway-error", { retry_on: "gateway-error" }, codes(500), false],
    ["gateway-error", { retry_on: "gateway-error" }, "remote-reset", true],
    ["reset", { retry_on: "reset" }, "connection-termination", true],
    ["reset", { retry_on: "reset" }, codes(503), false],
    ["reset-before-request", { retry_on: "reset-before-request" }, "connect-failure", true],
    ["reset-before-request", { retry_on: "reset-before-request" }, "remote-reset", false],
    ["connect-failure", { retry_on: "connect-failure" }, "connect-failure", true],
    ["connect-failure", { retry_on: "connect-failure" }, "connect-timeout", true],
    ["connect-failure", { retry_on: "connect-failure" }, "remote-reset", false],
    ["refused-stream", { retry_on: "refused-stream" }, "refused-stream", true],
    ["refused-stream", { retry_on: "refused-stream" }, "closed-unanswered", true],
    ["refused-stream", { retry_on: "refused-stream" }, "remote-reset", false],
    ["retriable-4xx", { retry_on: "retriable-4xx" }, codes(409), true],
    ["retriable-4xx", { retry_on: "retriable-4xx" }, codes(404), false],
    ["codes", { retry_on: "retriable-status-codes", retriable_status_codes: [418] }, codes(418), true],
    ["codes not asked for", { retry_on: "reset", retriable_status_codes: [418] }, codes(418), false],
    [
      "headers",
      { retry_on: "retriable-headers", retriable_headers: [{ name: "x-again", present_match: true }] },
      codes(200, ["x-again", "1"]),
      true,
    ],
    ["rate limited", { retry_on: "5xx" }, codes(503, ["x-envoy-ratelimited", "true"]), false],
    ["rate limited", { retry_on: "envoy-ratelimited" }, codes(429, ["x-envoy-ratelimited", "true"]), true],
    ["gRPC", { retry_on: "unavailable" }, codes(200, ["grpc-status", "14"]), true],
    ["gRPC", { retry_on: "cancelled,deadline-exceeded" }, codes(200, ["grpc-status", "14"]), false],
    ["gRPC", { retry_on: "internal,resource-exhausted" }, codes(200, ["grpc-status", "8"]), true],
  ])("%s %j after %j: %s", async (_name, policy, failure, again) => {
    const { cluster, clock, client } = forward(retry(policy));
    const [first] = cluster.sent;
    if (typeof failure === "string") first?.reader.reset(failure, "");
    else first?.answer(failure.status, failure.headers);
    await clock.advance(25);
    expect(cluster.sent.length).toBe(again ? 2 : 1);
    expect(client.heard.length).toBe(again ? 0 : 1);
    if (again) cluster.last.answer(200);
    expect(client.heard.length).toBe(1);
    expect([cluster.requests, cluster.retries, clock.pending]).toEqual([0, 0, 0]);
  });

  test("other hosts each time, until none is left; then what came last, and URX", async () => {
    const { cluster, clock, client, exchange } = forward(retry({ ...istioDefault, retry_on: "5xx" }));
    for (const _ of [1, 2]) {
      cluster.last.answer(503, [], "no");
      await clock.advance(1000);
    }
    cluster.last.answer(503, [], "last");
    expect(cluster.sent.map(({ host }) => host.key)).toEqual(["a", "b", "c"]);
    expect(cluster.picks.map(({ attempts }) => attempts)).toEqual([undefined, 6, 6]);
    expect(client.heard).toEqual(["head 503", "data last", "end"]);
    expect([[...exchange.flags], exchange.attempts]).toEqual([["URX"], 3]);
    expect(cluster.outcomes.length).toBe(3);
  });

  test("the default policy of the mesh: a connection that fails, not a 503", async () => {
    const { cluster, clock, client } = forward(retry(istioDefault));
    cluster.last.reader.reset("connect-failure", "refused");
    await clock.advance(25);
    cluster.last.reader.reset("connect-failure", "refused");
    await clock.advance(50);
    cluster.last.reader.reset("connect-failure", "refused");
    expect(client.reply_?.body).toBe(
      "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure",
    );
    const next = forward(retry(istioDefault));
    next.cluster.last.answer(503);
    expect(next.client.heard).toEqual(["head 503 end"]);
  });

  test.each<[string, JsonObject, readonly number[]]>([
    ["as configured", { retry_back_off: { base_interval: "0.1s", max_interval: "0.3s" } }, [50, 100, 150, 150, 150]],
    ["ten times as long as the first", { retry_back_off: { base_interval: "0.01s" } }, [5, 10, 20, 40, 50]],
    ["a quarter of a second, from 25 ms on", {}, [12, 25, 50, 100, 125]],
  ])("windows double up to the greatest: %s", async (_greatest, policy, expected) => {
    const { cluster, clock } = forward(retry({ retry_on: "5xx", num_retries: 5, ...policy }));
    const waited: number[] = [];
    for (let i = 0; i < 5; i++) {
      cluster.last.answer(500);
      const before = cluster.sent.length;
      let ms = 0;
      while (cluster.sent.length === before) {
        await clock.advance(1);
        ms += 1;
      }
      waited.push(ms);
    }
    expect(waited).toEqual(expected);
  });

  test("an answer may say when to come back", async () => {
    const { cluster, clock } = forward(
      retry({
        retry_on: "5xx",
        rate_limited_retry_back_off: { reset_headers: [{ name: "Retry-After" }], max_interval: "10s" },
      }),
    );
    cluster.last.answer(503, ["retry-after", "2"]);
    await clock.advance(2499);
    expect(cluster.sent.length).toBe(1);
    await clock.advance(1);
    expect(cluster.sent.length).toBe(2);
  });

  test("the budget is asked; without it the failure stands", () => {
    const cluster = new FakeCluster("c");
    cluster.maxRetries = 0;
    const { client, exchange } = forward({ ...retry({ retry_on: "5xx" }), cluster });
    cluster.last.answer(500);
    expect([client.heard, [...exchange.flags]]).toEqual([["head 500 end"], ["UO"]]);
  });

  test("the body goes again, as far as it has come, and on", async () => {
    const { cluster, clock, upstream } = forward({ ...retry({ retry_on: "5xx" }), hasBody: true });
    upstream.write(Buffer.from("1"));
    cluster.last.answer(500);
    expect(upstream.write(Buffer.from("2"))).toBe(false);
    await clock.advance(25);
    upstream.write(Buffer.from("3"));
    upstream.end();
    expect([cluster.last.body, cluster.last.ended]).toEqual([["1", "2", "3"], true]);
  });

  test("a body that is too long is not kept: no other attempt", () => {
    const { cluster, client, upstream } = forward({
      ...retry({ retry_on: "5xx" }),
      hasBody: true,
      options: { bufferLimitBytes: 3 },
    });
    upstream.write(Buffer.from("1234"));
    cluster.last.answer(500);
    expect([client.heard, cluster.sent.length]).toEqual([["head 500 end"], 1]);
  });

  test("nothing is tried again once the client has a head", async () => {
    const { cluster, clock, client } = forward(retry({ retry_on: "5xx,reset" }));
    cluster.last.reader.head({ status: 200, headers: new Headers() }, false);
    cluster.last.reader.reset("remote-reset", "");
    await clock.advance(1000);
    expect([cluster.sent.length, client.heard]).toEqual([1, ["head 200", "reset remote-reset"]]);
  });

  test("only requests that match, where it says so", () => {
    const policy = {
      retry_on: "5xx",
      retriable_request_headers: [{ name: ":method", string_match: { exact: "GET" } }],
    };
    const { cluster, client } = forward({ ...retry(policy), facts: { method: "POST" } });
    cluster.last.answer(500);
    expect(client.heard).toEqual(["head 500 end"]);
  });

  test("headers that a route adds steer it, and go no further", async () => {
    const setup = {
      headers: ["x-envoy-retry-on", "5xx", "x-envoy-max-retries", "1", "x-envoy-upstream-rq-timeout-ms", "70"],
    };
    const { cluster, clock, client } = forward({ facts: setup });
    expect(cluster.last.head.headers.pairs).toEqual(["x-envoy-expected-rq-timeout-ms", "70"]);
    cluster.last.answer(500);
    await clock.advance(20);
    expect(cluster.sent.length).toBe(2);
    await clock.advance(60);
    expect(client.heard).toEqual(["reply 504 upstream request timeout"]);
  });

  test("a client that leaves during a back-off ends it", async () => {
    const { cluster, clock, upstream } = forward(retry({ retry_on: "5xx" }));
    cluster.last.answer(500);
    upstream.reset("local-reset");
    expect([clock.pending, cluster.retries, cluster.requests]).toEqual([0, 0, 0]);
  });

  test("other priorities", async () => {
    const retry_priority = {
      name: "envoy.retry_priorities.previous_priorities",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        update_frequency: 2,
      },
    };
    const { cluster, clock } = forward(retry({ retry_on: "5xx", retry_priority }));
    cluster.last.answer(500);
    await clock.advance(25);
    const attempted = [cluster.hosts[0]];
    expect(cluster.picks[1]?.previousPriorities).toEqual({ updateFrequency: 2, attempted });
  });
});

describe("timeouts", () => {
  test("of the route, from the end of the request, all attempts together", async () => {
    const { cluster, clock, client, upstream, exchange } = forward({
      hasBody: true,
      action: { timeout: "1s", retry_policy: { retry_on: "5xx", num_retries: 9, per_try_timeout: "0.4s" } },
    });
    await clock.advance(5000);
    upstream.end();
    await clock.advance(999);
    expect([cluster.sent.length, client.heard]).toEqual([3, []]);
    await clock.advance(1);
    expect([client.heard, [...exchange.flags], clock.pending]).toEqual([["reply 504 upstream request timeout"], [], 0]);
    expect(client.reply_?.flag).toBe("UT");
    expect(cluster.sent.map(({ wasReset }) => wasReset)).toEqual([true, true, true]);
    expect(cluster.outcomes.map(({ kind }) => kind)).toEqual(["timeout", "timeout", "timeout"]);
  });

  test("0 is none", async () => {
    const { client, clock } = forward();
    expect(clock.pending).toBe(0);
    await clock.advance(1_000_000);
    expect(client.heard).toEqual([]);
  });

  test("one that is not shorter than the route's does not count for an attempt", async () => {
    const { cluster, clock, client } = forward({
      action: { timeout: "1s", retry_policy: { retry_on: "5xx", per_try_timeout: "1s" } },
    });
    expect(cluster.last.head.headers.get("x-envoy-expected-rq-timeout-ms")).toBe("1000");
    await clock.advance(1000);
    expect([cluster.sent.length, client.reply_?.details]).toEqual([1, "response_timeout"]);
  });

  test("of an attempt, with nothing left to try", async () => {
    const { clock, client } = forward(retry({ retry_on: "connect-failure", per_try_timeout: "1s" }));
    await clock.advance(1000);
    expect(client.reply_).toMatchObject({ status: 504, flag: "UT", details: "upstream_per_try_timeout" });
  });

  test("that runs out in the middle of an answer breaks it off", async () => {
    const { cluster, clock, client } = forward({ action: { timeout: "1s" } });
    cluster.last.reader.head({ status: 200, headers: new Headers() }, false);
    await clock.advance(1000);
    expect([client.heard, cluster.last.wasReset]).toEqual([["head 200", "reset local-reset"], true]);
  });

  test.each<[string, JsonObject, readonly string[], number]>([
    ["grpc-timeout up to a limit", { max_grpc_timeout: "2s" }, ["grpc-timeout", "5S"], 2000],
    ["grpc-timeout below it", { max_grpc_timeout: "2s" }, ["grpc-timeout", "100m"], 100],
    ["any grpc-timeout", { max_grpc_timeout: "0s" }, ["grpc-timeout", "3S"], 3000],
    ["none asked for", { max_grpc_timeout: "2s" }, [], 2000],
    ["with an offset", { max_grpc_timeout: "0s", grpc_timeout_offset: "0.2s" }, ["grpc-timeout", "1S"], 800],
  ])("%s", async (_name, action, headers, ms) => {
    const { clock, client } = forward({
      action: { timeout: "60s", ...action },
      facts: { headers: ["content-type", "application/grpc", ...headers] },
    });
    await clock.advance(ms - 1);
    expect(client.heard).toEqual([]);
    await clock.advance(1);
    expect(client.reply_?.status).toBe(504);
  });

  test("of a stream without a byte", async () => {
    const { clock, client, upstream } = forward({ hasBody: true, options: { streamIdleTimeoutMs: 1000 } });
    await clock.advance(900);
    upstream.write(Buffer.from("1"));
    await clock.advance(900);
    expect(client.heard).toEqual([]);
    await clock.advance(200);
    expect(client.reply_).toMatchObject({ status: 408, body: "stream timeout", flag: "SI" });
  });

  test("a route's own idle timeout, also in the middle of an answer", async () => {
    const { cluster, clock, client } = forward({
      action: { idle_timeout: "2s" },
      options: { streamIdleTimeoutMs: 1000 },
    });
    await clock.advance(1500);
    cluster.last.reader.head({ status: 200, headers: new Headers() }, false);
    await clock.advance(1500);
    expect(client.heard).toEqual(["head 200"]);
    await clock.advance(600);
    expect(client.heard).toEqual(["head 200", "reset local-reset"]);
  });
});

describe("mirrors", () => {
  const mirrored = (policy: JsonObject = {}, hasBody = false) => {
    const shadow = new FakeCluster("shadow");
    const action = { request_mirror_policies: [{ cluster: "shadow", ...policy }] };
    return {
      shadow,
      ...forward({ action, others: [shadow], hasBody, facts: { authority: "shop:80", headers: ["a", "1"] } }),
    };
  };

  test("get a copy; their answer is thrown away", () => {
    const { shadow, cluster, client, upstream } = mirrored({}, true);
    upstream.write(Buffer.from("1"));
    upstream.end();
    expect([
      shadow.last.head.authority,
      shadow.last.head.headers.get("a"),
      shadow.last.body,
      shadow.last.ended,
    ]).toEqual(["shop-shadow:80", "1", ["1"], true]);
    expect(cluster.last.head.authority).toBe("shop:80");
    shadow.last.answer(500, [], "x");
    cluster.last.answer(200);
    expect(client.heard).toEqual(["head 200 end"]);
    expect([shadow.requests, shadow.last.host.active]).toEqual([0, 0]);
  });

  test("the host's name stays where it says so", () => {
    expect(mirrored({ disable_shadow_host_suffix_append: true }).shadow.last.head.authority).toBe("shop:80");
  });

  test.each([
    [50, 1],
    [51, 2],
  ])("%d percent at a draw of 0.5 is %d", (numerator, wanted) => {
    const { shadow, cluster } = mirrored({ runtime_fraction: { default_value: { numerator } } });
    expect(shadow.sent.length + cluster.sent.length).toBe(wanted);
  });

  test("their slowness reaches nobody, and too much of it ends them", () => {
    const { shadow, upstream } = mirrored({}, true);
    shadow.last.takesMore = false;
    const chunk = Buffer.alloc(600 * 1024);
    expect([upstream.write(chunk), upstream.write(chunk), shadow.last.wasReset, shadow.requests]).toEqual([
      true,
      true,
      true,
      0,
    ]);
  });

  test("one that never answers is given up", async () => {
    const { shadow, clock, cluster } = mirrored();
    cluster.last.answer(200);
    await clock.advance(60_000);
    expect([shadow.last.wasReset, shadow.requests, clock.pending]).toEqual([true, 0, 0]);
  });
});
