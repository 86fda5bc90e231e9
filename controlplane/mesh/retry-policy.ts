/** Retries as Istio writes them: in routes, and in the mesh configuration as the default of routes without. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";

export interface RetryPolicy {
  /** Tries after the first; 0: none. */
  readonly attempts: number;
  readonly perTryTimeoutMs: number | undefined;
  /** As written: conditions and status codes with commas between. */
  readonly retryOn: string;
  readonly retryRemoteLocalities: boolean;
  /** undefined: not said. */
  readonly retryIgnorePreviousHosts: boolean | undefined;
  readonly backoffMs: number | undefined;
}

export function readRetryPolicy(retries: Field): RetryPolicy | undefined {
  if (!retries.isPresent) return undefined;
  return {
    attempts: retries.at("attempts").uint32(),
    perTryTimeoutMs: durationMs(retries.at("perTryTimeout")),
    retryOn: retries.at("retryOn").text(),
    retryRemoteLocalities: retries.at("retryRemoteLocalities").flag(),
    retryIgnorePreviousHosts: retries.at("retryIgnorePreviousHosts").optionalFlag(),
    backoffMs: durationMs(retries.at("backoff")),
  };
}
