/** The gRPC side of a rate limit service: `envoy.service.ratelimit.v3.RateLimitService`. */
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
  RateLimitResponseSchema,
  type RateLimitRequest,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import type { Counters } from "./counters.ts";
import { answer, questionsOf } from "./decide.ts";
import type { Limits } from "./limits.ts";

export interface ServiceOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly counters: Counters;
  /** Read at every request: files may change. */
  readonly limits: () => Limits;
  readonly log: Logger;
  readonly onAnswer?: (outcome: "ok" | "over_limit" | "error") => void;
}

/** More than any description of one request. */
const maxDescriptors = 1_000;
/** How long calls may take to finish when the service closes. */
const closeGraceMs = 2_000;

export async function serveRateLimits(options: ServiceOptions): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = new Server({ "grpc.max_receive_message_length": 1024 * 1024 });
  server.addService(
    {
      shouldRateLimit: {
        path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        requestStream: false,
        responseStream: false,
        requestDeserialize: (bytes: Buffer) => fromBinary(RateLimitRequestSchema, bytes),
        requestSerialize: (message: RateLimitRequest) => Buffer.from(toBinary(RateLimitRequestSchema, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(RateLimitResponseSchema, bytes),
        responseSerialize: (message: RateLimitResponse) => Buffer.from(toBinary(RateLimitResponseSchema, message)),
      },
    },
    {
      shouldRateLimit: (
        call: ServerUnaryCall<RateLimitRequest, RateLimitResponse>,
        done: sendUnaryData<RateLimitResponse>,
      ) => {
        void reply(call.request, options, done);
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${options.host}:${options.port}`, ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return {
    port,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        const force = setTimeout(() => server.forceShutdown(), closeGraceMs);
        server.tryShutdown(() => {
          clearTimeout(force);
          resolve();
        });
      }),
  };
}

async function reply(
  request: RateLimitRequest,
  options: ServiceOptions,
  done: sendUnaryData<RateLimitResponse>,
): Promise<void> {
  try {
    const response = await shouldRateLimit(request, options);
    done(null, response);
  } catch (thrown) {
    done({ code: codeOf(thrown), details: explain(thrown) });
  }
}

class Refusal extends Error {}

const codeOf = (error: unknown): status => (error instanceof Refusal ? status.INVALID_ARGUMENT : status.UNAVAILABLE);

async function shouldRateLimit(
  request: RateLimitRequest,
  { counters, limits, log, onAnswer }: ServiceOptions,
): Promise<RateLimitResponse> {
  if (request.domain === "") throw new Refusal("domain must not be empty");
  if (request.descriptors.length === 0) throw new Refusal("descriptors must not be empty");
  if (request.descriptors.length > maxDescriptors) throw new Refusal(`more than ${maxDescriptors} descriptors`);
  const questions = questionsOf(request, limits(), Date.now());
  const additions = questions.flatMap((question) => (typeof question === "object" ? [question.addition] : []));
  try {
    const response = answer(questions, additions.length === 0 ? [] : await counters.add(additions));
    onAnswer?.(response.overallCode === Code.OVER_LIMIT ? "over_limit" : "ok");
    return response;
  } catch (thrown) {
    onAnswer?.("error");
    log.debug({ error: explain(thrown) }, "requests cannot be counted");
    throw thrown;
  }
}
