/** How a stream ended, in the words of the metric `istio_xds_connection_terminations`. */
export interface Termination {
  readonly reason: "ConnectionError" | "Reconnect" | "Error" | "Complete";
  readonly message: string;
}

/** Unit: milliseconds, as in Istio's ztunnel. */
export const firstBackoffMs = 10;
export const longestBackoffMs = 15_000;

/**
 * When to connect again. A stream that worked and then broke is tried again at once, since a control plane that restarts
 * or limits the age of connections does this to everybody; what fails at the start or is refused backs off.
 * "At once" is 10 ms, so that a peer which ends every stream does not keep a CPU busy.
 */
export function nextAttempt({ reason }: Termination, backoffMs: number): { delayMs: number; backoffMs: number } {
  switch (reason) {
    case "Reconnect":
    case "Complete":
      return { delayMs: firstBackoffMs, backoffMs: firstBackoffMs };
    case "ConnectionError":
    case "Error": {
      const delayMs = Math.min(longestBackoffMs, backoffMs * 2);
      return { delayMs, backoffMs: delayMs };
    }
  }
}
