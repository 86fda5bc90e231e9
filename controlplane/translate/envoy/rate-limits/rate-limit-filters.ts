/** RateLimitPolicies of a chain as HTTP filters: ours, and beside a simple one the filter that stock Envoy has for it. */
import { create, createRegistry, toJson, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Key_Missing as Missing,
  Limit_Scope as Scope,
  RateLimitFilterSchema,
  Response_StandardHeaders as Standard,
  type KeySchema,
  type LimitSchema,
  type RateLimitPolicySchema,
  type RateSchema,
  type ResponseSchema,
} from "#shared/proto/gen/ambit/policy/v1alpha1/rate_limit_filter_pb.js";
import { XRateLimitHeadersRFCVersion } from "#shared/proto/gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js";
import { LocalRateLimitSchema } from "#shared/proto/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { UriTemplateMatchConfigSchema } from "#shared/proto/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { TypedStructSchema } from "#shared/proto/gen/xds/type/v3/typed_struct_pb.js";
import type { Limit, LimitKey, RateLimitBody, RateWindow } from "#controlplane/mesh/rate-limit-policy.ts";
import { trustDomainsOf } from "#controlplane/mesh/mesh-config.ts";
import { serviceHostname, type ServiceInfo } from "#controlplane/translate/services.ts";
import { clusterOf } from "../cluster-names.ts";
import type { Destination, EnvoyContext } from "../context.ts";
import { duration, pack, statusCode } from "../messages.ts";
import type { HttpFilterInit } from "../security/filters.ts";
import { keyOf, policiesInForce, type LimitInForce, type PolicyInForce } from "./in-force.ts";
import { matchPolicy } from "./match-policy.ts";

type Init<T> = Exclude<T, { $typeName: string }>;
type PolicyInit = Init<MessageInitShape<typeof RateLimitPolicySchema>>;
type LimitInit = Init<MessageInitShape<typeof LimitSchema>>;
type RateInit = Init<MessageInitShape<typeof RateSchema>>;
type KeyInit = Init<MessageInitShape<typeof KeySchema>>;
type ResponseInit = Init<MessageInitShape<typeof ResponseSchema>>;

export interface RateLimitFilters {
  /** Before external authorizers and tokens. */
  readonly early: readonly HttpFilterInit[];
  /** After authorization, before faults. */
  readonly late: readonly HttpFilterInit[];
}

export function rateLimitFilters(context: EnvoyContext, service: ServiceInfo | undefined): RateLimitFilters {
  const policies = policiesInForce(context, service);
  const [early, late] = [true, false].map((isEarly) => policies.filter(({ body }) => body.isEarly === isEarly));
  return { early: filtersOf(context, "pre_auth", early ?? []), late: filtersOf(context, "", late ?? []) };
}

/** The rate limit services that a chain asks: clusters are made for them. */
export function rateLimitDestinations(context: EnvoyContext, service: ServiceInfo | undefined): readonly Destination[] {
  return policiesInForce(context, service).flatMap((each) => {
    const found = globalService(context, each);
    return found === undefined ? [] : [found];
  });
}

/** What may stand in the conditions of a match. */
const matchers = createRegistry(UriTemplateMatchConfigSchema);

function filtersOf(
  context: EnvoyContext,
  suffix: string,
  policies: readonly PolicyInForce[],
): readonly HttpFilterInit[] {
  if (policies.length === 0) return [];
  const filter = create(RateLimitFilterSchema, { policies: policies.map((each) => policyInit(context, each)) });
  return [
    {
      name: suffix === "" ? "ambit.rate_limit" : `ambit.rate_limit.${suffix}`,
      isOptional: true,
      configType: {
        case: "typedConfig",
        value: pack(TypedStructSchema, {
          typeUrl: `type.googleapis.com/${RateLimitFilterSchema.typeName}`,
          value: toJson(RateLimitFilterSchema, filter, { registry: matchers }) as JsonObject,
        }),
      },
    },
    ...policies.flatMap(standIn),
  ];
}

function policyInit(context: EnvoyContext, each: PolicyInForce): PolicyInit {
  const { policy, body, routes, limits } = each;
  const destination = globalService(context, each);
  return {
    name: keyOf(policy),
    shadow: body.isShadow,
    routes: [...routes],
    limits: limits.map((limit) => limitInit(context, policy.meta.namespace, limit)),
    response: responseInit(body),
    ...(body.service === undefined
      ? {}
      : {
          global: {
            // Without such a service the answer is that of an error.
            cluster:
              destination === undefined
                ? `no-rate-limit-service|${body.service.name}`
                : clusterOf(context, destination.service, destination.port, "http", ""),
            domain: body.service.domain || policy.meta.namespace,
            timeoutMs: body.service.timeoutMs,
            deniesOnError: body.deniesOnError,
            errorStatus: body.errorStatus,
          },
        }),
  };
}

function globalService(context: EnvoyContext, { policy, body, limits }: PolicyInForce): Destination | undefined {
  if (body.service === undefined || !limits.some(({ limit }) => limit.isGlobal)) return undefined;
  const namespace = body.service.namespace || policy.meta.namespace;
  const { name, port: wanted } = body.service;
  const service = context.findService(serviceHostname(name, namespace, context.options), policy.meta.namespace);
  const port = service?.ports.find(({ port }) => port === wanted);
  return service === undefined || port === undefined ? undefined : { service, port, subset: "", protocol: "http" };
}

function limitInit(context: EnvoyContext, namespace: string, { limit, exceptRoutes }: LimitInForce): LimitInit {
  const scope = {
    namespace,
    trustDomains: trustDomainsOf(context.meshConfig),
  };
  const rate = (window: RateWindow): RateInit => rateInit(window, limit.sharesReplicas ? replicas(context) : 1);
  return {
    name: limit.name,
    scope: limit.isGlobal ? Scope.GLOBAL : Scope.LOCAL,
    match: limit.match.map((each) => matchPolicy(each, scope)),
    key: limit.key.map(keyInit),
    rates: limit.rates.map(rate),
    cost: { cost: costInit(limit) },
    overrides: limit.overrides.map(({ when, rates }) => ({ match: matchPolicy(when, scope), rates: rates.map(rate) })),
    maxKeys: limit.maxKeys,
    exceptRoutes: [...exceptRoutes],
  };
}

const replicas = ({ waypoint }: EnvoyContext): number => Math.max(waypoint.readyReplicas, 1);

/** A share of a number that cannot be divided is the whole number in a time that is so much longer: nothing gets lost. */
function rateInit({ requests, perMs, burst }: RateWindow, shares: number): RateInit {
  const isWhole = requests % shares === 0;
  return {
    requests: isWhole ? requests / shares : requests,
    perMs: BigInt(isWhole ? perMs : perMs * shares),
    burst: Math.max(Math.ceil(burst / shares), 1),
  };
}

function costInit({ cost }: Limit) {
  switch (cost.kind) {
    case "value":
      return { case: "value" as const, value: cost.value };
    case "request":
      return { case: "requestHeader" as const, value: cost.header };
    case "response":
      return { case: "responseHeader" as const, value: cost.header };
    case "requestExpression":
    case "responseExpression":
      return { case: cost.kind, value: cost.cel };
  }
}

const missing = { Skip: Missing.SKIP, UseEmpty: Missing.USE_EMPTY, Ignore: Missing.IGNORE } as const;

const keyInit = ({ source, onMissing }: LimitKey): KeyInit => ({
  onMissing: missing[onMissing],
  source: keySource(source),
});

function keySource(source: LimitKey["source"]): NonNullable<KeyInit["source"]> {
  switch (source.kind) {
    case "header":
    case "cookie":
    case "queryParam":
      return { case: source.kind, value: source.name };
    case "path":
      return { case: "path", value: { template: source.isTemplate } };
    case "remoteAddress":
      return { case: "remoteAddress", value: { v4PrefixLength: source.v4, v6PrefixLength: source.v6 } };
    case "jwtClaim":
      return { case: "jwtClaim", value: { name: [...source.path], issuer: source.issuer } };
    case "literal":
      return { case: "literal", value: source.value };
    case "expression":
      return { case: "expression", value: source.cel };
    case "method":
    case "host":
    case "sourcePrincipal":
    case "sourceNamespace":
    case "sourceServiceAccount":
    case "sourceWorkload":
    case "requestPrincipal":
    case "route":
      return { case: source.kind, value: {} };
  }
}

const standardHeaders = {
  Off: Standard.OFF,
  DraftVersion03: Standard.DRAFT_VERSION_03,
  IETF: Standard.IETF,
} as const;

const responseInit = ({ response }: RateLimitBody): ResponseInit => ({
  status: response.status,
  body: response.body,
  contentType: response.contentType,
  headers: Object.fromEntries(response.headers),
  retryAfter: response.retryAfter,
  standardHeaders: standardHeaders[response.standardHeaders],
  grpcStatus: response.grpcStatus,
});

/**
 * What stock Envoy can do of a policy: one bucket for everybody. It stands beside ours, which reads the policy itself and
 * passes this one over (by its stat prefix).
 */
function standIn({ policy, body, routes, limits }: PolicyInForce): readonly HttpFilterInit[] {
  const [only, ...more] = limits;
  if (only === undefined || more.length > 0 || routes.length > 0 || only.exceptRoutes.length > 0) return [];
  const { limit } = only;
  const [window, ...windows] = limit.rates;
  const status = statusCode(String(body.response.status));
  const isPlain =
    status !== undefined &&
    window !== undefined &&
    windows.length === 0 &&
    !limit.isGlobal &&
    !limit.sharesReplicas &&
    limit.match.length + limit.key.length + limit.overrides.length === 0 &&
    limit.cost.kind === "value" &&
    limit.cost.value === 1 &&
    ["", "local_rate_limited"].includes(body.response.body) &&
    body.response.standardHeaders !== "IETF";
  if (!isPlain) return [];
  const { requests, perMs, burst } = window;
  // As the bucket of a policy fills.
  const [tokens, intervalMs] = burst >= requests ? [requests, perMs] : [burst, (perMs * burst) / requests];
  const all = { defaultValue: { numerator: 100 } };
  return [
    {
      name: "envoy.filters.http.local_ratelimit",
      configType: {
        case: "typedConfig",
        value: pack(LocalRateLimitSchema, {
          statPrefix: `ambit_rate_limit_policy.${policy.meta.namespace}.${policy.meta.name}`,
          tokenBucket: { maxTokens: burst, tokensPerFill: tokens, fillInterval: duration(intervalMs) },
          filterEnabled: all,
          filterEnforced: body.isShadow ? { defaultValue: {} } : all,
          status: { code: status },
          responseHeadersToAdd: [...body.response.headers]
            .slice(0, 10)
            .map(([key, value]) => ({ header: { key, value } })),
          rateLimitedAsResourceExhausted: body.response.grpcStatus === 8,
          enableXRatelimitHeaders:
            body.response.standardHeaders === "DraftVersion03"
              ? XRateLimitHeadersRFCVersion.DRAFT_VERSION_03
              : XRateLimitHeadersRFCVersion.OFF,
        }),
      },
    },
  ];
}
