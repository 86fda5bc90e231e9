/**
 * Rate limits counted in this process: `envoy.filters.http.local_ratelimit`. Everything that a bucket counts is counted by
 * one event loop, so each is exact.
 */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import type { HeaderValueOption } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import {
  VhRateLimitsOptions,
  XRateLimitHeadersRFCVersion,
  type LocalRateLimitDescriptor,
} from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  LocalRateLimitSchema,
  type LocalRateLimit,
} from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import type { TokenBucket as TokenBucketConfig } from "#shared/proto/gen/envoy/type/v3/token_bucket_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { compileHeaderEdit, type HeaderEdit } from "#waypoint/routing/header-edits.ts";
import { isChosen, readFraction, type Fraction } from "#waypoint/routing/match/fraction.ts";
import { newerFlag } from "#waypoint/upstream/compile/set-fields.ts";
import { BoundedTable } from "./bounded-table.ts";
import type { Descriptor } from "./descriptors.ts";
import { newerLimits, shadowModeField, isNewerField, type NewerLimits } from "./newer-fields.ts";
import { ownDescriptors, routeDescriptors } from "./route-descriptors.ts";
import { TokenBucket, type BucketRate } from "./token-bucket.ts";

const shortestFillMs = 50;
const maxHeadersToAdd = 10;

/** A configured descriptor: entries with an empty value stand for any value, each with a bucket of its own. */
interface ConfiguredDescriptor {
  readonly entries: Descriptor;
  readonly rate: BucketRate;
  /** What it would refuse passes. */
  readonly isShadow: boolean;
  readonly buckets: BoundedTable<TokenBucket>;
}

type DescriptorSettings = Omit<ConfiguredDescriptor, "buckets">;

/** One set of buckets; of the whole process, or of one connection. */
interface Buckets {
  readonly common: TokenBucket | undefined;
  readonly descriptors: readonly ConfiguredDescriptor[];
}

/**
 * Beginning of the stat prefix of a filter that stands for a RateLimitPolicy in proxies which do not know these. Where
 * this proxy reads one, the policy itself is beside it.
 */
const standInPrefix = "ambit_rate_limit_policy.";

interface LocalLimits {
  readonly isStandIn: boolean;
  readonly status: number;
  readonly rate: BucketRate | undefined;
  readonly enabled: Fraction;
  readonly enforced: Fraction;
  readonly responseHeaders: HeaderEdit | undefined;
  readonly shadowHeaders: HeaderEdit | undefined;
  /** Of the filter itself: what routes say does not count then. */
  readonly actions: NewerLimits["actions"];
  readonly stage: number;
  readonly virtualHostLimits: VhRateLimitsOptions;
  readonly tellsLimits: boolean;
  readonly alwaysConsumesCommon: boolean;
  readonly grpcStatus: number;
  /** Made at the first request, so that intervals count from there. */
  bucketsFor(exchange: Exchange): Buckets;
}

export interface LocalRateLimitCounters {
  enabled: number;
  enforced: number;
  limited: number;
  ok: number;
}

export const localRateLimitLayer: LayerKind = {
  type: LocalRateLimitSchema.typeName,
  compile: (name, any, context) => {
    const limits = compile(any, context);
    if (limits === undefined || limits.isStandIn) return undefined;
    return new LocalRateLimitLayer(name, limits);
  },
  routeTypes: {
    [LocalRateLimitSchema.typeName]: (any: Any, context: LayerContext) => {
      const limits = compile(any, context);
      if (limits !== undefined && limits.rate === undefined) {
        context.problem("token_bucket", "is needed where a route has limits of its own");
      }
      return limits;
    },
  },
};

class LocalRateLimitLayer implements Layer {
  readonly name: string;
  readonly counters: LocalRateLimitCounters = { enabled: 0, enforced: 0, limited: 0, ok: 0 };
  readonly #limits: LocalLimits;
  /** The bucket that leaves least, for the headers of the answer. */
  readonly #told = new WeakMap<Exchange, TokenBucket>();

  constructor(name: string, limits: LocalLimits) {
    this.name = name;
    this.#limits = limits;
  }

  onRequest(exchange: Exchange): LayerResult {
    const limits = (exchange.route?.layerConfigs.get(this.name) as LocalLimits | undefined) ?? this.#limits;
    if (limits.rate === undefined || !isChosen(limits.enabled, Math.random())) return undefined;
    this.counters.enabled++;
    const { isLimited, strictest } = this.#consume(limits, exchange);
    if (limits.tellsLimits && strictest !== undefined) this.#told.set(exchange, strictest);
    if (!isLimited) {
      this.counters.ok++;
      return undefined;
    }
    this.counters.limited++;
    if (!isChosen(limits.enforced, Math.random())) {
      limits.shadowHeaders?.(exchange.request.headers, exchange, undefined);
      return undefined;
    }
    this.counters.enforced++;
    return limitedReply(limits, exchange);
  }

  onResponse(exchange: Exchange, { headers }: ResponseHead): void {
    const bucket = this.#told.get(exchange);
    if (bucket === undefined) return;
    const nowMs = performance.now();
    headers.set("x-ratelimit-limit", `${bucket.rate.maxTokens}`);
    headers.set("x-ratelimit-remaining", `${Math.max(0, Math.floor(bucket.tokens(nowMs)))}`);
    headers.set("x-ratelimit-reset", `${Math.ceil(bucket.untilFillMs(nowMs) / 1000)}`);
  }

  /** Every bucket that counts the request is charged, the strictest first, up to the one that has nothing left. */
  #consume(limits: LocalLimits, exchange: Exchange): { isLimited: boolean; strictest: TokenBucket | undefined } {
    const nowMs = exchange.startedMs;
    const { common, descriptors } = limits.bucketsFor(exchange);
    let strictest: TokenBucket | undefined;
    let isMatched = false;
    if (descriptors.length > 0) {
      const made =
        limits.actions.length > 0
          ? ownDescriptors(exchange, limits.actions)
          : routeDescriptors(exchange, limits.stage, limits.virtualHostLimits);
      const matched = made.length === 0 ? [] : bucketsOf(descriptors, made, nowMs);
      for (const { bucket, isShadow } of matched) {
        isMatched = true;
        const isTaken = bucket.take(nowMs);
        if (isShadow) continue;
        strictest = stricter(strictest, bucket, nowMs);
        if (!isTaken) return { isLimited: true, strictest: bucket };
      }
    }
    if (common === undefined || (isMatched && !limits.alwaysConsumesCommon)) return { isLimited: false, strictest };
    const isTaken = common.take(nowMs);
    return { isLimited: !isTaken, strictest: isTaken ? stricter(strictest, common, nowMs) : common };
  }
}

const stricter = (a: TokenBucket | undefined, b: TokenBucket, nowMs: number): TokenBucket =>
  a === undefined || b.tokens(nowMs) < a.tokens(nowMs) ? b : a;

/** The buckets of the configured descriptors that any of the request's matches, slowest first. */
function bucketsOf(
  configured: readonly ConfiguredDescriptor[],
  made: readonly Descriptor[],
  nowMs: number,
): readonly { readonly bucket: TokenBucket; readonly isShadow: boolean }[] {
  const buckets: { readonly bucket: TokenBucket; readonly isShadow: boolean }[] = [];
  for (const descriptor of made) {
    for (const { entries, rate, isShadow, buckets: table } of configured) {
      if (!isMatch(entries, descriptor)) continue;
      const key = JSON.stringify(descriptor.map(({ value }) => value));
      buckets.push({ bucket: table.getOrMake(key, () => new TokenBucket(rate, nowMs)), isShadow });
      break;
    }
  }
  return buckets.sort((a, b) => perMs(a.bucket.rate) - perMs(b.bucket.rate));
}

const perMs = ({ tokensPerFill, fillIntervalMs }: BucketRate): number => tokensPerFill / fillIntervalMs;

const isMatch = (wanted: Descriptor, descriptor: Descriptor): boolean =>
  wanted.length === descriptor.length &&
  wanted.every(({ key, value }, index) => {
    const entry = descriptor[index];
    return entry !== undefined && entry.key === key && (value === "" || entry.value === value);
  });

function limitedReply(limits: LocalLimits, exchange: Exchange): LocalReply {
  const headers = new Headers(["x-envoy-ratelimited", "true"]);
  limits.responseHeaders?.(headers, exchange, undefined);
  return {
    status: limits.status,
    body: "local_rate_limited",
    headers,
    details: "local_rate_limited",
    flag: "RL",
    grpcStatus: limits.grpcStatus,
  };
}

function compile(any: Any, { problem }: LayerContext): LocalLimits | undefined {
  const config = anyUnpack(any, LocalRateLimitSchema);
  if (config === undefined) return undefined;
  reportUnknownFields(config, problem, isNewerField);
  const newer = newerLimits(config, problem);
  if (config.statPrefix === "") problem("stat_prefix", "must not be empty");
  if (config.stage > 10) problem("stage", `${config.stage} is not in 0 to 10`);
  if (config.localClusterRateLimit !== undefined) {
    problem("local_cluster_rate_limit", "is not supported: write the share of one replica");
  }
  const rate = config.tokenBucket === undefined ? undefined : readRate(config.tokenBucket, "token_bucket", problem);
  const descriptors = compileDescriptors(config, rate, problem);
  const makeBuckets = bucketMaker(
    rate,
    descriptors,
    config.localRateLimitPerDownstreamConnection,
    newer.maxDynamicDescriptors,
  );
  return {
    isStandIn: config.statPrefix.startsWith(standInPrefix),
    status: rejectionStatus(config.status?.code),
    rate,
    enabled: readFraction(config.filterEnabled?.defaultValue, "filter_enabled.default_value", problem),
    enforced: readFraction(config.filterEnforced?.defaultValue, "filter_enforced.default_value", problem),
    responseHeaders: edit(config.responseHeadersToAdd, "response_headers_to_add", problem),
    shadowHeaders: edit(config.requestHeadersToAddWhenNotEnforced, "request_headers_to_add_when_not_enforced", problem),
    actions: newer.actions,
    stage: config.stage,
    virtualHostLimits: config.vhRateLimits,
    tellsLimits: config.enableXRatelimitHeaders === XRateLimitHeadersRFCVersion.DRAFT_VERSION_03,
    alwaysConsumesCommon: config.alwaysConsumeDefaultTokenBucket ?? true,
    grpcStatus: config.rateLimitedAsResourceExhausted ? 8 : 14,
    bucketsFor: makeBuckets,
  };
}

function edit(headers: readonly HeaderValueOption[], path: string, problem: Problem): HeaderEdit | undefined {
  if (headers.length > maxHeadersToAdd) problem(path, `has ${headers.length} entries: at most ${maxHeadersToAdd}`);
  return headers.length === 0 ? undefined : compileHeaderEdit(headers, [], { add: path, remove: path }, problem);
}

/** One set for all, or one for each connection that dies with it. */
function bucketMaker(
  rate: BucketRate | undefined,
  descriptors: readonly DescriptorSettings[],
  perConnection: boolean,
  maxDynamicDescriptors: number,
): (exchange: Exchange) => Buckets {
  const make = (nowMs: number): Buckets => ({
    common: rate === undefined ? undefined : new TokenBucket(rate, nowMs),
    descriptors: descriptors.map((each) => ({ ...each, buckets: new BoundedTable(maxDynamicDescriptors) })),
  });
  if (!perConnection) {
    let all: Buckets | undefined;
    return ({ startedMs }) => (all ??= make(startedMs));
  }
  const byConnection = new WeakMap<object, Buckets>();
  return ({ connection, startedMs }) => {
    let own = byConnection.get(connection);
    if (own === undefined) byConnection.set(connection, (own = make(startedMs)));
    return own;
  };
}

function compileDescriptors(
  { descriptors }: LocalRateLimit,
  common: BucketRate | undefined,
  problem: Problem,
): readonly DescriptorSettings[] {
  const seen = new Set<string>();
  return descriptors.map((descriptor: LocalRateLimitDescriptor, index) => {
    const { entries, tokenBucket } = descriptor;
    const path = `descriptors[${index}]`;
    if (entries.length === 0) problem(`${path}.entries`, "must not be empty");
    const plain = entries.map(({ key, value }) => ({ key, value }));
    const identity = JSON.stringify(plain);
    if (seen.has(identity)) problem(path, "is there twice");
    seen.add(identity);
    if (tokenBucket === undefined) problem(`${path}.token_bucket`, "is missing");
    const rate =
      tokenBucket === undefined
        ? { maxTokens: 1, tokensPerFill: 1, fillIntervalMs: 1000 }
        : readRate(tokenBucket, `${path}.token_bucket`, problem);
    if (common !== undefined && rate.fillIntervalMs % common.fillIntervalMs !== 0) {
      problem(`${path}.token_bucket.fill_interval`, "must be a multiple of the common bucket's");
    }
    return { entries: plain, rate, isShadow: newerFlag(descriptor, shadowModeField) };
  });
}

function readRate(
  { maxTokens, tokensPerFill, fillInterval }: TokenBucketConfig,
  path: string,
  problem: Problem,
): BucketRate {
  if (maxTokens < 1) problem(`${path}.max_tokens`, "must be at least 1");
  if (tokensPerFill === 0) problem(`${path}.tokens_per_fill`, "must be at least 1");
  const intervalMs = readMs(fillInterval, `${path}.fill_interval`, problem) ?? 0;
  if (intervalMs < shortestFillMs) problem(`${path}.fill_interval`, `must be at least ${shortestFillMs} ms`);
  return {
    maxTokens: Math.max(maxTokens, 1),
    tokensPerFill: tokensPerFill ?? 1,
    fillIntervalMs: Math.max(intervalMs, shortestFillMs),
  };
}

/** Below 400 nobody would take it for a refusal. */
function rejectionStatus(code: number | undefined): number {
  return code === undefined || code < 400 ? 429 : code;
}
