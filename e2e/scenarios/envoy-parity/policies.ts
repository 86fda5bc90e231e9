/** CORS, tokens, rate limits, faults. */
import type { JsonObject } from "@bufbuild/protobuf";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { typed } from "#waypoint/testing/resources.ts";
import { grpc, http1, type Case } from "./case.ts";

const filter = (name: string, type: string, fields: JsonObject): JsonObject => ({
  typed_per_filter_config: { [name]: { "@type": `type.googleapis.com/${type}`, ...fields } },
});
const toBackend = { cluster: "backend", timeout: "0s" };
const route = (path: string, more: JsonObject): JsonObject => ({ match: { prefix: path }, route: toBackend, ...more });

const cors = (path: string, fields: JsonObject) =>
  route(path, filter("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.CorsPolicy", fields));
const fault = (path: string, fields: JsonObject) =>
  route(path, filter("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault", fields));
const whole = { numerator: 100 };
const limited = (path: string, fields: JsonObject) =>
  route(
    path,
    filter("envoy.filters.http.local_ratelimit", "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", {
      stat_prefix: "one",
      filter_enabled: { default_value: whole },
      filter_enforced: { default_value: whole },
      ...fields,
    }),
  );
const token = (path: string, requirement: string) =>
  route(
    path,
    filter("envoy.filters.http.jwt_authn", "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig", {
      requirement_name: requirement,
    }),
  );

const bucket = (tokens: number) => ({
  token_bucket: { max_tokens: tokens, tokens_per_fill: 1, fill_interval: "3600s" },
});

export const policyHosts: readonly {
  readonly name: string;
  readonly routes: readonly JsonObject[];
  readonly more?: JsonObject;
}[] = [
  {
    name: "cors",
    routes: [
      cors("/full", {
        allow_origin_string_match: [{ exact: "https://a.example" }, { suffix: ".b.example" }],
        allow_methods: "GET,POST",
        allow_headers: "x-one",
        expose_headers: "x-two",
        max_age: "600",
        allow_credentials: true,
      }),
      cors("/any", {
        allow_origin_string_match: [{ safe_regex: { regex: ".*" } }],
        forward_not_matching_preflights: false,
      }),
      cors("/star", { allow_origin_string_match: [{ exact: "*" }], allow_methods: "GET" }),
      cors("/off", {
        allow_origin_string_match: [{ exact: "https://a.example" }],
        filter_enabled: { default_value: { numerator: 0 } },
      }),
      route("/none", {}),
    ],
  },
  {
    name: "fault",
    routes: [
      fault("/abort", { abort: { http_status: 418, percentage: whole } }),
      fault("/grpc-abort", { abort: { grpc_status: 7, percentage: whole } }),
      fault("/delay", { delay: { fixed_delay: "0.05s", percentage: whole } }),
      fault("/both", {
        delay: { fixed_delay: "0.05s", percentage: whole },
        abort: { http_status: 503, percentage: whole },
      }),
      fault("/by-header", { abort: { header_abort: {}, percentage: whole } }),
      fault("/some", {
        headers: [{ name: "x-fault", string_match: { exact: "yes" } }],
        abort: { http_status: 555, percentage: whole },
      }),
      fault("/never", { abort: { http_status: 500, percentage: { numerator: 0 } } }),
    ],
  },
  {
    name: "limits",
    routes: [
      limited("/one", bucket(1)),
      limited("/told", {
        ...bucket(1),
        enable_x_ratelimit_headers: "DRAFT_VERSION_03",
        response_headers_to_add: [{ header: { key: "x-limited", value: "%RESPONSE_CODE%" } }],
      }),
      limited("/status", { ...bucket(1), status: { code: 503 } }),
      limited("/low-status", { ...bucket(1), status: { code: 200 } }),
      limited("/exhausted", { ...bucket(1), rate_limited_as_resource_exhausted: true }),
      limited("/unavailable", bucket(1)),
      limited("/shadow", {
        ...bucket(1),
        filter_enforced: { default_value: { numerator: 0 } },
        request_headers_to_add_when_not_enforced: [{ header: { key: "x-would", value: "limit" } }],
      }),
      {
        match: { prefix: "/described" },
        route: {
          ...toBackend,
          rate_limits: [{ actions: [{ request_headers: { header_name: "x-who", descriptor_key: "who" } }] }],
        },
        ...filter(
          "envoy.filters.http.local_ratelimit",
          "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
          {
            stat_prefix: "one",
            filter_enabled: { default_value: whole },
            filter_enforced: { default_value: whole },
            token_bucket: { max_tokens: 100, tokens_per_fill: 100, fill_interval: "3600s" },
            descriptors: [{ entries: [{ key: "who", value: "me" }], ...bucket(1) }],
          },
        ),
      },
    ],
  },
  {
    name: "tokens",
    routes: [
      token("/needed", "needed"),
      token("/either", "either"),
      token("/optional", "optional"),
      token("/missing-ok", "missing-ok"),
      token("/param", "param"),
      token("/forwarded", "forwarded"),
      token("/claims", "claims"),
      token("/cookie", "cookie"),
      token("/both", "both"),
      route("/", {}),
    ],
  },
];

const key = await generateKeyPair("RS256");
const otherKey = await generateKeyPair("RS256");
const keys = JSON.stringify({ keys: [{ ...(await exportJWK(key.publicKey)), kid: "one", alg: "RS256", use: "sig" }] });

const provider = (more: JsonObject = {}): JsonObject => ({
  issuer: "https://issuer.example",
  local_jwks: { inline_string: keys },
  ...more,
});

export const jwtFilter: JsonObject = typed(
  "envoy.filters.http.jwt_authn",
  "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
  {
    providers: {
      // So much that it does not matter how long the tests take.
      plain: provider({ clock_skew_seconds: 1_800 }),
      audience: provider({ audiences: ["shop", "market"] }),
      param: provider({ from_params: ["token"], from_headers: [{ name: "x-token", value_prefix: "tok " }] }),
      claims: provider({
        claim_to_headers: ["name", "groups", "address.city", "admin", "age", "none"].map((claim_name) => ({
          header_name: `x-claim-${claim_name.replace(".", "-")}`,
          claim_name,
        })),
        pad_forward_payload_header: true,
        forward_payload_header: "x-payload",
      }),
      cookie: provider({ from_cookies: ["token"] }),
      forwarded: provider({
        forward: true,
        forward_payload_header: "x-payload",
        claim_to_headers: [{ header_name: "x-sub", claim_name: "sub" }],
      }),
    },
    bypass_cors_preflight: true,
    requirement_map: {
      needed: { provider_name: "plain" },
      either: { requires_any: { requirements: [{ provider_name: "audience" }, { provider_name: "param" }] } },
      optional: { requires_any: { requirements: [{ provider_name: "plain" }, { allow_missing_or_failed: {} }] } },
      "missing-ok": { requires_any: { requirements: [{ provider_name: "plain" }, { allow_missing: {} }] } },
      param: { provider_name: "param" },
      forwarded: { provider_name: "forwarded" },
      claims: { provider_name: "claims" },
      cookie: { provider_name: "cookie" },
      both: { requires_all: { requirements: [{ provider_name: "audience" }, { provider_name: "param" }] } },
    },
  },
);

const now = Math.floor(Date.now() / 1000);
interface Claims {
  readonly [name: string]: unknown;
}
const sign = (claims: Claims, by = key, kid = "one"): Promise<string> =>
  new SignJWT({ iss: "https://issuer.example", sub: "me", exp: now + 3600, ...claims })
    .setProtectedHeader({ alg: "RS256", kid })
    .sign(by.privateKey);

const tokens = {
  good: await sign({}),
  expired: await sign({ exp: now - 3600 }),
  early: await sign({ nbf: now + 3600 }),
  stranger: await sign({ iss: "https://other.example" }),
  forOthers: await sign({ aud: "elsewhere" }),
  forUs: await sign({ aud: ["x", "shop"] }),
  forUsByUrl: await sign({ aud: "https://shop/" }),
  justExpired: await sign({ exp: now - 600 }),
  almost: await sign({ nbf: now + 600 }),
  endless: await sign({ exp: undefined }),
  claims: await sign({ name: "José", groups: ["a", "b"], address: { city: "Lyon" }, admin: true, age: 7 }),
  forged: await sign({}, otherKey),
  unknownKey: await sign({}, otherKey, "two"),
};
const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${tokens.good.split(".")[1]}.`;

const bearer = (value: string) => ({ headers: [["Authorization", `Bearer ${value}`]] as const });
const origin = (value: string, ...more: readonly (readonly [string, string])[]) => ({
  headers: [["Origin", value], ...more] as const,
});
const asked = [["Access-Control-Request-Method", "GET"]] as const;
const preflight = (value: string) => ({ method: "OPTIONS", ...origin(value, ...asked) });

export const corsCases: readonly Case[] = [
  http1("a request from an origin", "cors.example", "/full", 200, origin("https://a.example")),
  http1("a request from an origin by suffix", "cors.example", "/full", 200, origin("https://x.b.example")),
  http1("a request from elsewhere", "cors.example", "/full", 200, origin("https://c.example")),
  http1("a preflight", "cors.example", "/full", 200, preflight("https://a.example")),
  http1("a preflight from elsewhere", "cors.example", "/full", 200, preflight("https://c.example")),
  http1("OPTIONS that is no preflight", "cors.example", "/full", 200, {
    method: "OPTIONS",
    ...origin("https://a.example"),
  }),
  http1("a preflight of no origin", "cors.example", "/full", 200, { method: "OPTIONS", headers: asked }),
  http1("a preflight to anybody", "cors.example", "/any", 200, preflight("https://q.example")),
  http1("a preflight to the star", "cors.example", "/star", 200, preflight("https://q.example")),
  http1("a request to the star", "cors.example", "/star", 200, origin("null")),
  http1("switched off", "cors.example", "/off", 200, origin("https://a.example")),
  http1("no policy", "cors.example", "/none", 200, preflight("https://a.example")),
  http1(
    "a backend's own headers",
    "cors.example",
    "/full",
    200,
    origin("https://a.example", [
      "x-answer-with",
      '{"access-control-allow-origin":"https://z.example","access-control-allow-credentials":"false"}',
    ]),
  ),
];

export const faultCases: readonly Case[] = [
  http1("an abort", "fault.example", "/abort", 418),
  grpc("an abort of gRPC", "fault.example", "/abort"),
  grpc("an abort by gRPC status", "fault.example", "/grpc-abort"),
  http1("an abort by gRPC status of HTTP", "fault.example", "/grpc-abort", 200),
  http1("a delay", "fault.example", "/delay", 200),
  http1("delay and abort", "fault.example", "/both", 503),
  http1("an abort as the client says", "fault.example", "/by-header", 429, {
    headers: [["x-envoy-fault-abort-request", "429"]],
  }),
  http1("the client says nothing", "fault.example", "/by-header", 200),
  http1("only with a header", "fault.example", "/some", 555, { headers: [["x-fault", "yes"]] }),
  http1("not without it", "fault.example", "/some", 200),
  http1("never", "fault.example", "/never", 200),
];

const twice = (
  name: string,
  path: string,
  second: number,
  headers: Readonly<Record<string, string>> = {},
): readonly Case[] => {
  const spoken = { headers: Object.entries(headers) };
  return [
    http1(`${name}: the first`, "limits.example", path, 200, spoken),
    http1(`${name}: the second`, "limits.example", path, second, spoken),
  ];
};

export const limitCases: readonly Case[] = [
  ...twice("a bucket of one", "/one", 429),
  ...twice("limits told", "/told", 429),
  ...twice("a status", "/status", 503),
  ...twice("a status that is no error", "/low-status", 429),
  ...twice("shadow", "/shadow", 200),
  ...twice("a descriptor", "/described", 429, { "x-who": "me" }),
  ...twice("another descriptor", "/described", 200, { "x-who": "you" }),
  http1("gRPC: the first", "limits.example", "/exhausted", 200),
  grpc("gRPC: the second is exhausted", "limits.example", "/exhausted"),
  http1("gRPC by default: the first", "limits.example", "/unavailable", 200),
  grpc("gRPC by default: the second is unavailable", "limits.example", "/unavailable"),
];

export const tokenCases: readonly Case[] = [
  http1("a good token", "tokens.example", "/needed", 200, bearer(tokens.good)),
  http1("no token", "tokens.example", "/needed", 401),
  http1("an expired token", "tokens.example", "/needed", 401, bearer(tokens.expired)),
  http1("a token before its time", "tokens.example", "/needed", 401, bearer(tokens.early)),
  http1("a stranger's token", "tokens.example", "/needed", 401, bearer(tokens.stranger)),
  http1("a forged token", "tokens.example", "/needed", 401, bearer(tokens.forged)),
  http1("a token of an unknown key", "tokens.example", "/needed", 401, bearer(tokens.unknownKey)),
  http1("an unsigned token", "tokens.example", "/needed", 401, bearer(unsigned)),
  http1("junk for a token", "tokens.example", "/needed", 401, bearer("a.b.c")),
  http1("one part of a token", "tokens.example", "/needed", 401, bearer("abc")),
  http1("another scheme", "tokens.example", "/needed", 401, { headers: [["authorization", "Basic abc"]] }),
  http1("a scheme in lower case", "tokens.example", "/needed", 401, {
    headers: [["authorization", `bearer ${tokens.good}`]],
  }),
  http1("a token for us", "tokens.example", "/either", 200, bearer(tokens.forUs)),
  http1("a token for others", "tokens.example", "/either", 403, bearer(tokens.forOthers)),
  http1("a token for nobody", "tokens.example", "/either", 403, bearer(tokens.good)),
  http1("neither token", "tokens.example", "/either", 401),
  http1("the other token", "tokens.example", `/either?token=${tokens.good}`, 200),
  http1("a token that may fail", "tokens.example", "/optional", 200, bearer(tokens.expired)),
  http1("a token that may be missing", "tokens.example", "/missing-ok", 200),
  http1("a token that may be missing but not fail", "tokens.example", "/missing-ok", 401, bearer(tokens.expired)),
  http1("a token in a parameter", "tokens.example", `/param?a=b&token=${tokens.good}&c=d`, 200),
  http1("a token in a header", "tokens.example", "/param", 200, { headers: [["x-token", `tok ${tokens.good}`]] }),
  http1("not where it is looked for", "tokens.example", "/param", 401, bearer(tokens.good)),
  http1("a token forwarded, with its payload", "tokens.example", "/forwarded", 200, bearer(tokens.good)),
  http1("a header that claims", "tokens.example", "/forwarded", 200, {
    headers: [
      ["x-sub", "admin"],
      ["x-payload", "e30"],
      ["authorization", `Bearer ${tokens.good}`],
    ],
  }),
  http1("a token for us by another spelling", "tokens.example", "/either", 200, bearer(tokens.forUsByUrl)),
  http1("a token that has just expired", "tokens.example", "/needed", 200, bearer(tokens.justExpired)),
  http1("a token almost at its time", "tokens.example", "/needed", 200, bearer(tokens.almost)),
  http1("a token without end", "tokens.example", "/needed", 200, bearer(tokens.endless)),
  http1("claims of every type", "tokens.example", "/claims", 200, bearer(tokens.claims)),
  http1("a token in a cookie", "tokens.example", "/cookie", 200, {
    headers: [["cookie", `a=b; token=${tokens.good}; c=d`]],
  }),
  http1("no token in a cookie", "tokens.example", "/cookie", 401, { headers: [["cookie", "a=b; tokens=c"]] }),
  http1("a token in quotes in a cookie", "tokens.example", "/cookie", 200, {
    headers: [["cookie", `token="${tokens.good}"`]],
  }),
  http1("two tokens, both good", "tokens.example", "/needed", 401, {
    headers: [...bearer(tokens.good).headers, ...bearer(tokens.endless).headers],
  }),
  http1("two tokens, one bad", "tokens.example", "/needed", 401, {
    headers: [...bearer(tokens.good).headers, ...bearer(tokens.expired).headers],
  }),
  http1("two places, one bad", "tokens.example", `/param?token=${tokens.good}`, 401, {
    headers: [["x-token", `tok ${tokens.expired}`]],
  }),
  http1("both tokens", "tokens.example", `/both?token=${tokens.good}`, 200, bearer(tokens.forUs)),
  http1("one of both tokens", "tokens.example", "/both", 401, bearer(tokens.forUs)),
  http1("a preflight needs no token", "tokens.example", "/needed", 200, preflight("https://a.example")),
  http1("OPTIONS needs one", "tokens.example", "/needed", 401, { method: "OPTIONS" }),
  http1("a scheme in the middle", "tokens.example", "/needed", 200, {
    headers: [["authorization", `Token Bearer ${tokens.good}`]],
  }),
  http1("blanks around a token", "tokens.example", "/needed", 200, {
    headers: [["authorization", `Bearer   ${tokens.good}  `]],
  }),
  http1("a token twice in a parameter", "tokens.example", `/param?token=x&token=${tokens.good}`, 401),
  http1("a token in a body is none", "tokens.example", "/param", 401, { method: "POST", body: `token=${tokens.good}` }),
  http1("HEAD without a token", "tokens.example", "/needed", 401, { method: "HEAD" }),
  http1("nothing needed", "tokens.example", "/free", 200, bearer(tokens.expired)),
  grpc("no token of gRPC", "tokens.example", "/needed"),
];
