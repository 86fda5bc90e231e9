/** Asks a rate limit service: `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`, over a cluster. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RateLimitRequestSchema,
  RateLimitResponseSchema,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { DownstreamConnection } from "#waypoint/http/exchange.ts";
import { callUnary } from "#waypoint/upstream/grpc-unary.ts";
import type { Clusters } from "#waypoint/upstream/clusters.ts";

const method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

export interface ServiceTarget {
  readonly cluster: string;
  readonly authority: string | undefined;
  /** 0: as long as it takes, bounded by the call itself. */
  readonly timeoutMs: number;
}

/** @throws MeshError UPSTREAM_CONNECT_FAILED where the service cannot be asked in time or answers with an error */
export async function askService(
  clusters: Clusters,
  target: ServiceTarget,
  request: MessageInitShape<typeof RateLimitRequestSchema>,
  connection: DownstreamConnection,
): Promise<RateLimitResponse> {
  const bytes = await callUnary(clusters, {
    cluster: target.cluster,
    ...(target.authority === undefined ? {} : { authority: target.authority }),
    method,
    message: toBinary(RateLimitRequestSchema, create(RateLimitRequestSchema, request)),
    timeoutMs: target.timeoutMs,
    connection,
  });
  return fromBinary(RateLimitResponseSchema, bytes);
}
