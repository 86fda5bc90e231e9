import { describe, expect, test } from "@jest/globals";
import type { JsonObject } from "@bufbuild/protobuf";
import { Headers } from "#waypoint/http/headers.ts";
import { anExchange, type RequestFacts } from "#waypoint/layers/testing.ts";
import { aTable } from "#waypoint/routing/testing.ts";
import { CorsLayer } from "./cors-layer.ts";

const name = "envoy.filters.http.cors";
const type = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";
const all: JsonObject = {
  allow_origin_string_match: [{ exact: "https://a.example" }, { safe_regex: { regex: "https://[a-z]+\\.b" } }],
  allow_methods: "GET,PUT",
  allow_headers: "x-one",
  expose_headers: "x-two",
  max_age: "60",
  allow_credentials: true,
};

/** What the layer answers to a request (undefined: it passes), and what an upstream's answer has then. */
function ask(policy: JsonObject, facts: RequestFacts) {
  const route = {
    match: { prefix: "/" },
    route: { cluster: "c" },
    typed_per_filter_config: { [name]: { "@type": type, ...policy } },
  };
  const { table, problems } = aTable([route]);
  expect(problems).toEqual([]);
  const exchange = anExchange(facts);
  exchange.route = table.match(exchange);
  const layer = new CorsLayer(name, () => 0.5);
  const reply = layer.onRequest(exchange);
  const head = { status: 200, headers: new Headers(reply === undefined ? ["access-control-allow-origin", "up"] : []) };
  if (reply?.headers !== undefined) head.headers.pairs.push(...reply.headers.pairs);
  layer.onResponse(exchange, head);
  return { status: reply?.status, headers: Object.fromEntries(head.headers) };
}

const preflight = (origin: string, ...headers: string[]): RequestFacts => ({
  method: "OPTIONS",
  headers: ["origin", origin, "access-control-request-method", "PATCH", ...headers],
});
const untouched = { status: undefined, headers: { "access-control-allow-origin": "up" } };

describe("CORS", () => {
  test.each<[string, JsonObject, RequestFacts, object]>([
    [
      "preflight",
      all,
      preflight("https://a.example"),
      {
        status: 200,
        headers: {
          "access-control-allow-origin": "https://a.example",
          "access-control-allow-credentials": "true",
          "access-control-allow-methods": "GET,PUT",
          "access-control-allow-headers": "x-one",
          "access-control-expose-headers": "x-two",
          "access-control-max-age": "60",
        },
      },
    ],
    [
      "preflight, everything allowed",
      { allow_origin_string_match: [{ exact: "*" }], allow_methods: "*", allow_headers: "*" },
      preflight("null", "access-control-request-headers", "x-a,x-b"),
      {
        status: 200,
        headers: {
          "access-control-allow-origin": "null",
          "access-control-allow-methods": "PATCH",
          "access-control-allow-headers": "x-a,x-b",
        },
      },
    ],
    ["preflight of another origin goes on", all, preflight("https://a.example.evil"), untouched],
    [
      "or is answered",
      { ...all, forward_not_matching_preflights: false },
      preflight("https://evil"),
      { status: 200, headers: {} },
    ],
    [
      "a request",
      all,
      { headers: ["origin", "https://x.b"] },
      {
        status: undefined,
        headers: {
          "access-control-allow-origin": "https://x.b",
          "access-control-allow-credentials": "true",
          "access-control-expose-headers": "x-two",
        },
      },
    ],
    ["a request of another origin", all, { headers: ["origin", "https://evil"] }, untouched],
    [
      "another origin is not kept from its answer",
      { ...all, forward_not_matching_preflights: false },
      { headers: ["origin", "https://evil"] },
      untouched,
    ],
    ["no origin", all, { method: "OPTIONS" }, untouched],
    [
      "OPTIONS without the question",
      { allow_origin_string_match: [{ exact: "*" }] },
      { method: "OPTIONS", headers: ["origin", "o"] },
      { status: undefined, headers: { "access-control-allow-origin": "o" } },
    ],
    [
      "switched off",
      { ...all, filter_enabled: { default_value: { numerator: 0 } } },
      preflight("https://a.example"),
      untouched,
    ],
    [
      "private network",
      { allow_origin_string_match: [{ prefix: "h" }], allow_private_network_access: true },
      preflight("h", "access-control-request-private-network", "true"),
      { status: 200, headers: { "access-control-allow-origin": "h", "access-control-allow-private-network": "true" } },
    ],
  ])("%s", (_name, policy, facts, wanted) => {
    expect(ask(policy, facts)).toEqual(wanted);
  });
});
