/** One limit of a RateLimitPolicy: which requests it counts, under what, and how many it admits. */
import { create } from "@bufbuild/protobuf";
import {
  CostSchema,
  Limit_Scope,
  type Limit as LimitConfig,
  type Rate,
} from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { ProxyFacts } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import type { Allowance } from "./allowance.ts";
import { BoundedTable } from "./bounded-table.ts";
import type { Entry } from "./descriptors.ts";
import { compileCost, type LimitCost } from "./limit-cost.ts";
import { compileKeys, keyText } from "./limit-keys.ts";
import { compileMatch, type RequestTest } from "./limit-match.ts";
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
  /** Undefined where the limit does not count this request. `nowMs` as allowances take it. */
  count(exchange: Exchange, nowMs: number): Count | undefined;
  /** What a request cost, known when it is over; undefined where it is known before. */
  readonly costAfter: LimitCost["after"];
  /** Keys now in memory. */
  readonly size: number;
}

type Allowances = BoundedTable<readonly Allowance[]>;

/** @param policy `namespace/name` of the object */
export function compileLimit(
  config: LimitConfig,
  policy: string,
  { path, facts, problem }: { readonly path: string; readonly facts: ProxyFacts; readonly problem: Problem },
): CompiledLimit {
  const matches = config.match.map((match, index) => compileMatch(match, `${path}.match[${index}]`, facts, problem));
  const keys = compileKeys(config.key, `${path}.key`, facts, problem);
  if (config.rates.length === 0) problem(`${path}.rates`, "must not be empty");
  const common = config.rates.map((rate, index) => compileRate(rate, `${path}.rates[${index}]`, problem));
  const overrides = config.overrides.map(({ match, rates }, index) => ({
    matches: match === undefined ? always : compileMatch(match, `${path}.overrides[${index}].match`, facts, problem),
    rates: rates.map((rate, at) => compileRate(rate, `${path}.overrides[${index}].rates[${at}]`, problem)),
  }));
  const isGlobal = config.scope === Limit_Scope.GLOBAL;
  const counts = rateLimitCounts(policy, config.name);
  const table = allowancesOf(`${policy}/${config.name}`, config, () => counts.evicted());
  counts.keepsKeysIn(table);
  const cost = compileCost(config.cost ?? create(CostSchema), `${path}.cost`, facts, problem);
  return {
    name: config.name,
    isGlobal,
    counts,
    exceptRoutes: config.exceptRoutes.length === 0 ? undefined : new Set(config.exceptRoutes),
    costAfter: cost.after,
    get size() {
      return table.size;
    },
    count(exchange, nowMs) {
      if (matches.length > 0 && !matches.some((each) => each(exchange))) return undefined;
      const override = overrides.findIndex((each) => each.matches(exchange));
      const rates = overrides[override]?.rates ?? common;
      // Unlimited.
      if (rates.length === 0) return undefined;
      const entries = keys.entriesOf(exchange);
      if (entries === undefined) return undefined;
      const amount = cost.before(exchange);
      if (isGlobal) return { limit: this, entries, rates, cost: amount, allowances: [] };
      // Callers with an exception have allowances of another size, and so of their own.
      const key = override < 0 ? keyText(entries) : `${override} ${keyText(entries)}`;
      const own = table.getOrMake(key, () => rates.map((rate) => allowanceOf(rate, nowMs)));
      return { limit: this, entries, rates, cost: amount, allowances: own };
    },
  };
}

const defaultMaxKeys = 10_000;

/**
 * Counts outlive a change of the configuration around them: a push must not give everybody a fresh start. They are found
 * again by what they count and how much it may be, as long as the configuration before is still in memory: which requests
 * are counted, and what each costs, may change meanwhile.
 */
const kept = new Map<string, WeakRef<Allowances>>();
const forgotten = new FinalizationRegistry<string>((key) => {
  if (kept.get(key)?.deref() === undefined) kept.delete(key);
});

function allowancesOf(name: string, limit: LimitConfig, onEvicted: () => void): Allowances {
  const { key: components, rates, overrides, maxKeys } = limit;
  const form = [components, rates, overrides, maxKeys];
  const key = `${name} ${JSON.stringify(form, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value))}`;
  const known = kept.get(key)?.deref();
  if (known !== undefined) return known;
  const made: Allowances = new BoundedTable<readonly Allowance[]>(limit.maxKeys || defaultMaxKeys, onEvicted);
  kept.set(key, new WeakRef(made));
  forgotten.register(made, key);
  return made;
}

const always: RequestTest = () => true;

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

/** Whether every window admits it. A cost that is known afterwards only is admitted while something is left. */
export const isAdmitted = ({ allowances, cost }: Count, nowMs: number): boolean =>
  allowances.every((each) => each.tokens(nowMs) >= Math.max(cost, Number.MIN_VALUE));
