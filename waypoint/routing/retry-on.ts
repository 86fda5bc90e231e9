/** Names of the conditions under which an attempt is made again. */

export interface RetryConditions {
  readonly tokens: ReadonlySet<RetryToken>;
  /** `grpc-status` values. */
  readonly grpcStatuses: ReadonlySet<number>;
}

export type RetryToken =
  | "5xx"
  | "gateway-error"
  | "reset"
  | "reset-before-request"
  | "connect-failure"
  | "refused-stream"
  | "retriable-4xx"
  | "retriable-status-codes"
  | "retriable-headers"
  | "envoy-ratelimited"
  | "http3-post-connect-failure";

const tokens: ReadonlySet<string> = new Set<RetryToken>([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "refused-stream",
  "retriable-4xx",
  "retriable-status-codes",
  "retriable-headers",
  "envoy-ratelimited",
  "http3-post-connect-failure",
]);

const grpc: Readonly<Record<string, number>> = {
  cancelled: 1,
  "deadline-exceeded": 4,
  "resource-exhausted": 8,
  internal: 13,
  unavailable: 14,
};

/** `unknown` hears of what is none; a caller's header may hold anything, a configuration may not. */
export function parseRetryOn(text: string, unknown: (token: string) => void): RetryConditions {
  const found = new Set<RetryToken>();
  const statuses = new Set<number>();
  for (const token of text.split(",")) {
    const name = token.trim();
    const status = Object.hasOwn(grpc, name) ? grpc[name] : undefined;
    if (status !== undefined) statuses.add(status);
    else if (tokens.has(name)) found.add(name as RetryToken);
    else if (name !== "") unknown(name);
  }
  return { tokens: found, grpcStatuses: statuses };
}
