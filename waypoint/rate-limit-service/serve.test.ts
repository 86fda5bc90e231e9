/** The service as a client that is not ours sees it. */
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Client, credentials, status, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { silentLogger } from "#shared/observe/logger.ts";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
  RateLimitResponseSchema,
  type RateLimitResponse,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { RateLimitUnit } from "#shared/proto/gen/envoy/type/v3/ratelimit_unit_pb.js";
import { MemoryCounters } from "./counters.ts";
import { Limits } from "./limits.ts";
import { serveRateLimits } from "./serve.ts";

const limits = new Limits();
limits.add("a.yaml", "domain: shop\ndescriptors: [{ key: user, rate_limit: { unit: day, requests_per_unit: 3 } }]");

let service: Awaited<ReturnType<typeof serveRateLimits>>;
let client: Client;

beforeAll(async () => {
  const counters = new MemoryCounters();
  service = await serveRateLimits({ host: "127.0.0.1", port: 0, counters, limits: () => limits, log: silentLogger });
  client = new Client(`127.0.0.1:${service.port}`, credentials.createInsecure());
});

afterAll(async () => {
  client.close();
  await service[Symbol.asyncDispose]();
});

const send = (bytes: Uint8Array): Promise<RateLimitResponse | ServiceError> =>
  new Promise((resolve) => {
    client.makeUnaryRequest(
      "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
      (message: Uint8Array) => Buffer.from(message),
      (message: Buffer) => fromBinary(RateLimitResponseSchema, message),
      bytes,
      (error, response) => resolve(error ?? response ?? create(RateLimitResponseSchema)),
    );
  });

async function ask(request: MessageInitShape<typeof RateLimitRequestSchema>): Promise<string> {
  const said = await send(toBinary(RateLimitRequestSchema, create(RateLimitRequestSchema, request)));
  if ("details" in said) return `${status[said.code]}: ${said.details}`;
  return [
    Code[said.overallCode],
    ...said.statuses.map(({ code, limitRemaining }) => `${Code[code]} ${limitRemaining}`),
  ].join();
}

const user = (value: string) => ({ entries: [{ key: "user", value }] });
const carried = { entries: [{ key: "a", value: "b" }], limit: { requestsPerUnit: 2, unit: RateLimitUnit.HOUR } };

// prettier-ignore
test.each<[string, MessageInitShape<typeof RateLimitRequestSchema>, string]>([ // why, request, answer
  ["a domain that nobody knows",    { domain: "other", descriptors: [user("a")] },                          "OK,OK 0"],
  ["a descriptor without a limit",  { domain: "shop", descriptors: [{ entries: [{ key: "x", value: "" }] }] }, "OK,OK 0"],
  ["0 hits are one",                { domain: "shop", descriptors: [user("zero")], hitsAddend: 0 },         "OK,OK 2"],
  ["more hits than the limit",      { domain: "shop", descriptors: [user("much")], hitsAddend: 4 },         "OVER_LIMIT,OVER_LIMIT 0"],
  ["as many hits as there can be",  { domain: "shop", descriptors: [user("most")], hitsAddend: 2 ** 32 - 1 }, "OVER_LIMIT,OVER_LIMIT 0"],
  ["a limit of its own",            { domain: "nobody's", descriptors: [carried] },                         "OK,OK 1"],
  ["several, each by itself",       { domain: "shop", descriptors: [user("m1"), user("m2"), carried] },     "OK,OK 2,OK 2,OK 1"],
  ["binary and empty values",       { domain: "shop", descriptors: [user(""), user("\u0000\u00ff")] },      "OK,OK 2,OK 2"],
  ["no domain",                     { descriptors: [user("a")] },                                           "INVALID_ARGUMENT: domain must not be empty"],
  ["no descriptors",                { domain: "shop" },                                                     "INVALID_ARGUMENT: descriptors must not be empty"],
  ["too many descriptors",          { domain: "shop", descriptors: Array.from({ length: 1_001 }, () => user("n")) }, "INVALID_ARGUMENT: more than 1000 descriptors"],
])("%s", async (_why, request, expected) => {
  expect(await ask(request)).toBe(expected);
});

test("what is over stays over until its window ends, and others are not", async () => {
  const request = { domain: "shop", descriptors: [user("often")] };
  const answers = [];
  for (let time = 0; time < 5; time++) answers.push(await ask(request));
  expect(answers.map((each) => each.split(",")[0])).toEqual(["OK", "OK", "OK", "OVER_LIMIT", "OVER_LIMIT"]);
  expect(await ask({ domain: "shop", descriptors: [user("rarely")] })).toBe("OK,OK 2");
});

test("bytes that are no question are refused, and the next one is answered", async () => {
  const said = await send(Buffer.from([0xff, 0xff, 0xff]));
  expect("details" in said).toBe(true);
  expect(await ask({ domain: "other", descriptors: [user("a")] })).toBe("OK,OK 0");
});
