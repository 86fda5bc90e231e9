/** Rate limits counted by a service: `envoy.filters.http.ratelimit`. One question for each request that has descriptors. */
import { anyUnpack, type Any } from "@bufbuild/protobuf/wkt";
import { explain } from "#shared/errors/mesh-error.ts";
import type { HeaderValueOption } from "#shared/proto/gen/envoy/config/core/v3/base_pb.js";
import { VhRateLimitsOptions } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import {
  RateLimit_XRateLimitHeadersRFCVersion as XHeaders,
  RateLimitPerRoute_VhRateLimitsOptions as PerRouteOption,
  RateLimitPerRouteSchema,
  RateLimitSchema,
  type RateLimitPerRoute,
} from "#shared/proto/gen/envoy/extensions/filters/http/ratelimit/v3/rate_limit_pb.js";
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse_RateLimit_Unit as Unit,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { Exchange, LocalReply } from "#waypoint/http/exchange.ts";
import { Headers } from "#waypoint/http/headers.ts";
import type { ResponseHead } from "#waypoint/http/streams.ts";
import type { Layer, LayerContext, LayerKind, LayerResult } from "#waypoint/layers/layer.ts";
import { reportUnknownFields } from "#waypoint/matching/unknown-fields.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { compileHeaderEdit, type HeaderEdit } from "#waypoint/routing/header-edits.ts";
import type { Descriptor } from "./descriptors.ts";
import { routeDescriptors } from "./route-descriptors.ts";
import { addRequestHeaders, answerBody, answerHeaders } from "./service-answer.ts";
import { askService, type ServiceTarget } from "./service-client.ts";

const defaultTimeoutMs = 20;

interface GlobalLimits {
  readonly domain: string;
  readonly stage: number;
  readonly target: ServiceTarget;
  readonly deniesOnError: boolean;
  readonly statusOnError: number;
  readonly status: number;
  readonly grpcStatus: number;
  readonly tellsLimits: boolean;
  readonly marksLimited: boolean;
  readonly responseHeaders: HeaderEdit | undefined;
}

export const globalRateLimitLayer: LayerKind = {
  type: RateLimitSchema.typeName,
  compile(name, any, context) {
    const limits = compile(any, context);
    return limits === undefined ? undefined : new GlobalRateLimitLayer(name, limits, context);
  },
  routeTypes: {
    [RateLimitPerRouteSchema.typeName]: (any: Any, { problem }: LayerContext) => {
      const config = anyUnpack(any, RateLimitPerRouteSchema);
      if (config === undefined) return undefined;
      reportUnknownFields(config, problem);
      if (config.rateLimits.length > 0) problem("rate_limits", "is not supported here: write rate_limits on the route");
      return config;
    },
  },
};

class GlobalRateLimitLayer implements Layer {
  readonly name: string;
  readonly #limits: GlobalLimits;
  readonly #context: LayerContext;
  readonly #told = new WeakMap<Exchange, readonly (readonly [string, string])[]>();

  constructor(name: string, limits: GlobalLimits, context: LayerContext) {
    this.name = name;
    this.#limits = limits;
    this.#context = context;
  }

  onRequest(exchange: Exchange): LayerResult | Promise<LayerResult> {
    const own = exchange.route?.layerConfigs.get(this.name) as RateLimitPerRoute | undefined;
    const descriptors = routeDescriptors(exchange, this.#limits.stage, virtualHostOption(own));
    if (descriptors.length === 0) return undefined;
    return this.#ask(exchange, own?.domain || this.#limits.domain, descriptors);
  }

  async #ask(exchange: Exchange, domain: string, descriptors: readonly Descriptor[]): Promise<LayerResult> {
    const { clusters, log } = this.#context;
    const limits = this.#limits;
    let response: RateLimitResponse;
    try {
      const message = { domain, descriptors: descriptors.map((entries) => ({ entries: [...entries] })) };
      response = await askService(clusters, limits.target, message, exchange.connection);
    } catch (thrown) {
      log.debug({ filter: this.name, error: explain(thrown) }, "rate limit service cannot be asked");
      return limits.deniesOnError
        ? { status: limits.statusOnError, details: "rate_limiter_error", flag: "RLSE" }
        : undefined;
    }
    const told: (readonly [string, string])[] = limits.tellsLimits ? [...quotaHeaders(response)] : [];
    told.push(...answerHeaders(response));
    if (told.length > 0) this.#told.set(exchange, told);
    if (response.overallCode === Code.OVER_LIMIT) return this.#limited(exchange, response);
    addRequestHeaders(response, exchange.request.headers);
    return undefined;
  }

  #limited(exchange: Exchange, response: RateLimitResponse): LocalReply {
    const { status, grpcStatus, marksLimited, responseHeaders } = this.#limits;
    const headers = new Headers();
    if (marksLimited) headers.append("x-envoy-ratelimited", "true");
    responseHeaders?.(headers, exchange, undefined);
    const body = answerBody(response);
    return {
      status,
      ...(body !== undefined && { body }),
      headers,
      details: "request_rate_limited",
      flag: "RL",
      grpcStatus,
    };
  }

  onResponse(exchange: Exchange, { headers }: ResponseHead): void {
    for (const [name, value] of this.#told.get(exchange) ?? []) headers.append(name, value);
  }
}

function virtualHostOption(own: RateLimitPerRoute | undefined): VhRateLimitsOptions {
  switch (own?.vhRateLimits) {
    case PerRouteOption.INCLUDE:
      return VhRateLimitsOptions.INCLUDE;
    case PerRouteOption.IGNORE:
      return VhRateLimitsOptions.IGNORE;
    case PerRouteOption.OVERRIDE:
    case undefined:
      return VhRateLimitsOptions.OVERRIDE;
  }
}

/** Newer than the definitions that we generate from. */
const week: number = 7;

const unitSeconds: ReadonlyMap<number, number> = new Map([
  [Unit.SECOND, 1],
  [Unit.MINUTE, 60],
  [Unit.HOUR, 3_600],
  [Unit.DAY, 86_400],
  [week, 604_800],
  [Unit.MONTH, 2_592_000],
  [Unit.YEAR, 31_536_000],
]);

/** `X-RateLimit-*`: the descriptor that leaves least, and the quota of every one. */
function* quotaHeaders({ statuses }: RateLimitResponse): Iterable<readonly [string, string]> {
  const known = statuses.filter(({ currentLimit }) => currentLimit !== undefined);
  const [first, ...more] = known;
  if (first === undefined) return;
  const least = more.reduce((a, b) => (b.limitRemaining < a.limitRemaining ? b : a), first);
  const quotas = known.map(({ currentLimit }) => {
    const seconds = unitSeconds.get(currentLimit?.unit ?? Unit.UNKNOWN);
    const window = seconds === undefined ? "" : `;w=${seconds}`;
    const name = currentLimit?.name ?? "";
    return `${currentLimit?.requestsPerUnit ?? 0}${window}${name === "" ? "" : `;name="${name}"`}`;
  });
  yield ["x-ratelimit-limit", [`${least.currentLimit?.requestsPerUnit ?? 0}`, ...quotas].join(", ")];
  yield ["x-ratelimit-remaining", `${least.limitRemaining}`];
  yield ["x-ratelimit-reset", `${least.durationUntilReset?.seconds ?? 0n}`];
}

function compile(any: Any, { problem }: LayerContext): GlobalLimits | undefined {
  const config = anyUnpack(any, RateLimitSchema);
  if (config === undefined) return undefined;
  reportUnknownFields(config, problem);
  if (config.domain === "") problem("domain", "must not be empty");
  if (config.stage > 10) problem("stage", `${config.stage} is not in 0 to 10`);
  if (!["", "both"].includes(config.requestType)) {
    problem("request_type", `"${config.requestType}" is not supported: every request is counted`);
  }
  const service = config.rateLimitService?.grpcService;
  const envoyGrpc = service?.targetSpecifier.case === "envoyGrpc" ? service.targetSpecifier.value : undefined;
  if (envoyGrpc === undefined) problem("rate_limit_service.grpc_service.envoy_grpc", "is missing");
  return {
    domain: config.domain,
    stage: config.stage,
    target: {
      cluster: envoyGrpc?.clusterName ?? "",
      authority: envoyGrpc?.authority === "" ? undefined : envoyGrpc?.authority,
      timeoutMs: readMs(config.timeout, "timeout", problem) ?? defaultTimeoutMs,
    },
    deniesOnError: config.failureModeDeny,
    statusOnError: config.statusOnError?.code ?? 500,
    status: rejectionStatus(config.rateLimitedStatus?.code),
    grpcStatus: config.rateLimitedAsResourceExhausted ? 8 : 14,
    tellsLimits: config.enableXRatelimitHeaders === XHeaders.DRAFT_VERSION_03,
    marksLimited: !config.disableXEnvoyRatelimitedHeader,
    responseHeaders: edit(config.responseHeadersToAdd),
  };

  function edit(headers: readonly HeaderValueOption[]): HeaderEdit | undefined {
    const path = "response_headers_to_add";
    if (headers.length > 10) problem(path, `has ${headers.length} entries: at most 10`);
    return headers.length === 0 ? undefined : compileHeaderEdit(headers, [], { add: path, remove: path }, problem);
  }
}

/** Below 400 nobody would take it for a refusal. */
function rejectionStatus(code: number | undefined): number {
  return code === undefined || code < 400 ? 429 : code;
}
