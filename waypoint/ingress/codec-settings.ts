/** How HTTP is spoken with clients of one chain. */
import type { Http1ServerOptions } from "#waypoint/http/http1-server.ts";
import type { http2ServerDefaults } from "#waypoint/http/http2-server.ts";

export interface CodecSettings {
  /** `auto`: whatever begins with HTTP/2's preface is HTTP/2. */
  readonly protocol: "auto" | "HTTP/1" | "HTTP/2";
  readonly http1: Http1ServerOptions;
  readonly http2: typeof http2ServerDefaults;
  /** Without a request. 0 for ever. Milliseconds, as below. */
  readonly idleTimeoutMs: number;
  /** Age at which a connection takes no more requests. 0 for any. */
  readonly maxConnectionDurationMs: number;
  /** 0 for any number. */
  readonly maxRequestsPerConnection: number;
  /** Equal for equal settings. */
  readonly key: string;
}
