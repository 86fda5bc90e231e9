/**
 * A rate limit service that is not ours, with manners by domain: `over` refuses in its own words, `slow` thinks for a
 * second, `garbage` answers with bytes that are no message, `broken` with an error; any other admits and says how often.
 * `PORT=8081 node e2e/support/foreign-limits.ts`
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { Server, ServerCredentials, status, type ServerUnaryCall } from "@grpc/grpc-js";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
  RateLimitResponseSchema,
  type RateLimitRequest,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";

let asked = 0;

async function answer({ domain }: RateLimitRequest): Promise<Uint8Array> {
  asked++;
  switch (domain) {
    case "broken":
      throw new Error("the service is broken");
    case "garbage":
      return Buffer.from("\u0008\uffff not a message");
    case "slow":
      await pause(1_000);
      break;
    case "over":
      return toBinary(
        RateLimitResponseSchema,
        create(RateLimitResponseSchema, {
          overallCode: Code.OVER_LIMIT,
          statuses: [{ code: Code.OVER_LIMIT, durationUntilReset: { seconds: 42n } }],
          rawBody: Buffer.from("told by a stranger"),
          responseHeadersToAdd: [
            { key: "x-stranger", value: "over" },
            { key: "content-length", value: "1" },
            { key: "x-split", value: "a\r\nx-smuggled: b" },
          ],
        }),
      );
    default:
  }
  return toBinary(
    RateLimitResponseSchema,
    create(RateLimitResponseSchema, {
      overallCode: Code.OK,
      statuses: [{ code: Code.OK }],
      requestHeadersToAdd: [{ key: "x-asked", value: `${asked}` }],
      responseHeadersToAdd: [{ key: "x-stranger", value: "ok" }],
    }),
  );
}

type Done = (error: { code: status; details: string } | null, bytes?: Uint8Array) => void;

async function reply(request: RateLimitRequest, done: Done): Promise<void> {
  try {
    done(null, await answer(request));
  } catch (error) {
    done({ code: status.INTERNAL, details: String(error) });
  }
}

const server = new Server();
server.addService(
  {
    shouldRateLimit: {
      path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
      requestStream: false,
      responseStream: false,
      requestDeserialize: (bytes: Buffer) => fromBinary(RateLimitRequestSchema, bytes),
      requestSerialize: (message: RateLimitRequest) => Buffer.from(toBinary(RateLimitRequestSchema, message)),
      responseSerialize: (bytes: Uint8Array) => Buffer.from(bytes),
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  },
  {
    shouldRateLimit: ({ request }: ServerUnaryCall<RateLimitRequest, Uint8Array>, done: Done) => {
      void reply(request, done);
    },
  },
);
server.bindAsync(`[::]:${process.env["PORT"] ?? "8081"}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
});
