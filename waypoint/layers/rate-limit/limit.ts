/** One limit of a RateLimitPolicy: which requests it counts, under what, and how many it admits. */
import {
  Limit_Scope,
  type Cost,
  type Limit as LimitConfig,
  type Rate,
} from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import { compilePolicy } from "#waypoint/layers/rbac/engine.ts";
import type { SubjectTest } from "#waypoint/layers/rbac/subject.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Allowance } from "./allowance.ts";
import { BoundedTable } from "./bounded-table.ts";
import type { Entry } from "./descriptors.ts";
import { compileKeys, keyText } from "./limit-keys.ts";
import { rateLimitCounts, type RateLimitCounts } from "./rate-limit-counts.ts";
import { SlidingWindow } from "./sliding-window.ts";
import { bucketRate, TokenBucket } from "./token-bucket.ts";

/** What one limit says of one request. */
export interface Count {
  readonly limit: CompiledLimit;
  readonly entries: readonly Entry[];
  readonly rates: readonly CompiledRate[];
  readonly cost: number;
  /** LOCAL only: one for each rate. */
  readonly allowances: readonly Allowance[];
}

export interface CompiledRate {
  readonly requests: number;
  readonly perMs: number;
  readonly burst: number;
}

export interface CompiledLimit {
  readonly name: string;
  readonly isGlobal: boolean;
  readonly counts: RateLimitCounts;
  /** Undefined: none. */
  readonly exceptRoutes: ReadonlySet<string> | undefined;
  /** Undefined where the limit does not count this request. */
  count(exchange: Exchange): Count | undefined;
  /** Header of the answer that tells what the request cost. */
  readonly responseCostHeader: string | undefined;
  /** Keys now in memory. */
  readonly size: number;
}

type Allowances = BoundedTable<readonly Allowance[]>;

/** @param policy `namespace/name` of the object */
export function compileLimit(config: LimitConfig, policy: string, path: string, problem: Problem): CompiledLimit {
  const matches = config.match.map((policy, index) => compilePolicy(policy, `${path}.match[${index}]`, problem));
  const keys = compileKeys(config.key, `${path}.key`, problem);
  if (config.rates.length === 0) problem(`${path}.rates`, "must not be empty");
  const common = config.rates.map((rate, index) => compileRate(rate, `${path}.rates[${index}]`, problem));
  const overrides = config.overrides.map(({ match, rates }, index) => ({
    matches: match === undefined ? always : compilePolicy(match, `${path}.overrides[${index}].match`, problem),
    rates: rates.map((rate, at) => compileRate(rate, `${path}.overrides[${index}].rates[${at}]`, problem)),
  }));
  const isGlobal = config.scope === Limit_Scope.GLOBAL;
  const counts = rateLimitCounts(policy, config.name);
  const table = allowancesOf(`${policy}/${config.name}`, config, () => counts.evicted());
  const cost = compileCost(config.cost);
  const limit: CompiledLimit = {
    name: config.name,
    isGlobal,
    counts,
    exceptRoutes: config.exceptRoutes.length === 0 ? undefined : new Set(config.exceptRoutes),
    responseCostHeader: config.cost?.cost.case === "responseHeader" ? config.cost.cost.value.toLowerCase() : undefined,
    get size() {
      return table.size;
    },
    count(exchange) {
      if (matches.length > 0 && !matches.some((each) => each(exchange))) return undefined;
      const override = overrides.findIndex((each) => each.matches(exchange));
      const rates = overrides[override]?.rates ?? common;
      // Unlimited.
      if (rates.length === 0) return undefined;
      const entries = keys.entriesOf(exchange);
      if (entries === undefined) return undefined;
      const amount = cost(exchange);
      if (isGlobal) return { limit, entries, rates, cost: amount, allowances: [] };
      // Callers with an exception have allowances of another size, and so of their own.
      const key = override < 0 ? keyText(entries) : `${override} ${keyText(entries)}`;
      const own = table.getOrMake(key, () => rates.map((rate) => allowanceOf(rate, exchange.startedMs)));
      return { limit, entries, rates, cost: amount, allowances: own };
    },
  };
  return limit;
}

const defaultMaxKeys = 10_000;

/**
 * Counts outlive a change of the configuration around them: a push must not give everybody a fresh start. They are
 * found again by what they belong to, as long as the configuration before is still in memory.
 */
const kept = new Map<string, WeakRef<Allowances>>();
const forgotten = new FinalizationRegistry<string>((key) => {
  if (kept.get(key)?.deref() === undefined) kept.delete(key);
});

function allowancesOf(name: string, limit: LimitConfig, onEvicted: () => void): Allowances {
  const key = `${name} ${JSON.stringify(limit, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value))}`;
  const known = kept.get(key)?.deref();
  if (known !== undefined) return known;
  const made: Allowances = new BoundedTable<readonly Allowance[]>(limit.maxKeys || defaultMaxKeys, onEvicted);
  kept.set(key, new WeakRef(made));
  forgotten.register(made, key);
  return made;
}

const always: SubjectTest = () => true;

function compileRate({ requests, perMs, burst }: Rate, path: string, problem: Problem): CompiledRate {
  const per = Number(perMs);
  if (requests < 1) problem(`${path}.requests`, "must be at least 1");
  if (per < 1) problem(`${path}.per_ms`, "must be at least 1");
  const safe = { requests: Math.max(requests, 1), perMs: Math.max(per, 1) };
  return { ...safe, burst: burst === 0 ? safe.requests : burst };
}

/** Who says nothing of bursts gets the rate in every stretch of time; who does gets a bucket of that size. */
const allowanceOf = ({ requests, perMs, burst }: CompiledRate, nowMs: number): Allowance =>
  burst === requests ? new SlidingWindow(requests, perMs) : new TokenBucket(bucketRate(requests, perMs, burst), nowMs);

/** A header that is no number costs 1: nobody gets a request for free by writing nonsense. */
function compileCost(cost: Cost | undefined): (exchange: Exchange) => number {
  switch (cost?.cost.case) {
    case "value": {
      const { value } = cost.cost;
      return () => value;
    }
    case "requestHeader": {
      const name = cost.cost.value.toLowerCase();
      return ({ request }) => readCost(request.headers.get(name)) ?? 1;
    }
    case "responseHeader":
      // Charged afterwards.
      return () => 0;
    case undefined:
      return () => 1;
  }
}

/** Whether every window admits it. A cost that is known afterwards only is admitted while something is left. */
export const isAdmitted = ({ allowances, cost }: Count, nowMs: number): boolean =>
  allowances.every((each) => each.tokens(nowMs) >= Math.max(cost, Number.MIN_VALUE));

export function readCost(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Math.min(Number(text), 2 ** 31 - 1) : undefined;
}
