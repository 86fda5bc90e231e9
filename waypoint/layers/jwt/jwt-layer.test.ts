import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK } from "jose";
import { JwtAuthenticationSchema } from "#shared/proto/gen/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import type { LocalReply } from "#waypoint/http/exchange.ts";
import { aContext, anExchange, noBody, packed, type RequestFacts, type TestContext } from "#waypoint/layers/testing.ts";
import { jwtLayer } from "./jwt-layer.ts";

let ec: CryptoKey;
let rsa: CryptoKey;
let rsaPublic: JWK;
let jwks: string;
let otherJwks: string;
const nowSeconds = 1_800_000_000;

beforeAll(async () => {
  const [ecPair, rsaPair, other] = await Promise.all([
    generateKeyPair("ES256", { extractable: true }),
    generateKeyPair("RS256", { extractable: true }),
    generateKeyPair("ES256", { extractable: true }),
  ]);
  [ec, rsa] = [ecPair.privateKey, rsaPair.privateKey];
  rsaPublic = { ...(await exportJWK(rsaPair.publicKey)), kid: "r" };
  jwks = JSON.stringify({ keys: [{ ...(await exportJWK(ecPair.publicKey)), kid: "e" }, rsaPublic] });
  otherJwks = JSON.stringify({ keys: [{ ...(await exportJWK(other.publicKey)), kid: "e" }] });
});

const claims = { iss: "me", sub: "ann", aud: ["shop"], exp: nowSeconds + 600 };
const sign = (payload: JsonObject, header: JsonObject = {}, key?: CryptoKey | Uint8Array): Promise<string> =>
  new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid: "e", ...header }).sign(key ?? ec);

const provider = (more: JsonObject = {}): JsonObject => ({
  issuer: "me",
  localJwks: { inlineString: jwks },
  payloadInMetadata: "payload",
  ...more,
});
const optional: JsonObject = { requiresAny: { requirements: [{ providerName: "p" }, { allowMissing: {} }] } };
const config = (more: JsonObject = {}, requires: JsonObject = optional): JsonObject => ({
  providers: { p: provider(more) },
  rules: [{ match: { prefix: "/" }, requires }],
  bypassCorsPreflight: true,
});

function compile(json: JsonValue, context: TestContext = aContext()) {
  const layer = jwtLayer.compile("jwt", packed(JwtAuthenticationSchema, json), context);
  expect(context.problems).toEqual([]);
  return {
    ask: async (facts: RequestFacts) => {
      const exchange = anExchange({ authority: "shop", ...facts });
      const reply: LocalReply | undefined = await layer?.onRequest?.(exchange, noBody);
      return { exchange, reply, status: reply?.status ?? 200 };
    },
  };
}

const bearer = (token: string): RequestFacts => ({ headers: ["authorization", `Bearer ${token}`] });

describe("what becomes of tokens", () => {
  type Make = () => Promise<RequestFacts> | RequestFacts;
  const cases: [string, Make, number, string?][] = [
    ["none", () => ({}), 200],
    ["valid", async () => bearer(await sign(claims)), 200],
    ["valid by another key of the set", async () => bearer(await sign(claims, { alg: "RS256", kid: "r" }, rsa)), 200],
    ["without kid: every key is tried", async () => bearer(await sign(claims, { kid: undefined as never })), 200],
    ["without expiry", async () => bearer(await sign({ iss: "me", aud: "shop" })), 200],
    ["expired within the skew", async () => bearer(await sign({ ...claims, exp: nowSeconds - 59 })), 200],
    ["expired", async () => bearer(await sign({ ...claims, exp: nowSeconds - 61 })), 401, "Jwt is expired"],
    ["not yet valid", async () => bearer(await sign({ ...claims, nbf: nowSeconds + 61 })), 401, "Jwt not yet valid"],
    [
      "of another issuer",
      async () => bearer(await sign({ ...claims, iss: "you" })),
      401,
      "Jwt issuer is not configured",
    ],
    [
      "for another audience",
      async () => bearer(await sign({ ...claims, aud: "bank" })),
      403,
      "Audiences in Jwt are not allowed",
    ],
    ["audience with scheme and slash", async () => bearer(await sign({ ...claims, aud: "https://shop/" })), 200],
    [
      "changed",
      async () =>
        bearer(
          (await sign(claims)).replace(
            /\.[^.]+\./,
            `.${Buffer.from(JSON.stringify({ ...claims, sub: "root" })).toString("base64url")}.c2ln`,
          ),
        ),
      401,
      "Jwt verification fails",
    ],
    [
      "of an unknown kid",
      async () => bearer(await sign(claims, { kid: "z" })),
      401,
      "Jwks doesn't have key to match kid or alg from Jwt",
    ],
    [
      "unsigned",
      () =>
        bearer(
          `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`,
        ),
      401,
      "Jwt header [alg] is not supported",
    ],
    [
      "signed with the public key as secret",
      async () => bearer(await sign(claims, { alg: "HS256", kid: "r" }, Buffer.from(JSON.stringify(rsaPublic)))),
      401,
      "Jwt verification fails",
    ],
    [
      "nonsense",
      () => bearer("a.b"),
      401,
      "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    ],
    [
      "huge",
      () => bearer(`${"a".repeat(20_000)}.b.c`),
      401,
      "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    ],
    ["not a bearer token", () => ({ headers: ["authorization", "Basic abc"] }), 200],
    ["as query parameter", async () => ({ path: `/?access_token=${await sign(claims)}` }), 200],
    [
      "a bad one beside a good one",
      async () => ({ ...bearer(await sign(claims)), path: "/?access_token=YQ.b.c" }),
      401,
      "Jwt header is an invalid JSON",
    ],
    [
      "a bad one in a second header",
      async () => ({ headers: ["authorization", `Bearer ${await sign(claims)}`, "authorization", "Bearer a.b"] }),
      401,
      "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    ],
    [
      "preflight",
      () => ({
        method: "OPTIONS",
        headers: ["origin", "http://a", "access-control-request-method", "GET", "authorization", "Bearer x"],
      }),
      200,
    ],
    ["OPTIONS that is none", () => ({ method: "OPTIONS", headers: ["authorization", "Bearer a.b"] }), 401],
  ];
  test.each(cases.map(([what, make, status, body = ""]) => ({ what, make, status, body })))("$what", async (row) => {
    const { make, status, body } = row;
    const { ask } = compile(config({ audiences: ["http://shop"] }, optional));
    const made = await make();
    for (const again of [1, 2]) {
      const { reply, status: found } = await ask(made);
      expect({ again, status: found }).toEqual({ again, status });
      expect(reply?.body ?? "").toContain(body);
    }
  });

  test("says in the answer what is missing and what is wrong", async () => {
    const required = compile(config({}, { providerName: "p" }));
    const missing = await required.ask({ path: "/a?b" });
    expect(missing.reply?.headers?.get("www-authenticate")).toBe('Bearer realm="http://shop/a?b"');
    expect(missing.reply?.details).toBe("jwt_authn_access_denied{Jwt_is_missing}");
    const wrong = await required.ask({ path: '/"', ...bearer("x") });
    expect(wrong.reply?.headers?.get("www-authenticate")).toBe('Bearer realm="http://shop/%22", error="invalid_token"');
  });

  test("an expired token is refused although its signature is remembered", async () => {
    const context = aContext();
    const { ask } = compile(config(), context);
    const request = bearer(await sign({ ...claims, exp: nowSeconds + 1 }));
    expect((await ask(request)).status).toBe(200);
    await context.clock.advance(62_000);
    expect((await ask(request)).reply?.body).toBe("Jwt is expired");
  });

  test.each<[string, string]>([
    ["an empty key set", '{"keys":[]}'],
    ["what is no key set", "<html>"],
  ])("%s lets no token pass, and no token is still no token", async (_what, inlineString) => {
    const { ask } = compile(config({ localJwks: { inlineString } }));
    expect((await ask(bearer(await sign(claims)))).reply?.body).toBe("Jwks doesn't have any valid public key");
    expect((await ask({})).status).toBe(200);
  });
});

describe("several providers", () => {
  const two = (): JsonObject => ({
    providers: { a: provider(), b: provider({ issuer: "you", localJwks: { inlineString: otherJwks } }) },
    rules: [
      {
        match: { prefix: "/" },
        requires: {
          requiresAny: {
            requirements: [
              { providerName: "a" },
              { providerName: "b" },
              {
                requiresAll: {
                  requirements: ["a", "b"].map((name) => ({
                    requiresAny: { requirements: [{ providerName: name }, { allowMissing: {} }] },
                  })),
                },
              },
            ],
          },
        },
      },
    ],
  });

  test.each<[string, () => Promise<string> | undefined, string | undefined]>([
    ["no token", () => undefined, undefined],
    ["a token of the first", () => sign(claims), undefined],
    ["a token of nobody", () => sign({ ...claims, iss: "x" }), "Jwt issuer is not configured"],
    ["a bad token of the second", () => sign({ ...claims, iss: "you" }), "Jwt verification fails"],
  ])("%s", async (_what, make, body) => {
    const token = await make();
    const { reply } = await compile(two()).ask(token === undefined ? {} : bearer(token));
    expect(reply?.body).toBe(body);
  });
});

describe("what a valid token leaves in the request", () => {
  test("payload, claims, and not itself", async () => {
    const { ask } = compile(
      config({
        fromHeaders: [{ name: "X-Token" }],
        fromParams: ["t"],
        fromCookies: ["c"],
        forwardPayloadHeader: "X-Payload",
        claimToHeaders: [
          { headerName: "x-sub", claimName: "sub" },
          { headerName: "x-deep", claimName: "n.deep" },
          { headerName: "x-list", claimName: "aud" },
          { headerName: "x-none", claimName: "none" },
          { headerName: "x-line", claimName: "line" },
        ],
        normalizePayloadInMetadata: { spaceDelimitedClaims: ["scope"] },
        clearRouteCache: true,
      }),
    );
    const payload = { ...claims, n: { deep: 7 }, scope: "read write", line: "a\r\nx-evil: 1" };
    const token = await sign(payload);
    const forged = [
      "x-sub",
      "root",
      "x-payload",
      "forged",
      "x-none",
      "forged",
      "x-token",
      token,
      "cookie",
      `a=1; c=${token}`,
    ];
    const { exchange, status } = await ask({ path: `/p?a=1&t=${token}&b=%2F`, headers: forged });
    const { headers, path } = exchange.request;
    expect(status).toBe(200);
    expect(path).toBe("/p?a=1&b=%2F");
    expect(Object.fromEntries(headers)).toEqual({
      cookie: "a=1",
      "x-sub": "ann",
      "x-deep": "7",
      "x-list": Buffer.from('["shop"]').toString("base64url"),
      "x-payload": token.split(".")[1],
    });
    expect(exchange.metadataOf("envoy.filters.http.jwt_authn")).toEqual({
      payload: { ...payload, scope: ["read", "write"] },
    });
  });

  test("forwarded where asked", async () => {
    const request = bearer(await sign(claims));
    const { exchange } = await compile(config({ forward: true })).ask(request);
    expect(exchange.request.headers.pairs).toEqual(request.headers);
  });
});

describe("rules by route", () => {
  test("the first that matches holds; without one nothing is needed", async () => {
    const { ask } = compile({
      providers: { p: provider() },
      rules: [{ match: { path: "/open" } }, { match: { prefix: "/closed" }, requires: { providerName: "p" } }],
    });
    expect((await ask({ path: "/open" })).status).toBe(200);
    expect((await ask({ path: "/closed/x?y" })).status).toBe(401);
    expect((await ask({ path: "/other" })).status).toBe(200);
  });
});

test.each<[string, () => JsonObject, string]>([
  ["keys in a file", () => config({ localJwks: { filename: "/etc/keys" } }), "only inline keys"],
  ["an unknown provider", () => config({}, { providerName: "q" }), 'no provider "q"'],
  [
    "keys from a metadata service",
    () => ({
      providers: {
        p: {
          issuer: "me",
          remoteJwks: { httpUri: { uri: "http://169.254.169.254/keys", cluster: "c", timeout: "1s" } },
        },
      },
    }),
    "metadata address",
  ],
])("refuses %s", (_what, json, message) => {
  const context = aContext();
  jwtLayer.compile("jwt", packed(JwtAuthenticationSchema, json()), context);
  expect(context.problems.join()).toContain(message);
});
