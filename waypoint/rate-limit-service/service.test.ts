import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "@jest/globals";
import {
  RateLimitRequestSchema,
  RateLimitResponse_Code as Code,
} from "#shared/proto/gen/envoy/service/ratelimit/v3/rls_pb.js";
import { RateLimitUnit } from "#shared/proto/gen/envoy/type/v3/ratelimit_unit_pb.js";
import { setHits } from "#shared/rate-limits/descriptor-hits.ts";
import { MemoryCounters } from "./counters.ts";
import { answer, questionsOf } from "./decide.ts";
import { Limits } from "./limits.ts";

const file = `
domain: shop
descriptors:
  - key: user
    value: ann
    rate_limit: { unit: minute, requests_per_unit: 2 }
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 1, name: each }
  - key: path
    value: /api/*
    descriptors:
      - { key: method, value: GET, rate_limit: { unlimited: true } }
      - { key: method, rate_limit: { unit: hour, requests_per_unit: 1 } }
  - { key: watched, shadow_mode: true, rate_limit: { unit: second, requests_per_unit: 0 } }
`;

function limitsOf(text: string): Limits {
  const limits = new Limits();
  limits.add("limits.yaml", text);
  return limits;
}

const entries = (text: string) =>
  text.split(" ").map((pair) => {
    const [key = "", value = ""] = pair.split("=");
    return { key, value };
  });

describe("which limit a descriptor has", () => {
  // prettier-ignore
  test.each([ // descriptor, requests, unit
    ["user=ann",                  { requestsPerUnit: 2, unit: "minute", name: "", replaces: [] }],
    ["user=bob",                  { requestsPerUnit: 1, unit: "minute", name: "each", replaces: [] }],
    ["path=/api/x method=PUT",    { requestsPerUnit: 1, unit: "hour", name: "", replaces: [] }],
    ["path=/api/x method=GET",    "unlimited"],
    ["path=/other method=PUT",    undefined],
    ["path=/api/x",               undefined], // the full depth must match
    ["user=ann extra=1",          undefined],
    ["unknown=1",                 undefined],
  ] as const)("%s", (text, expected) => {
    const known = limitsOf(file).find("shop", entries(text));
    expect(known?.kind === "quota" ? known.quota : known?.kind).toEqual(expected);
    expect(limitsOf(file).find("other", entries(text))).toBeUndefined();
  });

  // prettier-ignore
  test.each([ // file, what is said
    ["descriptors: []",                                                          "domain: is missing"],
    ["domain: a\ndescriptors: {}",                                               "descriptors: is no list"],
    ["domain: a\ndescriptors: [{value: x}]",                                     "descriptors[0].key: is missing"],
    ["domain: a\ndescriptors: [{key: x, rate_limit: {unit: eon, requests_per_unit: 1}}]", '"eon" is none of second'],
    ["domain: a\ndescriptors: [{key: x, rate_limit: {unit: day, requests_per_unit: -1}}]", '"-1" is no whole number'],
    ["domain: a\ndescriptors: [{key: x, rate_limits: {}}]",                       "descriptors[0].rate_limits: is not known; known are key,"],
    ["domain: a\ndescriptors: [{key: x, rate_limit: {unit: day, requests_per_unit: 1, replaces: [{}]}}]", "replaces[0].name: is missing"],
    ["domain: a\ndescriptors: [{key: x}, {key: x}]",                             'descriptors[1]: "x" is there twice'],
    ["domain: [",                                                                "Cannot use the limits in limits.yaml"],
  ])("%s", (text, message) => {
    expect(() => limitsOf(text)).toThrow(message);
  });
});

describe("counting", () => {
  async function ask(
    counters: MemoryCounters,
    request: MessageInitShape<typeof RateLimitRequestSchema>,
    nowMs: number,
    limits = limitsOf(file),
  ) {
    const questions = questionsOf(create(RateLimitRequestSchema, { domain: "shop", ...request }), limits, nowMs);
    const additions = questions.flatMap((question) => (typeof question === "object" ? [question.addition] : []));
    return answer(questions, await counters.add(additions));
  }
  const user = (name: string) => ({ descriptors: [{ entries: [{ key: "user", value: name }] }] });

  test("windows are fixed, and each value counts apart", async () => {
    let nowMs = 60_000;
    const counters = new MemoryCounters(() => nowMs);
    const codes = [];
    for (const name of ["bob", "bob", "eve"]) codes.push((await ask(counters, user(name), nowMs)).overallCode);
    nowMs = 119_000;
    codes.push((await ask(counters, user("bob"), nowMs)).overallCode);
    nowMs = 120_000;
    codes.push((await ask(counters, user("bob"), nowMs)).overallCode);
    expect(codes).toEqual([Code.OK, Code.OVER_LIMIT, Code.OK, Code.OVER_LIMIT, Code.OK]);
  });

  test("the answer tells what is left and until when", async () => {
    const response = await ask(new MemoryCounters(() => 75_000), user("ann"), 75_000);
    expect(response.statuses[0]).toMatchObject({
      code: Code.OK,
      currentLimit: { requestsPerUnit: 2 },
      limitRemaining: 1,
      durationUntilReset: { seconds: 45n },
    });
  });

  test("a limit that rides along needs no file; hits count", async () => {
    const counters = new MemoryCounters(() => 0);
    const request = {
      hitsAddend: 3,
      descriptors: [{ entries: entries("limit=x"), limit: { requestsPerUnit: 5, unit: RateLimitUnit.HOUR } }],
    };
    const codes = [await ask(counters, request, 0), await ask(counters, request, 0)].map((each) => each.overallCode);
    expect(codes).toEqual([Code.OK, Code.OVER_LIMIT]);
  });

  test("hits of a descriptor count instead of those of the question; none asks only", async () => {
    const counters = new MemoryCounters(() => 0);
    const asked = async (hits: bigint) => {
      const request = create(RateLimitRequestSchema, {
        domain: "shop",
        hitsAddend: 100,
        descriptors: [{ entries: entries("a=1"), limit: { requestsPerUnit: 5, unit: RateLimitUnit.HOUR } }],
      });
      for (const descriptor of request.descriptors) setHits(descriptor, hits);
      const [status] = (await ask(counters, request, 0)).statuses;
      return `${Code[status?.code ?? Code.UNKNOWN]} ${status?.limitRemaining}`;
    };
    expect(await asked(0n)).toBe("OK 5");
    expect(counters.size).toBe(0);
    expect(await asked(5n)).toBe("OK 0");
    expect(await asked(0n)).toBe("OK 0");
    expect(await asked(2n ** 64n - 1n)).toBe("OVER_LIMIT 0");
  });

  test("a week is a unit", async () => {
    const week: number = 7;
    const request = { descriptors: [{ entries: entries("a=1"), limit: { requestsPerUnit: 1, unit: week } }] };
    const { statuses } = await ask(new MemoryCounters(() => 0), request, 0);
    expect(statuses[0]).toMatchObject({ currentLimit: { unit: 7 }, durationUntilReset: { seconds: 604_800n } });
  });

  test("values of a shared threshold count together; a limit that is replaced does not count", async () => {
    const limits = limitsOf(`
domain: shop
descriptors:
  - { key: path, value: /a/*, share_threshold: true, rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: user, rate_limit: { unit: day, requests_per_unit: 1, name: each } }
  - { key: vip, rate_limit: { unit: day, requests_per_unit: 10, name: vip, replaces: [{ name: each }] } }
`);
    const counters = new MemoryCounters(() => 0);
    const code = async (...texts: readonly string[]) =>
      Code[
        (await ask(counters, { descriptors: texts.map((each) => ({ entries: entries(each) })) }, 0, limits)).overallCode
      ];
    expect(await code("path=/a/1")).toBe("OK");
    expect(await code("path=/a/2")).toBe("OVER_LIMIT");
    for (let time = 0; time < 3; time++) expect(await code("user=ann", "vip=ann")).toBe("OK");
    expect(await code("user=ann")).toBe("OK");
    expect(await code("user=ann")).toBe("OVER_LIMIT");
  });

  test("memory has a bound whatever is asked: short keys, few counters, the busiest stay", async () => {
    const counters = new MemoryCounters(() => 0, 100);
    const limit = { requestsPerUnit: 2, unit: RateLimitUnit.HOUR };
    const request = (value: string) => ({ descriptors: [{ entries: [{ key: "user", value }], limit }] });
    const [question] = questionsOf(create(RateLimitRequestSchema, request("x".repeat(500_000))), new Limits(), 0);
    expect(typeof question === "object" && question.addition.key.length).toBeLessThan(120);
    for (let each = 0; each < 1_000; each++) {
      await ask(counters, request(`once ${each}`), 0);
      if (each % 50 === 0) await ask(counters, request("often"), 0);
    }
    expect(counters.size).toBe(100);
    expect((await ask(counters, request("often"), 0)).overallCode).toBe(Code.OVER_LIMIT);
  });

  test("a clock that is set back neither keeps what has ended nor frees what has not", async () => {
    let nowMs = 10_000_000;
    const counters = new MemoryCounters(() => nowMs);
    await ask(counters, user("bob"), nowMs);
    nowMs = 5_000_000;
    expect((await ask(counters, user("bob"), nowMs)).overallCode).toBe(Code.OK);
    expect((await ask(counters, user("bob"), nowMs)).overallCode).toBe(Code.OVER_LIMIT);
  });

  test("one descriptor over the limit is enough; a shadow is not; what is not limited passes", async () => {
    const counters = new MemoryCounters(() => 0);
    const descriptors = ["unknown=1", "watched=1", "user=bob"].map((each) => ({ entries: entries(each) }));
    await ask(counters, { descriptors }, 0);
    const response = await ask(counters, { descriptors }, 0);
    expect(response.statuses.map(({ code }) => code)).toEqual([Code.OK, Code.OK, Code.OVER_LIMIT]);
    expect(response.overallCode).toBe(Code.OVER_LIMIT);
  });

  test("values cannot pretend to be several entries", () => {
    const keys = [
      [{ key: "user", value: "a_user_b" }],
      [
        { key: "user", value: "a" },
        { key: "user", value: "b" },
      ],
    ].map((each) => {
      const limit = { requestsPerUnit: 1, unit: RateLimitUnit.HOUR };
      const request = create(RateLimitRequestSchema, { domain: "shop", descriptors: [{ entries: each, limit }] });
      const [question] = questionsOf(request, new Limits(), 0);
      return typeof question === "object" ? question.addition.key : undefined;
    });
    expect(keys[0]).not.toBe(keys[1]);
  });

  test("what has ended is forgotten", async () => {
    let nowMs = 0;
    const counters = new MemoryCounters(() => nowMs);
    for (let each = 0; each < 50; each++) await ask(counters, user(`u${each}`), nowMs);
    expect(counters.size).toBe(50);
    nowMs = 120_000;
    await ask(counters, user("bob"), nowMs);
    expect(counters.size).toBe(1);
  });
});
