/** For tests: a rate limit service without sockets. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  RateLimitRequestSchema,
  RateLimitResponseSchema,
  type RateLimitRequest,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { Headers } from "#waypoint/http/headers.ts";
import type { RequestHead, ResponseReader } from "#waypoint/http/streams.ts";
import type { Cluster, Clusters } from "#waypoint/upstream/clusters.ts";

/**
 * One that answers with what `answer` says, or cannot be reached; its cluster is `rls`. What it was asked, and within
 * which time.
 */
export function rateLimitService(
  answer: (request: RateLimitRequest) => MessageInitShape<typeof RateLimitResponseSchema> | "fail",
): { readonly asked: readonly RateLimitRequest[]; readonly deadlines: readonly string[]; readonly clusters: Clusters } {
  const asked: RateLimitRequest[] = [];
  const deadlines: string[] = [];
  const cluster = {
    name: "rls",
    pick: () => ({ kind: "host", host: { key: "h", active: 0 } }),
    admitRequest: () => ({ release: () => {} }),
    report: () => {},
    send: (_host: unknown, head: RequestHead, _ends: boolean, reader: ResponseReader) => {
      deadlines.push(head.headers.get("grpc-timeout") ?? "");
      return {
        write: (frame: Buffer) => {
          const request = fromBinary(RateLimitRequestSchema, frame.subarray(5));
          asked.push(request);
          const said = answer(request);
          if (said === "fail") {
            queueMicrotask(() => reader.reset("connect-failure", "refused"));
            return true;
          }
          const message = toBinary(RateLimitResponseSchema, create(RateLimitResponseSchema, said));
          const body = Buffer.alloc(5 + message.length);
          body.writeUInt32BE(message.length, 1);
          body.set(message, 5);
          queueMicrotask(() => {
            reader.head({ status: 200, headers: new Headers(["content-type", "application/grpc"]) }, false);
            reader.data(body);
            reader.end(new Headers(["grpc-status", "0"]));
          });
          return true;
        },
        end: () => {},
        reset: () => {},
        pause: () => {},
        resume: () => {},
      };
    },
  } as unknown as Cluster;
  return { asked, deadlines, clusters: { get: (name: string) => (name === "rls" ? cluster : undefined) } };
}
