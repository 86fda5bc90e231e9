/** Whether and when an attempt of one request is made again. No timers, no sockets; chance and time come in. */
import type { RequestHead, ResetReason, ResponseHead } from "#waypoint/http/streams.ts";
import type { RetryPolicy } from "./retry-policy.ts";

/** What happened to an attempt. A `timeout` is one for that attempt alone. */
export type Failure = ResetReason | "timeout";

export class RetryState {
  readonly policy: RetryPolicy;
  #left: number;
  #windowMs: number;
  readonly #random: () => number;

  constructor(policy: RetryPolicy, random: () => number) {
    this.policy = policy;
    this.#left = policy.retries;
    this.#windowMs = Math.min(policy.baseMs, policy.maxMs);
    this.#random = random;
  }

  /** Uses one up; false where none is left. */
  take(): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    return true;
  }

  /** Milliseconds before the next attempt: anything up to a window that doubles each time, or what the answer asks for. */
  delayMs(head: ResponseHead | undefined, nowMs: number): number {
    const asked = head && this.#askedFor(head, nowMs);
    if (asked !== undefined) return asked + Math.floor((this.#random() * asked) / 2);
    const windowMs = this.#windowMs;
    this.#windowMs = Math.min(windowMs * 2, this.policy.maxMs);
    return Math.floor(this.#random() * windowMs);
  }

  #askedFor(head: ResponseHead, nowMs: number): number | undefined {
    const { rateLimited } = this.policy;
    if (rateLimited === undefined) return undefined;
    for (const { name, isTimestamp } of rateLimited.headers) {
      const text = head.headers.get(name);
      if (text === undefined || !/^\d{1,12}$/.test(text)) continue;
      const ms = Number(text) * 1000 - (isTimestamp ? Math.floor(nowMs / 1000) * 1000 : 0);
      if (ms > 0 && ms <= rateLimited.maxMs) return ms;
    }
    return undefined;
  }
}

/** Whether the policy is meant for this request at all. */
export function isRetriable(policy: RetryPolicy | undefined, request: RequestHead): policy is RetryPolicy {
  if (policy === undefined || policy.retries === 0) return false;
  const { tokens, grpcStatuses } = policy.on;
  if (tokens.size === 0 && grpcStatuses.size === 0) return false;
  return policy.requestHeaders.length === 0 || policy.requestHeaders.some((test) => test(request));
}

/** Whether an answer is of the kind that is asked for again. */
export function retriesOnHead({ on, statusCodes, responseHeaders }: RetryPolicy, head: ResponseHead): boolean {
  const { tokens, grpcStatuses } = on;
  const { status, headers } = head;
  // The upstream had a limit of its own in mind: only who asks for it tries again.
  if (headers.has("x-envoy-ratelimited")) return tokens.has("envoy-ratelimited");
  if (status >= 500 && status < 600 && tokens.has("5xx")) return true;
  if (status >= 502 && status <= 504 && tokens.has("gateway-error")) return true;
  if (status === 409 && tokens.has("retriable-4xx")) return true;
  if (statusCodes.has(status) && tokens.has("retriable-status-codes")) return true;
  if (tokens.has("retriable-headers") && responseHeaders.some((test) => test(head))) return true;
  if (grpcStatuses.size === 0) return false;
  const grpc = headers.get("grpc-status");
  return grpc !== undefined && /^\d{1,2}$/.test(grpc) && grpcStatuses.has(Number(grpc));
}

/** Whether an attempt that ended without an answer is made again. `sent`: bytes of the request may have reached the upstream. */
export function retriesOnFailure({ on: { tokens } }: RetryPolicy, failure: Failure, sent: boolean): boolean {
  if (failure === "overflow") return false;
  if (tokens.has("reset") || tokens.has("5xx") || tokens.has("gateway-error")) return true;
  if (tokens.has("reset-before-request") && !sent) return true;
  if (failure === "refused-stream" || failure === "closed-unanswered") return tokens.has("refused-stream");
  return (failure === "connect-failure" || failure === "connect-timeout") && tokens.has("connect-failure");
}
