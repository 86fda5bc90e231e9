/** A collector of spans, and the way to one by HTTP, through a cluster. */
import { MeshError } from "#shared/errors/mesh-error.ts";
import type { HttpService } from "#shared/proto/gen/envoy/config/core/v3/http_service_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { LayerContext } from "#waypoint/layers/layer.ts";
import type { Problem } from "#waypoint/matching/string-matcher.ts";
import { readMs } from "#waypoint/routing/durations.ts";
import { callHttp } from "#waypoint/upstream/http-call.ts";

/** A way to a collector. */
export interface Send {
  /** Equal for collectors that are one and the same. */
  readonly key: string;
  readonly send: (message: Uint8Array) => Promise<void>;
}

export interface Collector extends Send {
  /** What it takes, and so in which headers traces are handed on. */
  readonly format: "otlp" | "zipkin";
  /** Undefined for the proxy's own name. */
  readonly serviceName: string | undefined;
  readonly usesEnvironment: boolean;
  readonly samplesAll: boolean;
}

/** Where nothing is said. Milliseconds. */
export const timeoutMsDefault = 5_000;
const maxAnswerBytes = 1024 * 1024;

export function overHttp(
  service: HttpService,
  contentType: string,
  clusters: LayerContext["clusters"],
  problem: Problem,
): Send | undefined {
  const { httpUri } = service;
  const upstream = httpUri?.httpUpstreamType;
  const uri = httpUri === undefined ? null : URL.parse(httpUri.uri);
  if (upstream?.case !== "cluster" || uri === null) {
    problem("http_uri", "needs a URI and a cluster");
    return undefined;
  }
  const cluster = upstream.value;
  const timeoutMs = readMs(httpUri?.timeout, "http_uri.timeout", problem) || timeoutMsDefault;
  const added = service.requestHeadersToAdd.flatMap(({ header }) =>
    header === undefined ? [] : [header.key.toLowerCase(), header.value],
  );
  return {
    key: JSON.stringify(["http", contentType, cluster, uri.href, timeoutMs, added]),
    send: async (message) => {
      const headers = new Headers(["content-type", contentType, ...added]);
      headers.append("content-length", String(message.length));
      const { status } = await callHttp(clusters, {
        cluster,
        head: { method: "POST", scheme: "http", authority: uri.host, path: uri.pathname + uri.search, headers },
        body: Buffer.from(message),
        timeoutMs,
        maxAnswerBytes,
      });
      if (status < 200 || status > 299) {
        throw new MeshError("UPSTREAM_CONNECT_FAILED", `Cannot send spans to "${cluster}": it answered ${status}`);
      }
    },
  };
}
