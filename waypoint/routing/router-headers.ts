/** Headers that steer the router. Callers' own are gone by now: what stands here was set by a route or a layer. */
import type { RequestHead, ResponseHead } from "#waypoint/http/streams.ts";
import { parseRetryOn } from "./retry-on.ts";
import type { RetryPolicy } from "./retry-policy.ts";

export interface RouterHeaders {
  readonly timeoutMs: number | undefined;
  readonly perTryTimeoutMs: number | undefined;
  readonly maxRetries: number | undefined;
  readonly retryOn: string | undefined;
  readonly retryGrpcOn: string | undefined;
  readonly statusCodes: string | undefined;
  readonly headerNames: string | undefined;
}

const names: ReadonlySet<string> = new Set([
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-max-retries",
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
]);

/** Takes them off the request; undefined where there is none, which is the rule. */
export function takeRouterHeaders({ headers }: RequestHead): RouterHeaders | undefined {
  const { pairs } = headers;
  let found = false;
  for (let i = 0; i < pairs.length && !found; i += 2) {
    const name = pairs[i] as string;
    found = name.startsWith("x-envoy-") && names.has(name);
  }
  if (!found) return undefined;
  const take = (name: string): string | undefined => {
    const value = headers.get(name);
    if (value !== undefined) headers.delete(name);
    return value;
  };
  const number = (name: string): number | undefined => {
    const text = take(name);
    return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
  };
  return {
    timeoutMs: number("x-envoy-upstream-rq-timeout-ms"),
    perTryTimeoutMs: number("x-envoy-upstream-rq-per-try-timeout-ms"),
    maxRetries: number("x-envoy-max-retries"),
    retryOn: take("x-envoy-retry-on"),
    retryGrpcOn: take("x-envoy-retry-grpc-on"),
    statusCodes: take("x-envoy-retriable-status-codes"),
    headerNames: take("x-envoy-retriable-header-names"),
  };
}

const noPolicy: RetryPolicy = {
  on: { tokens: new Set(), grpcStatuses: new Set() },
  retries: 1,
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  statusCodes: new Set(),
  responseHeaders: [],
  requestHeaders: [],
  baseMs: 25,
  maxMs: 250,
  rateLimited: undefined,
  hostPicks: 0,
  priorityUpdateFrequency: undefined,
};

/** The route's policy with what headers add to it: conditions together, the number of retries instead. */
export function withRouterHeaders(policy: RetryPolicy | undefined, headers: RouterHeaders): RetryPolicy | undefined {
  const { maxRetries, retryOn, retryGrpcOn, statusCodes, headerNames } = headers;
  if (policy === undefined && retryOn === undefined && retryGrpcOn === undefined) return undefined;
  const base = policy ?? noPolicy;
  const ignore = () => undefined;
  const more = [retryOn, retryGrpcOn].map((text) => parseRetryOn(text ?? "", ignore));
  const responseHeaders = (headerNames ?? "")
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "")
    .map((name) => (head: ResponseHead) => head.headers.has(name));
  const codes = (statusCodes ?? "").split(",").filter((code) => /^\s*\d{3}\s*$/.test(code));
  return {
    ...base,
    on: {
      tokens: new Set([...base.on.tokens, ...more.flatMap(({ tokens }) => [...tokens])]),
      grpcStatuses: new Set([...base.on.grpcStatuses, ...more.flatMap(({ grpcStatuses }) => [...grpcStatuses])]),
    },
    retries: maxRetries ?? base.retries,
    statusCodes: new Set([...base.statusCodes, ...codes.map(Number)]),
    responseHeaders: [...base.responseHeaders, ...responseHeaders],
  };
}
