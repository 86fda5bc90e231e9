/**
 * RateLimitPolicy in a waypoint. Every limit that counts a request must admit it; one that is turned away is charged to
 * nobody, so that callers who keep asking get exactly their share.
 */
import { createRegistry, fromBinary, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { explain } from "#shared/errors/mesh-error.ts";
import {
  RateLimitFilterSchema,
  Response_StandardHeaders,
  type RateLimitFilter,
  type RateLimitPolicy,
} from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { recordMetadata } from "#waypoint/layers/metadata.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { ExchangeEnd } from "#waypoint/telemetry/observers.ts";
import type { Allowance } from "./allowance.ts";
import { GlobalCounting } from "./global-counting.ts";
import { compileLimit, isAdmitted, type CompiledLimit, type CompiledRate, type Count } from "./limit.ts";
import { limitedReply, tellStandings, type Limited, type Standing } from "./policy-response.ts";
import { addRequestHeaders, answerBody, answerHeaders, type ToldHeaders } from "./service-answer.ts";

/** Dynamic metadata and log fields are written under this name. */
const metadataName = "ambit.rate_limit";

export const rateLimitPolicyLayer: LayerKind = {
  type: RateLimitFilterSchema.typeName,
  compile(name, any, context) {
    const config = read(any, context.problem);
    if (config === undefined || config.policies.length === 0) return undefined;
    const policies = config.policies.map((policy, index) => compilePolicy(policy, `policies[${index}]`, context));
    return new RateLimitPolicyLayer(name, policies);
  },
};

/** What may stand in the conditions of a match. */
const matchers = createRegistry(UriTemplateMatchConfigSchema);

/** It travels as a structure that proxies without this filter can read too. */
function read(any: Any, problem: Problem): RateLimitFilter | undefined {
  const struct = anyUnpack(any, TypedStructSchema);
  if (struct === undefined) return fromBinary(RateLimitFilterSchema, any.value);
  try {
    return fromJson(RateLimitFilterSchema, struct.value ?? {}, { registry: matchers });
  } catch (thrown) {
    problem("value", explain(thrown));
    return undefined;
  }
}

interface CompiledPolicy {
  readonly config: RateLimitPolicy;
  /** Undefined: every route. */
  readonly routes: ReadonlySet<string> | undefined;
  readonly limits: readonly CompiledLimit[];
  readonly global: GlobalCounting;
}

function compilePolicy(config: RateLimitPolicy, path: string, context: LayerContext): CompiledPolicy {
  const { facts, problem } = context;
  if (config.response === undefined) problem(`${path}.response`, "is missing");
  const limits = config.limits.map((limit, index) => {
    const at = `${path}.limits[${index}]`;
    const compiled = compileLimit(limit, config.name, { path: at, facts, problem });
    if (compiled.isGlobal && config.global === undefined) problem(`${at}.scope`, "GLOBAL needs a rate limit service");
    return compiled;
  });
  return {
    config,
    routes: config.routes.length === 0 ? undefined : new Set(config.routes),
    limits,
    global: new GlobalCounting(config, context),
  };
}

/** Routes are named by the object they come from, and where one rule is meant, by their own name too. */
function isOfRoute(routes: ReadonlySet<string>, { route }: Exchange): boolean {
  const facts = route?.metadata.get("istio") as { readonly config?: unknown } | undefined;
  if (route === undefined || typeof facts?.config !== "string") return false;
  return routes.has(facts.config) || routes.has(`${facts.config}#${route.name}`);
}

/** What one policy counts of one request. */
interface Counted {
  readonly policy: CompiledPolicy;
  readonly counts: readonly Count[];
}

interface Told {
  readonly style: Response_StandardHeaders;
  readonly standings: readonly Standing[];
}

/** What is to be told or charged when the answer comes. */
interface Pending {
  readonly told: readonly Told[];
  /** What rate limit services want told. */
  readonly headers: ToldHeaders;
  readonly charges: readonly { readonly policy: CompiledPolicy; readonly count: Count }[];
}

/** What rate limit services said to a request that passes. */
interface Said {
  readonly standings: Map<CompiledPolicy, readonly Standing[]>;
  readonly headers: (readonly [name: string, value: string])[];
}

class RateLimitPolicyLayer implements Layer {
  readonly name: string;
  readonly #policies: readonly CompiledPolicy[];
  readonly #pending = new WeakMap<Exchange, Pending>();

  constructor(name: string, policies: readonly CompiledPolicy[]) {
    this.name = name;
    this.#policies = policies;
  }

  onRequest(exchange: Exchange): LayerResult | Promise<LayerResult> {
    // Not when the request came: layers before this one may have kept it waiting.
    const nowMs = performance.now();
    const counted = this.#count(exchange, nowMs);
    if (counted === undefined) return undefined;
    for (const { policy, counts } of counted) {
      if (policy.config.shadow) continue;
      const exhausted = counts.find((count) => !count.limit.isGlobal && !isAdmitted(count, nowMs));
      if (exhausted === undefined) continue;
      exhausted.limit.counts.count("limited");
      const limited = localStanding(policy, exhausted, nowMs);
      return this.#limit(exchange, policy, { limited, standings: [limited], headers: [], body: undefined });
    }
    let asksService = false;
    for (const { policy, counts } of counted) {
      for (const count of counts) {
        if (count.limit.isGlobal) asksService = true;
        else take(exchange, policy, count, nowMs);
      }
    }
    if (asksService) return this.#askServices(exchange, counted, nowMs);
    this.#keep(exchange, counted, nowMs, undefined);
    return undefined;
  }

  /** Undefined where no limit counts the request. */
  #count(exchange: Exchange, nowMs: number): readonly Counted[] | undefined {
    let counted: Counted[] | undefined;
    for (const policy of this.#policies) {
      if (policy.routes !== undefined && !isOfRoute(policy.routes, exchange)) continue;
      let counts: Count[] | undefined;
      for (const limit of policy.limits) {
        if (limit.exceptRoutes !== undefined && isOfRoute(limit.exceptRoutes, exchange)) continue;
        const count = limit.count(exchange, nowMs);
        if (count !== undefined) (counts ??= []).push(count);
      }
      if (counts !== undefined) (counted ??= []).push({ policy, counts });
    }
    return counted;
  }

  async #askServices(exchange: Exchange, counted: readonly Counted[], nowMs: number): Promise<LayerResult> {
    const said: Said = { standings: new Map(), headers: [] };
    for (const { policy, counts } of counted) {
      const global = counts.filter(({ limit }) => limit.isGlobal);
      if (global.length === 0) continue;
      const { config } = policy;
      const verdict = await policy.global.ask(global, exchange.connection);
      switch (verdict.kind) {
        case "error":
          if (config.global?.deniesOnError === true && !config.shadow) {
            return serviceError(config.global.errorStatus || 500);
          }
          break;
        case "over": {
          verdict.limit.counts.count(config.shadow ? "shadow" : "limited");
          if (config.shadow) {
            tellShadow(exchange, policy, verdict.limit);
            break;
          }
          const { standing, standings, response } = verdict;
          return this.#limit(exchange, policy, {
            limited: { ...standing, policy: config.name, retrySeconds: standing.resetSeconds },
            standings,
            headers: answerHeaders(response),
            body: answerBody(response),
          });
        }
        case "ok":
          said.standings.set(policy, verdict.standings);
          if (verdict.response === undefined) break;
          addRequestHeaders(verdict.response, exchange.request.headers);
          said.headers.push(...answerHeaders(verdict.response));
      }
    }
    this.#keep(exchange, counted, nowMs, said);
    return undefined;
  }

  /** The answer to a request over a limit. */
  #limit(
    exchange: Exchange,
    { config }: CompiledPolicy,
    {
      limited,
      standings,
      headers,
      body,
    }: {
      readonly limited: Limited;
      readonly standings: readonly Standing[];
      readonly headers: ToldHeaders;
      readonly body: Buffer | undefined;
    },
  ): LocalReply | undefined {
    recordMetadata(exchange, metadataName, { limited: `${config.name}/${limited.limit}` } satisfies JsonObject);
    // A configuration without an answer has been refused.
    if (config.response === undefined) return undefined;
    const told = [{ style: config.response.standardHeaders, standings }];
    this.#pending.set(exchange, { told, headers, charges: [] });
    return limitedReply(config.response, limited, body);
  }

  #keep(exchange: Exchange, counted: readonly Counted[], nowMs: number, said: Said | undefined): void {
    let told: Told[] | undefined;
    let charges: { policy: CompiledPolicy; count: Count }[] | undefined;
    for (const { policy, counts } of counted) {
      const style = policy.config.response?.standardHeaders ?? Response_StandardHeaders.OFF;
      if (style !== Response_StandardHeaders.OFF) {
        const local = counts.filter(({ limit }) => !limit.isGlobal).map((count) => localStanding(policy, count, nowMs));
        (told ??= []).push({ style, standings: [...local, ...(said?.standings.get(policy) ?? [])] });
      }
      for (const count of counts) if (count.limit.costAfter !== undefined) (charges ??= []).push({ policy, count });
    }
    const headers = said?.headers ?? [];
    if (told !== undefined || charges !== undefined || headers.length > 0) {
      this.#pending.set(exchange, { told: told ?? [], headers, charges: charges ?? [] });
    }
  }

  onResponse(exchange: Exchange, { headers }: ResponseHead): void {
    const pending = this.#pending.get(exchange);
    if (pending === undefined) return;
    for (const { style, standings } of pending.told) tellStandings(style, standings, headers);
    for (const [name, value] of pending.headers) headers.append(name, value);
  }

  onEnd(exchange: Exchange, end: ExchangeEnd): void {
    for (const { policy, count } of this.#pending.get(exchange)?.charges ?? []) {
      const cost = count.limit.costAfter?.(exchange, end);
      if (cost === undefined || cost === 0) continue;
      if (count.limit.isGlobal) policy.global.charge(count, cost, exchange.connection);
      else for (const each of count.allowances) each.charge(performance.now(), cost);
    }
  }
}

/** Counts a request that passes. Where a policy only watches, it may be over its limits: then it is charged nothing. */
function take(exchange: Exchange, policy: CompiledPolicy, count: Count, nowMs: number): void {
  const { limit, allowances, cost } = count;
  if (policy.config.shadow && !isAdmitted(count, nowMs)) {
    limit.counts.count("shadow");
    tellShadow(exchange, policy, limit);
    return;
  }
  for (const each of allowances) each.take(nowMs, cost);
  limit.counts.count("ok");
}

const tellShadow = (exchange: Exchange, { config }: CompiledPolicy, limit: CompiledLimit): void => {
  recordMetadata(exchange, metadataName, { would_limit: `${config.name}/${limit.name}` } satisfies JsonObject);
};

const serviceError = (status: number): LocalReply => ({
  status,
  body: "",
  details: "rate_limiter_error",
  flag: "RLSE",
});

/** To microseconds: (now + a minute) - now is a little more than a minute for some values of now, and would be told as 61 s. */
const withoutNoise = (ms: number): number => Math.round(ms * 1_000) / 1_000;

/** The window of a limit that leaves least. */
function localStanding({ config }: CompiledPolicy, { limit, rates, allowances, cost }: Count, nowMs: number): Limited {
  let least = 0;
  for (const [index, each] of allowances.entries()) {
    if (each.tokens(nowMs) < (allowances[least] as Allowance).tokens(nowMs)) least = index;
  }
  const allowance = allowances[least] as Allowance;
  const rate = rates[least] as CompiledRate;
  const untilMs = withoutNoise(Math.max(...allowances.map((each) => each.untilMs(nowMs, Math.max(cost, 1)))));
  return {
    policy: config.name,
    limit: limit.name,
    requests: rate.requests,
    perSeconds: Math.ceil(rate.perMs / 1000),
    remaining: Math.max(0, Math.floor(allowance.tokens(nowMs))),
    resetSeconds: Math.ceil(withoutNoise(allowance.untilFillMs(nowMs)) / 1000),
    retrySeconds: Number.isFinite(untilMs) ? untilMs / 1000 : undefined,
  };
}
