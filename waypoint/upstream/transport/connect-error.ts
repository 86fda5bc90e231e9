/** Why no connection came about, for those to whom it matters which way it failed. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { ResetReason } from "#waypoint/http/streams.ts";

export class ConnectTimeout extends MeshError {
  constructor(target: string, timeoutMs: number) {
    super("UPSTREAM_CONNECT_FAILED", `Cannot connect to "${target}": timed out after ${timeoutMs} ms`);
  }
}

/** A limit of this proxy. */
export class ConnectOverflow extends MeshError {
  constructor(cluster: string) {
    super("UPSTREAM_CONNECT_FAILED", `Cannot connect to cluster "${cluster}": it has as many connections as it may`);
  }
}

/** What a request hears that waited for the connection. */
export function reasonOfConnectError(error: unknown): ResetReason {
  if (error instanceof ConnectTimeout) return "connect-timeout";
  return error instanceof ConnectOverflow ? "overflow" : "connect-failure";
}
