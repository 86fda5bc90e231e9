/** When a failed attempt is made again, compiled from Envoy's RetryPolicy. */
import type { RetryPolicy as RetryPolicyConfig } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { RetryPolicy_ResetHeaderFormat as ResetFormat } from "#shared/proto/gen/envoy/config/route/v3/route_components_pb.js";
import { PreviousPrioritiesConfigSchema } from "#shared/proto/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js";
import { fromBinary } from "@bufbuild/protobuf";
import type { RequestHead, ResponseHead } from "#waypoint/http/streams.ts";
import { compileHeader } from "#waypoint/matching/header-matcher.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "./durations.ts";
import { compileResponseHeader } from "./match/response-header.ts";
import { parseRetryOn, type RetryConditions } from "./retry-on.ts";

export interface RetryPolicy {
  readonly on: RetryConditions;
  /** Attempts besides the first. */
  readonly retries: number;
  /** 0 for none. */
  readonly perTryTimeoutMs: number;
  readonly perTryIdleTimeoutMs: number;
  readonly statusCodes: ReadonlySet<number>;
  readonly responseHeaders: readonly ((head: ResponseHead) => boolean)[];
  /** Only requests that match one of these are tried again; any where there is none. */
  readonly requestHeaders: readonly ((head: RequestHead) => boolean)[];
  readonly baseMs: number;
  readonly maxMs: number;
  readonly rateLimited: RateLimitedBackOff | undefined;
  /** Keeps away from hosts tried before, picking again so often; 0 for any host. */
  readonly hostPicks: number;
  /** Keeps away from priorities tried before, after every so many attempts. */
  readonly priorityUpdateFrequency: number | undefined;
}

/** The answer says when to come back. */
export interface RateLimitedBackOff {
  readonly headers: readonly { readonly name: string; readonly isTimestamp: boolean }[];
  readonly maxMs: number;
}

const defaultBaseMs = 25;
const defaultRateLimitedMaxMs = 300_000;
/** More than this is no policy but a storm. */
const maxRetries = 0xffff_ffff;

export function compileRetryPolicy(
  config: RetryPolicyConfig | undefined,
  path: string,
  problem: Problem,
): RetryPolicy | undefined {
  if (config === undefined) return undefined;
  const baseMs = readMs(config.retryBackOff?.baseInterval, `${path}.retry_back_off.base_interval`, problem);
  if (config.retryBackOff !== undefined && !baseMs)
    problem(`${path}.retry_back_off.base_interval`, "must be above zero");
  const maxMs = readMs(config.retryBackOff?.maxInterval, `${path}.retry_back_off.max_interval`, problem);
  const base = baseMs || defaultBaseMs;
  if (maxMs !== undefined && maxMs < base)
    problem(`${path}.retry_back_off.max_interval`, `${maxMs} ms is below the base interval of ${base} ms`);
  for (const [index, one] of config.retryOptionsPredicates.entries())
    problem(`${path}.retry_options_predicates[${index}]`, `"${one.name}" is not supported`);
  for (const [index, code] of config.retriableStatusCodes.entries())
    if (code < 100 || code > 599) problem(`${path}.retriable_status_codes[${index}]`, `${code} is no HTTP status`);
  return {
    on: parseRetryOn(config.retryOn, (token) => problem(`${path}.retry_on`, `"${token}" is unknown`)),
    retries: Math.min(config.numRetries ?? 1, maxRetries),
    perTryTimeoutMs: readMs(config.perTryTimeout, `${path}.per_try_timeout`, problem) ?? 0,
    perTryIdleTimeoutMs: readMs(config.perTryIdleTimeout, `${path}.per_try_idle_timeout`, problem) ?? 0,
    statusCodes: new Set(config.retriableStatusCodes),
    responseHeaders: config.retriableHeaders.map((one, index) =>
      compileResponseHeader(one, `${path}.retriable_headers[${index}]`, problem),
    ),
    requestHeaders: config.retriableRequestHeaders.map((one, index) =>
      compileHeader(one, `${path}.retriable_request_headers[${index}]`, problem),
    ),
    baseMs: base,
    maxMs: maxMs ?? base * 10,
    rateLimited: readRateLimited(config, `${path}.rate_limited_retry_back_off`, problem),
    hostPicks: readHostPicks(config, path, problem),
    priorityUpdateFrequency: readPriorities(config, `${path}.retry_priority`, problem),
  };
}

function readRateLimited(
  { rateLimitedRetryBackOff: config }: RetryPolicyConfig,
  path: string,
  problem: Problem,
): RateLimitedBackOff | undefined {
  if (config === undefined) return undefined;
  if (config.resetHeaders.length === 0) problem(`${path}.reset_headers`, "needs at least one");
  return {
    headers: config.resetHeaders.map(({ name, format }, index) => {
      if (name === "") problem(`${path}.reset_headers[${index}].name`, "must not be empty");
      if (ResetFormat[format] === undefined) problem(`${path}.reset_headers[${index}].format`, `${format} is unknown`);
      return { name: name.toLowerCase(), isTimestamp: format === ResetFormat.UNIX_TIMESTAMP };
    }),
    maxMs: readMs(config.maxInterval, `${path}.max_interval`, problem) ?? defaultRateLimitedMaxMs,
  };
}

const previousHosts = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

function readHostPicks(config: RetryPolicyConfig, path: string, problem: Problem): number {
  let isThere = false;
  for (const [index, { name, configType }] of config.retryHostPredicate.entries()) {
    const type = configType.value?.typeUrl.replace(/^.*\//s, "");
    // Older configurations name it only.
    if (type === previousHosts || (type === undefined && name === "envoy.retry_host_predicates.previous_hosts"))
      isThere = true;
    else problem(`${path}.retry_host_predicate[${index}]`, `"${type ?? name}" is not supported`);
  }
  const attempts = Number(config.hostSelectionRetryMaxAttempts);
  if (attempts < 0) problem(`${path}.host_selection_retry_max_attempts`, `${attempts} is negative`);
  return isThere ? Math.min(Math.max(attempts, 1), 100) : 0;
}

function readPriorities({ retryPriority }: RetryPolicyConfig, path: string, problem: Problem): number | undefined {
  if (retryPriority === undefined) return undefined;
  const any = retryPriority.configType.value;
  if (any === undefined || !any.typeUrl.endsWith(`/${PreviousPrioritiesConfigSchema.typeName}`)) {
    problem(path, `"${any?.typeUrl ?? retryPriority.name}" is not supported`);
    return undefined;
  }
  const { updateFrequency } = fromBinary(PreviousPrioritiesConfigSchema, any.value);
  if (updateFrequency <= 0) problem(`${path}.update_frequency`, "must be above zero");
  return Math.max(updateFrequency, 1);
}
