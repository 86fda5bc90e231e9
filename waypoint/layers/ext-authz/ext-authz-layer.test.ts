import { create, fromBinary, toBinary, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import { ExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { ExtAuthzSchema as NetworkExtAuthzSchema } from "#shared/proto/gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.js";
import { CheckRequestSchema, CheckResponseSchema } from "#shared/proto/gen/envoy/service/auth/v3/external_auth_pb.js";
import { StatusCode } from "#shared/proto/gen/envoy/type/v3/http_status_pb.js";
import type { LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestBody } from "#waypoint/layers/layer.ts";
import {
  aConnection,
  aContext,
  anAnsweringCluster,
  anExchange,
  noBody,
  packed,
  type Answered,
  type Asked,
  type RequestFacts,
} from "#waypoint/layers/testing.ts";
import { extAuthzLayer } from "./ext-authz-layer.ts";
import { extAuthzNetworkLayer } from "./ext-authz-network-layer.ts";

function compile(config: JsonObject, answer: (asked: Asked) => Answered | undefined) {
  const { clusters, asked } = anAnsweringCluster("authz", answer);
  const context = aContext(clusters);
  const layer = extAuthzLayer.compile("ext_authz", packed(ExtAuthzSchema, config), context);
  expect(context.problems).toEqual([]);
  const ask = async (facts: RequestFacts = {}, body: RequestBody = noBody) => {
    const exchange = anExchange(facts);
    const reply: LocalReply | undefined = await layer?.onRequest?.(exchange, body);
    return { exchange, reply, layer };
  };
  return { ask, asked };
}

const httpConfig = (more: JsonObject = {}, response: JsonObject = {}, filter: JsonObject = {}): JsonObject => ({
  httpService: {
    serverUri: { uri: "http://authz", cluster: "authz", timeout: "1s" },
    authorizationResponse: response,
    ...more,
  },
  ...filter,
});
const named = (...names: string[]) => ({ patterns: names.map((exact) => ({ exact })) });

describe("over HTTP", () => {
  test("asks with method, path, host and the headers that are always told", async () => {
    const { ask, asked } = compile(
      httpConfig(
        { pathPrefix: "/check", authorizationRequest: { headersToAdd: [{ key: "x-from", value: "waypoint" }] } },
        {},
        { allowedHeaders: { patterns: [{ prefix: "x-a", ignoreCase: true }] } },
      ),
      () => ({ status: 200 }),
    );
    const headers = ["authorization", "Bearer t", "x-a1", "1", "cookie", "secret=1", "content-length", "9"];
    expect((await ask({ method: "POST", path: "/p?q", authority: "shop", headers })).reply).toBeUndefined();
    expect(asked[0]?.head).toMatchObject({ method: "POST", path: "/check/p?q", authority: "shop" });
    expect(asked[0]?.head.headers.pairs).toEqual([
      "authorization",
      "Bearer t",
      "x-a1",
      "1",
      "content-length",
      "0",
      "x-from",
      "waypoint",
    ]);
  });

  test("an allowed request gets the chosen headers, and so does its answer", async () => {
    const { ask } = compile(
      httpConfig(
        {},
        {
          allowedUpstreamHeaders: named("x-user"),
          allowedUpstreamHeadersToAppend: named("x-trace"),
          allowedClientHeadersOnSuccess: named("x-seen"),
          dynamicMetadataFromHeaders: named("x-user"),
        },
      ),
      () => ({ status: 200, headers: ["x-user", "ann", "x-trace", "b", "x-seen", "yes", "x-other", "1"] }),
    );
    const { exchange, layer } = await ask({ headers: ["x-user", "forged", "x-trace", "a"] });
    expect(exchange.request.headers.pairs).toEqual(["x-user", "ann", "x-trace", "a,b"]);
    const head = { status: 200, headers: new Headers() };
    layer?.onResponse?.(exchange, head);
    expect(head.headers.pairs).toEqual(["x-seen", "yes"]);
    expect(exchange.metadataOf("envoy.filters.http.ext_authz")).toEqual({ "x-user": "ann" });
  });

  test.each<[string, JsonObject, string[]]>([
    ["everything that is not of the connection", {}, ["location", "/login", "x-why", "no"]],
    ["what is chosen and what a browser needs", { allowedClientHeaders: named("x-none") }, ["location", "/login"]],
  ])("a denied client is told %s", async (_what, response, headers) => {
    const { ask } = compile(httpConfig({}, response), () => ({
      status: 302,
      headers: ["location", "/login", "x-why", "no", "content-length", "2", "connection", "close"],
      body: "no",
    }));
    const { reply } = await ask();
    expect(reply).toEqual({
      status: 302,
      body: "no",
      headers: new Headers(headers),
      details: "ext_authz_denied",
      flag: "UAEX",
    });
  });

  test.each<[string, JsonObject, number | undefined]>([
    ["denied", {}, 403],
    ["denied as configured", { statusOnError: { code: 503 } }, 503],
    ["allowed where it fails open", { failureModeAllow: true, failureModeAllowHeaderAdd: true }, undefined],
  ])("an error means %s", async (_what, filter, status) => {
    const { ask } = compile(httpConfig({}, {}, filter), () => ({ status: 500 }));
    const { reply, exchange } = await ask();
    expect(reply?.status).toBe(status);
    expect(reply?.details).toBe(status === undefined ? undefined : "ext_authz_error");
    const marked = exchange.request.headers.get("x-envoy-auth-failure-mode-allowed");
    expect(marked).toBe(status === undefined ? "true" : undefined);
  });

  test("no answer in time is an error", async () => {
    const uri = { uri: "http://authz", cluster: "authz", timeout: "0.02s" };
    const { ask } = compile(httpConfig({ serverUri: uri }), () => undefined);
    expect((await ask()).reply).toMatchObject({ status: 403, details: "ext_authz_error", flag: "UAEX" });
  });

  test("tells the body, and refuses one that is longer than may be told", async () => {
    const config = (allowPartialMessage: boolean) =>
      httpConfig({}, {}, { withRequestBody: { maxRequestBytes: 4, allowPartialMessage } });
    const long: RequestBody = {
      peek: (max) => Promise.resolve({ bytes: Buffer.from("abcdef").subarray(0, max), isComplete: false }),
    };
    const withBody = (layer: ReturnType<typeof compile>, body: RequestBody) => layer.ask({ hasBody: true }, body);
    const strict = compile(config(false), () => ({ status: 200 }));
    expect((await withBody(strict, long)).reply).toMatchObject({ status: 413, body: "Payload Too Large" });
    const lenient = compile(config(true), () => ({ status: 200 }));
    expect((await withBody(lenient, long)).reply).toBeUndefined();
    expect(lenient.asked[0]?.body.toString()).toBe("abcd");
    expect(lenient.asked[0]?.head.headers.get("x-envoy-auth-partial-body")).toBe("true");
  });
});

type Answer = Exclude<MessageInitShape<typeof CheckResponseSchema>, { $typeName: string }>;

function grpcAnswer(answer: Answer): Answered {
  const message = toBinary(CheckResponseSchema, create(CheckResponseSchema, answer));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return { status: 200, body: Buffer.concat([prefix, message]), trailers: ["grpc-status", "0"] };
}
const grpcConfig = (more: JsonObject = {}): JsonObject => ({
  grpcService: { envoyGrpc: { clusterName: "authz", authority: "authz.shop" }, timeout: "1s" },
  transportApiVersion: "V3",
  ...more,
});
const asked = ({ body }: Asked) => fromBinary(CheckRequestSchema, body.subarray(5)).attributes;

describe("over gRPC", () => {
  test("tells who asks for what", async () => {
    const layer = compile(grpcConfig({ metadataContextNamespaces: ["m"] }), () => grpcAnswer({}));
    const exchange = await layer.ask({ method: "POST", path: "/p?q", headers: ["x-a", "1", "x-a", "2"] });
    expect(exchange.reply).toBeUndefined();
    expect(layer.asked[0]?.head).toMatchObject({
      path: "/envoy.service.auth.v3.Authorization/Check",
      authority: "authz.shop",
    });
    expect(asked(layer.asked[0] as Asked)).toMatchObject({
      source: {
        principal: "spiffe://cluster.local/ns/shop/sa/frontend",
        address: { address: { value: { address: "10.0.0.7", portSpecifier: { value: 40_000 } } } },
      },
      destination: { address: { address: { value: { address: "10.96.0.10", portSpecifier: { value: 8080 } } } } },
      request: {
        http: {
          method: "POST",
          path: "/p?q",
          host: "catalog.shop",
          protocol: "HTTP/1.1",
          headers: { ":method": "POST", ":path": "/p?q", ":authority": "catalog.shop", "x-a": "1,2" },
        },
      },
    });
  });

  test("an allowed request is edited", async () => {
    const { ask } = compile(grpcConfig(), () =>
      grpcAnswer({
        dynamicMetadata: { user: "ann" },
        httpResponse: {
          case: "okResponse",
          value: {
            headers: [
              { header: { key: "X-User", value: "ann" } },
              { header: { key: "x-a", value: "2" }, append: true },
              { header: { key: ":path", value: "/other?x=1&y=2" } },
            ],
            headersToRemove: ["authorization", ":method"],
            responseHeadersToAdd: [{ header: { key: "x-seen", value: "1" } }],
            queryParametersToRemove: ["x"],
            queryParametersToSet: [{ key: "z", value: "a b" }],
          },
        },
      }),
    );
    const { exchange, layer } = await ask({ headers: ["x-user", "forged", "x-a", "1", "authorization", "t"] });
    expect(exchange.request).toMatchObject({ method: "GET", path: "/other?y=2&z=a%20b" });
    expect(exchange.request.headers.pairs).toEqual(["x-user", "ann", "x-a", "1,2"]);
    expect(exchange.metadataOf("envoy.filters.http.ext_authz")).toEqual({ user: "ann" });
    const head = { status: 200, headers: new Headers() };
    layer?.onResponse?.(exchange, head);
    expect(head.headers.pairs).toEqual(["x-seen", "1"]);
  });

  test.each<[string, Answer, object]>([
    ["denied", { status: { code: 7 } }, { status: 403, body: "", details: "ext_authz_denied", flag: "UAEX" }],
    [
      "denied with an answer of its own",
      {
        status: { code: 16 },
        httpResponse: {
          case: "deniedResponse",
          value: {
            status: { code: StatusCode.Unauthorized },
            body: "who?",
            headers: [{ header: { key: "X-Why", value: "no token" } }],
          },
        },
      },
      { status: 401, body: "who?", headers: new Headers(["x-why", "no token"]) },
    ],
    [
      "an error where a header could end the head",
      { httpResponse: { case: "okResponse", value: { headers: [{ header: { key: "x", value: "a\r\nb: c" } }] } } },
      { status: 403, details: "ext_authz_error" },
    ],
  ])("%s", async (_what, answer, reply) => {
    const { ask } = compile(grpcConfig(), () => grpcAnswer(answer));
    expect((await ask()).reply).toMatchObject(reply);
  });

  test.each<[string, Answered]>([
    ["a status", { status: 200, headers: ["grpc-status", "14"] }],
    ["no message", { status: 200, trailers: ["grpc-status", "0"] }],
    ["nonsense", { status: 200, body: Buffer.from([0, 0, 0, 0, 2, 255, 255]), trailers: ["grpc-status", "0"] }],
  ])("%s instead of an answer is an error", async (_what, answered) => {
    const { ask } = compile(grpcConfig(), () => answered);
    expect((await ask()).reply).toMatchObject({ status: 403, details: "ext_authz_error" });
  });

  test("is asked only where the rules before it matched", async () => {
    const { ask, asked: calls } = compile(
      grpcConfig({
        filterEnabledMetadata: {
          filter: "envoy.filters.http.rbac",
          path: [{ key: "istio_ext_authz_shadow_effective_policy_id" }],
          value: { stringMatch: { prefix: "istio-ext-authz-opa-" } },
        },
      }),
      () => grpcAnswer({ status: { code: 7 } }),
    );
    expect((await ask()).reply).toBeUndefined();
    expect(calls).toHaveLength(0);
  });
});

test("connections are asked about over gRPC", async () => {
  for (const [code, details] of [
    [0, undefined],
    [7, "ext_authz_denied"],
  ] as const) {
    const { clusters, asked: calls } = anAnsweringCluster("authz", () => grpcAnswer({ status: { code } }));
    const config = {
      statPrefix: "tcp.",
      grpcService: { envoyGrpc: { clusterName: "authz" } },
      transportApiVersion: "V3",
    };
    const layer = extAuthzNetworkLayer.compile("x", packed(NetworkExtAuthzSchema, config), aContext(clusters));
    const refusal = await layer?.onConnection({
      connection: aConnection(),
      metadataOf: () => undefined,
      setMetadata: () => {},
    });
    expect(refusal?.details).toBe(details);
    expect(asked(calls[0] as Asked)?.source?.principal).toBe("spiffe://cluster.local/ns/shop/sa/frontend");
  }
});
