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
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse_RateLimit_Unit as Unit,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { recordMetadata } from "#waypoint/layers/metadata.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Allowance } from "./allowance.ts";
import { compileLimit, isAdmitted, readCost, type CompiledLimit, type CompiledRate, type Count } from "./limit.ts";
import { limitedReply, tellStandings, type Limited, type Standing } from "./policy-response.ts";
import { askService } from "./service-client.ts";

/** Dynamic metadata and log fields are written under this name. */
const metadataName = "ambit.rate_limit";

export const rateLimitPolicyLayer: LayerKind = {
  type: RateLimitFilterSchema.typeName,
  compile(name, any, context) {
    const config = read(any, context.problem);
    if (config === undefined || config.policies.length === 0) return undefined;
    const policies = config.policies.map((policy, index) =>
      compilePolicy(policy, `policies[${index}]`, context.problem),
    );
    return new RateLimitPolicyLayer(name, policies, context);
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
}

function compilePolicy(config: RateLimitPolicy, path: string, problem: Problem): CompiledPolicy {
  if (config.response === undefined) problem(`${path}.response`, "is missing");
  const limits = config.limits.map((limit, index) => {
    const at = `${path}.limits[${index}]`;
    const compiled = compileLimit(limit, config.name, at, problem);
    if (compiled.isGlobal && config.global === undefined) problem(`${at}.scope`, "GLOBAL needs a rate limit service");
    if (compiled.isGlobal && compiled.responseCostHeader !== undefined) {
      problem(`${at}.cost`, "the cost of an answer is counted by LOCAL limits only");
    }
    return compiled;
  });
  return { config, routes: config.routes.length === 0 ? undefined : new Set(config.routes), limits };
}

/** Routes are named by the object they come from, and where one rule is meant, by their own name too. */
function isOfRoute(routes: ReadonlySet<string>, { route }: Exchange): boolean {
  const facts = route?.metadata.get("istio") as { readonly config?: unknown } | undefined;
  if (route === undefined || typeof facts?.config !== "string") return false;
  return routes.has(facts.config) || routes.has(`${facts.config}#${route.name}`);
}

/** What is to be told or charged when the answer comes. */
interface Pending {
  readonly told: readonly { readonly style: Response_StandardHeaders; readonly standings: readonly Standing[] }[];
  readonly charges: readonly Count[];
}

class RateLimitPolicyLayer implements Layer {
  readonly name: string;
  readonly #policies: readonly CompiledPolicy[];
  readonly #context: LayerContext;
  readonly #pending = new WeakMap<Exchange, Pending>();

  constructor(name: string, policies: readonly CompiledPolicy[], context: LayerContext) {
    this.name = name;
    this.#policies = policies;
    this.#context = context;
  }

  onRequest(exchange: Exchange): LayerResult | Promise<LayerResult> {
    let counted: { policy: CompiledPolicy; counts: readonly Count[] }[] | undefined;
    let asksService = false;
    for (const policy of this.#policies) {
      if (policy.routes !== undefined && !isOfRoute(policy.routes, exchange)) continue;
      const counts: Count[] = [];
      for (const limit of policy.limits) {
        if (limit.exceptRoutes !== undefined && isOfRoute(limit.exceptRoutes, exchange)) continue;
        const count = limit.count(exchange);
        if (count === undefined) continue;
        counts.push(count);
        if (limit.isGlobal) asksService = true;
      }
      if (counts.length > 0) (counted ??= []).push({ policy, counts });
    }
    if (counted === undefined) return undefined;
    const nowMs = exchange.startedMs;
    for (const { policy, counts } of counted) {
      const exhausted = counts.find((count) => !count.limit.isGlobal && !isAdmitted(count, nowMs));
      if (exhausted === undefined) continue;
      const limited = localStanding(policy, exhausted, nowMs);
      const reply = this.#limit(exchange, policy, exhausted.limit, limited, [limited]);
      if (reply !== undefined) return reply;
    }
    for (const { policy, counts } of counted) {
      for (const { limit, allowances, cost } of counts) {
        if (limit.isGlobal) continue;
        for (const each of allowances) each.take(nowMs, cost);
        if (!policy.config.shadow) limit.counts.count("ok");
      }
    }
    if (asksService) return this.#askServices(exchange, counted);
    this.#keep(exchange, counted, []);
    return undefined;
  }

  /** One question for each policy and cost, with everything that is counted globally. */
  async #askServices(
    exchange: Exchange,
    counted: readonly { readonly policy: CompiledPolicy; readonly counts: readonly Count[] }[],
  ): Promise<LayerResult> {
    const standings: Standing[] = [];
    for (const { policy, counts } of counted) {
      const global = counts.filter(({ limit, cost }) => limit.isGlobal && cost > 0);
      for (const cost of new Set(global.map((count) => count.cost))) {
        const asked = global
          .filter((count) => count.cost === cost)
          .flatMap((count) => count.rates.map((rate) => ({ count, rate })));
        const reply = await this.#ask(exchange, policy, asked, cost, standings);
        if (reply !== undefined) return reply;
      }
    }
    this.#keep(exchange, counted, standings);
    return undefined;
  }

  async #ask(
    exchange: Exchange,
    policy: CompiledPolicy,
    asked: readonly { readonly count: Count; readonly rate: CompiledRate }[],
    cost: number,
    standings: Standing[],
  ): Promise<LayerResult> {
    const { global, name, shadow } = policy.config;
    if (global === undefined) return undefined;
    let response: RateLimitResponse;
    try {
      response = await askService(
        this.#context.clusters,
        { cluster: global.cluster, authority: undefined, timeoutMs: global.timeoutMs },
        {
          domain: global.domain,
          descriptors: asked.map(({ count, rate }) => descriptorOf(name, count, rate)),
          hitsAddend: cost,
        },
        exchange.connection,
      );
    } catch (thrown) {
      this.#context.log.debug({ policy: name, error: explain(thrown) }, "rate limit service cannot be asked");
      for (const { count } of asked) count.limit.counts.count("error");
      return global.deniesOnError && !shadow ? serviceError(global.errorStatus || 500) : undefined;
    }
    const own = asked.map(({ count, rate }, index) => globalStanding(count, rate, response, index));
    standings.push(...own);
    if (response.overallCode !== Code.OVER_LIMIT) {
      for (const { count } of asked) count.limit.counts.count("ok");
      return undefined;
    }
    // A service that says "over" without saying which: the first.
    const over = Math.max(
      0,
      asked.findIndex((_, index) => response.statuses[index]?.code === Code.OVER_LIMIT),
    );
    const [exhausted, standing] = [asked[over], own[over]];
    if (exhausted === undefined || standing === undefined) return undefined;
    const limited: Limited = { ...standing, policy: name, retrySeconds: standing.resetSeconds };
    return this.#limit(exchange, policy, exhausted.count.limit, limited, own);
  }

  /** The answer to a request over a limit; undefined where the policy only watches. */
  #limit(
    exchange: Exchange,
    { config }: CompiledPolicy,
    limit: CompiledLimit,
    limited: Limited,
    standings: readonly Standing[],
  ): LocalReply | undefined {
    limit.counts.count(config.shadow ? "shadow" : "limited");
    recordMetadata(exchange, metadataName, {
      [config.shadow ? "would_limit" : "limited"]: `${config.name}/${limited.limit}`,
    } satisfies JsonObject);
    if (config.shadow || config.response === undefined) return undefined;
    this.#pending.set(exchange, {
      told: [{ style: config.response.standardHeaders, standings }],
      charges: [],
    });
    return limitedReply(config.response, limited);
  }

  #keep(
    exchange: Exchange,
    counted: readonly { readonly policy: CompiledPolicy; readonly counts: readonly Count[] }[],
    global: readonly Standing[],
  ): void {
    const nowMs = exchange.startedMs;
    let told: { style: Response_StandardHeaders; standings: readonly Standing[] }[] | undefined;
    let charges: Count[] | undefined;
    for (const { policy, counts } of counted) {
      const style = policy.config.response?.standardHeaders ?? Response_StandardHeaders.OFF;
      if (style !== Response_StandardHeaders.OFF) {
        const local = counts.filter(({ limit }) => !limit.isGlobal).map((count) => localStanding(policy, count, nowMs));
        (told ??= []).push({ style, standings: [...local, ...global] });
      }
      for (const count of counts) if (count.limit.responseCostHeader !== undefined) (charges ??= []).push(count);
    }
    if (told !== undefined || charges !== undefined) {
      this.#pending.set(exchange, { told: told ?? [], charges: charges ?? [] });
    }
  }

  onResponse(exchange: Exchange, { headers }: ResponseHead): void {
    for (const { style, standings } of this.#pending.get(exchange)?.told ?? [])
      tellStandings(style, standings, headers);
  }

  onEnd(exchange: Exchange): void {
    for (const { limit, allowances } of this.#pending.get(exchange)?.charges ?? []) {
      const cost = readCost(exchange.response?.headers.get(limit.responseCostHeader ?? ""));
      if (cost !== undefined) for (const each of allowances) each.charge(performance.now(), cost);
    }
  }
}

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

function globalStanding(
  { limit }: Count,
  { requests, perMs }: CompiledRate,
  response: RateLimitResponse,
  index: number,
): Standing {
  const status = response.statuses[index];
  const perSeconds = Math.ceil(perMs / 1000);
  return {
    limit: limit.name,
    requests: status?.currentLimit?.requestsPerUnit ?? requests,
    perSeconds,
    remaining: status?.limitRemaining ?? 0,
    resetSeconds: Number(status?.durationUntilReset?.seconds ?? perSeconds),
  };
}

const units: ReadonlyMap<number, Unit> = new Map([
  [1000, Unit.SECOND],
  [60_000, Unit.MINUTE],
  [3_600_000, Unit.HOUR],
  [86_400_000, Unit.DAY],
]);

/** The limit rides along, so that a service needs no configuration of its own to count it. */
function descriptorOf(policy: string, { limit, entries }: Count, { requests, perMs }: CompiledRate) {
  const unit = units.get(perMs);
  return {
    entries: [{ key: "limit", value: `${policy}/${limit.name}` }, ...entries],
    ...(unit === undefined ? {} : { limit: { requestsPerUnit: requests, unit: unit as number } }),
  };
}
