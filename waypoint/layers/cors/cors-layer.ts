/** Cross-origin requests: answers preflights, and tells browsers which origins may read answers. Configured per route. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import {
  CorsPolicySchema,
  CorsSchema,
  type CorsPolicy,
} from "#shared/proto/gen/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind } from "#waypoint/layers/layer.ts";
import { compileString } from "#waypoint/matching/string-matcher.ts";
import { isChosen, readRuntimeFraction, type Fraction } from "#waypoint/routing/match/fraction.ts";

export interface CorsRules {
  readonly enabled: Fraction;
  readonly allows: (origin: string) => boolean;
  readonly methods: string;
  readonly headers: string;
  readonly exposed: string;
  readonly maxAge: string;
  readonly credentials: boolean;
  readonly privateNetwork: boolean;
  readonly forwardsOtherPreflights: boolean;
}

export function compileCorsPolicy(policy: CorsPolicy, { problem }: Pick<LayerContext, "problem">): CorsRules {
  const tests = policy.allowOriginStringMatch.map((matcher, index) => {
    const { matchPattern } = matcher;
    if (matchPattern.case === "exact" && matchPattern.value === "*") return () => true;
    return compileString(matcher, `allow_origin_string_match[${index}]`, problem);
  });
  for (const [name, text] of [
    ["allow_methods", policy.allowMethods],
    ["allow_headers", policy.allowHeaders],
    ["expose_headers", policy.exposeHeaders],
    ["max_age", policy.maxAge],
  ] as const)
    if (/[\r\n\0]/.test(text)) problem(name, "has a line break or a zero byte");
  // Nothing would come of it but counting, and there is nothing to count it.
  if (policy.shadowEnabled !== undefined) problem("shadow_enabled", "is not supported");
  return {
    enabled: readRuntimeFraction(policy.filterEnabled, "filter_enabled", problem),
    allows: (origin) => tests.some((test) => test(origin)),
    methods: policy.allowMethods,
    headers: policy.allowHeaders,
    exposed: policy.exposeHeaders,
    maxAge: policy.maxAge,
    credentials: policy.allowCredentials === true,
    privateNetwork: policy.allowPrivateNetworkAccess === true,
    forwardsOtherPreflights: policy.forwardNotMatchingPreflights ?? true,
  };
}

export const corsLayer: LayerKind = {
  type: CorsSchema.typeName,
  compile: (name: string) => new CorsLayer(name, Math.random),
  routeTypes: {
    [CorsPolicySchema.typeName]: (config: Any, context: LayerContext) => {
      const policy = anyUnpack(config, CorsPolicySchema);
      if (policy !== undefined) return compileCorsPolicy(policy, context);
      context.problem("", `cannot be read as ${CorsPolicySchema.typeName}`);
      return undefined;
    },
  },
};

export class CorsLayer implements Layer {
  readonly name: string;
  readonly #random: () => number;
  /** Requests whose answers tell the browser: their rules and origin. */
  readonly #allowed = new WeakMap<Exchange, { readonly rules: CorsRules; readonly origin: string }>();

  constructor(name: string, random: () => number) {
    this.name = name;
    this.#random = random;
  }

  onRequest(exchange: Exchange): LocalReply | undefined {
    const rules = exchange.route?.layerConfigs.get(this.name) as CorsRules | undefined;
    if (rules === undefined) return undefined;
    const { method, headers } = exchange.request;
    const origin = headers.get("origin");
    if (origin === undefined || origin === "") return undefined;
    const { enabled } = rules;
    if (enabled.numerator < enabled.denominator && !isChosen(enabled, this.#random())) return undefined;
    const asked = method === "OPTIONS" ? headers.get("access-control-request-method") : undefined;
    const isPreflight = asked !== undefined && asked !== "";
    if (!rules.allows(origin))
      return isPreflight && !rules.forwardsOtherPreflights
        ? { status: 200, details: "cors_response", isFinal: true }
        : undefined;
    this.#allowed.set(exchange, { rules, origin });
    if (!isPreflight) return undefined;
    return { status: 200, headers: preflightHeaders(rules, asked, headers), details: "cors_response", isFinal: true };
  }

  onResponse(exchange: Exchange, head: ResponseHead): void {
    const allowed = this.#allowed.get(exchange);
    if (allowed === undefined) return;
    const { rules, origin } = allowed;
    head.headers.set("access-control-allow-origin", origin);
    if (rules.credentials) head.headers.set("access-control-allow-credentials", "true");
    if (rules.exposed !== "") head.headers.set("access-control-expose-headers", rules.exposed);
  }
}

function preflightHeaders(rules: CorsRules, asked: string, request: Headers): Headers {
  const headers = new Headers();
  const methods = rules.methods === "*" ? asked : rules.methods;
  const names = rules.headers === "*" ? (request.get("access-control-request-headers") ?? "") : rules.headers;
  if (methods !== "") headers.append("access-control-allow-methods", methods);
  if (names !== "") headers.append("access-control-allow-headers", names);
  if (rules.maxAge !== "") headers.append("access-control-max-age", rules.maxAge);
  if (rules.privateNetwork && request.get("access-control-request-private-network") === "true")
    headers.append("access-control-allow-private-network", "true");
  return headers;
}
