import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { allAttributes } from "#shared/expressions/vocabularies.ts";
import { anExchange } from "#waypoint/layers/testing.ts";
import { Headers } from "#waypoint/http/headers.ts";
import { unknownPeer } from "#waypoint/telemetry/peers.ts";
import type { Subject } from "#waypoint/telemetry/subject.ts";
import { compileExpression } from "./compile-expression.ts";
import { asText } from "./values.ts";

const node = { id: "waypoint~10.0.0.1", cluster: "wp.shop", metadata: { CLUSTER_ID: "east", LABELS: { app: "wp" } } };

function subject(): Subject {
  const exchange = anExchange({
    method: "POST",
    path: "/orders?id=7",
    headers: ["x-user", "ann", "user-agent", "curl/8", "x-request-id", "r1"],
    hasBody: true,
  });
  exchange.flags.add("UF");
  exchange.responseCodeDetails = "rbac_access_denied_matched_policy[none]";
  exchange.metadata.set("envoy.filters.http.jwt_authn", {
    token: {
      iss: "https://issuer",
      sub: "ann",
      aud: "books",
      azp: "app",
      tier: "gold",
      quota: 7,
      realm: { roles: ["user", "admin"] },
    },
  });
  exchange.metadata.set("envoy.filters.http.rbac", { shadow: "denied", deep: { list: [1, 2] } });
  const response = { status: 503, headers: new Headers(["x-served-by", "a", "grpc-status", "14"]) };
  exchange.response = response;
  return {
    exchange,
    response,
    end: { responseTrailers: undefined, bytesReceived: 12, bytesSent: 34, durationMs: 1_500 },
    peers: {
      source: () => ({ ...unknownPeer, workload: "client", namespace: "shop" }),
      destination: () => unknownPeer,
    },
    chain: "inbound-vip|80|http|orders",
    isHttp: true,
  };
}

function evaluate(text: string): unknown {
  const problems: string[] = [];
  const read = compileExpression(
    text,
    { node, vocabulary: allAttributes },
    "at",
    (_path, message) => void problems.push(message),
  );
  if (problems.length > 0) return problems.join("; ");
  return read(subject());
}

describe("expressions", () => {
  test.each<[string, unknown]>([
    ["response.code >= 400", true],
    ["response.code == 503 && request.method == 'POST'", true],
    ['response.code == 200 || request.headers["x-user"] == "ann"', true],
    ["!connection.mtls", false],
    ["connection.mtls && !(response.code < 500)", true],
    ["has(request.headers)", true],
    ["has(upstream.address)", false],
    ['request.headers["absent"] == "x"', undefined],
    // The side that decides does, whatever the other comes to.
    ['request.headers["absent"] == "x" || response.code > 500', true],
    ['request.headers["absent"] == "x" && response.code < 500', false],
    ['request.headers["absent"] == "x" && response.code > 500', undefined],
    ["'x-user' in request.headers", true],
    ["request.method in ['GET', 'POST']", true],
    ["request.url_path", "/orders"],
    ["request.path.startsWith('/orders')", true],
    ["request.query", "id=7"],
    ["request.useragent.contains('curl')", true],
    ["request.path.matches('^/o.*id=[0-9]$')", true],
    ["size(request.method)", 4],
    ["request.method.size() == 4", true],
    ["string(response.code)", "503"],
    ["response.code / 100", 5],
    ["response.code % 100 + 1 * 2", 5],
    ['has(request.referer) ? request.referer : "none"', "none"],
    ["request.duration > duration('1s')", true],
    ["response.flags", 32],
    ["response.code_details.contains('rbac')", true],
    ["response.grpc_status", 14],
    ["metadata.filter_metadata['envoy.filters.http.rbac'].deep.list[1]", 2],
    ["filter_state['io.istio.peer_principal']", "spiffe://cluster.local/ns/shop/sa/frontend"],
    ["filter_state['nobody.set.this']", undefined],
    ["downstream_peer.workload + '/' + downstream_peer.namespace", "client/shop"],
    ["has(upstream_peer.workload)", false],
    ["node.metadata['CLUSTER_ID']", "east"],
    ["node.metadata.LABELS.app", "wp"],
    ["xds.filter_chain_name", "inbound-vip|80|http|orders"],
    ["source.address", "10.0.0.7:40000"],
    ["destination.port", 8080],
    ["-1 + 2", 1],
    ["r'a\\b' == 'a\\\\b'", true],
    ["1 == 1.0", true],
    ["1 / 0", undefined],
    ["5 / 2", 2],
    ["5.0 / 2", 2.5],
    ["double(5) / 2", 2.5],
    ["{'gold': 10, 'free': 1}['gold']", 10],
    ["{'gold': 10}['none']", undefined],
    ["'gold' in {'gold': 10}", true],
    ["size({1: 'a', 2: 'b'})", 2],
    ["[1, 2, 3].exists(x, x > 2)", true],
    ["[1, 2, 3].all(x, x > 1)", false],
    ["[1, 2, 3].exists_one(x, x == 2)", true],
    ["[1, 2, 3].filter(x, x != 2).size()", 2],
    ["[1, 2].map(x, [3, 4].map(y, x * y))[1][0]", 6],
    // What decides does so, whatever others come to.
    ["[1, 0].exists(x, 1 / x > 0)", true],
    ["[0, 1].exists(x, 1 / x > 5)", undefined],
    ["request.path.split('?')[0].split('/')[1]", "orders"],
    ["['a', 'b'].join('-')", "a-b"],
    ["'a.b.c'.replace('.', '/')", "a/b/c"],
    ["'abcd'.substring(1, 3)", "bc"],
    ["'abcd'.substring(1, 30)", undefined],
    ["'abcd'.indexOf('c')", 2],
    ["' a '.trim().upperAscii()", "A"],
    ["timestamp('2026-11-21T19:30:05Z').getHours()", 19],
    ["timestamp('2026-11-21T19:30:05Z').getDayOfWeek()", 6],
    ["duration('90m').getHours()", 1],
    ["source.principal", "cluster.local/ns/shop/sa/frontend"],
    ["source.namespace", "shop"],
    ["source.service_account", "shop/frontend"],
    ["source.ip", "10.0.0.7"],
    ["request.auth.principal", "https://issuer/ann"],
    ["'books' in request.auth.audiences", true],
    ["request.auth.presenter", "app"],
    ["request.auth.claims['realm'].roles.exists(r, r == 'admin')", true],
    ["request.auth.claims.tier", "gold"],
    ["has(request.auth.claims.nothing)", false],
    ["int(request.auth.claims.quota) * 2", 14],
    ["true ? 1 : 2", 1],
    ["timestamp('2020-01-01T00:00:00Z') < request.time", true],
  ])("%s is %p", (text, expected) => {
    expect(evaluate(text)).toEqual(expected);
  });

  test.each<[string, RegExp]>([
    ["response.cod >= 400", /"response.cod" is not known; known are code,/],
    ["user == 'x'", /attribute "user" is not known/],
    ["response.code >=", /expected a value at position 17, found the end/],
    ["response.code > 400 extra", /expected the end/],
    ["has(request.headers['x'])", /has\(\) takes one member/],
    ["request.path.foo()", /function "foo" is not known/],
    ["request.path.contains()", /contains\(\) takes 1 arguments, not 0/],
    ["request.path.matches('(')", /./],
    ["'open", /begins nothing/],
    ["a # b", /"#" at position 3 begins nothing/],
    [`${"(".repeat(100)}1${")".repeat(100)}`, /nested deeper/],
    ["x".repeat(5_000), /limit 4096/],
  ])("%.40s is refused", (text, reason) => {
    expect(evaluate(text)).toMatch(reason);
  });

  test("what an evaluation makes has bounds", () => {
    const doubled = (times: number): string =>
      times === 0 ? "request.path" : `(${doubled(times - 1)}).replace('/', 'aaaaaaaa/')`;
    expect(evaluate(doubled(5))).toEqual(expect.stringContaining("aaaa"));
    const list = `[${Array.from({ length: 100 }, (_, at) => at).join()}]`;
    expect(evaluate(`${list}.all(a, ${list}.all(b, a + b >= 0))`)).toBeUndefined();
    const pieces = Array.from({ length: 400 }, () => "r").join("+");
    expect(evaluate(`['${"x".repeat(3_000)}'].map(r, ${pieces})[0]`)).toBeUndefined();
  });

  test("whatever is written, it is refused in words or comes to a value", () => {
    const piece = fc.constantFrom(
      "response.code",
      ">=",
      "400",
      "&&",
      "!",
      "(",
      ")",
      "[",
      "]",
      "'a'",
      ".",
      "has",
      "in",
      "?",
      ":",
      "request.headers",
      "{",
      "}",
      "x",
      ".exists(x,",
      ".split(",
      "-",
      "==",
      ",",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        expect(() => evaluate(pieces.join(" "))).not.toThrow();
      }),
    );
  });

  test("labels have texts", () => {
    expect([asText("a"), asText(1), asText(true), asText(undefined), asText(null)]).toEqual([
      "a",
      "1",
      "true",
      undefined,
      undefined,
    ]);
  });
});
