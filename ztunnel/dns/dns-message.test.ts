import { describe, expect, test } from "@jest/globals";
import { decode, encode, type Answer, type Packet } from "dns-packet";
import fc from "#shared/testing/properties.ts";
import type { Ip } from "#shared/net/ip.ts";
import {
  addressAnswer,
  codeOfResponse,
  failureAnswer,
  readQuery,
  relayedAnswer,
  responseCodes,
  udpLimit,
  type Query,
} from "./dns-message.ts";

/** What the library's types leave out. */
type Decoded = Packet & Readonly<Record<"rcode" | "flag_aa" | "flag_tc" | "flag_rd" | "flag_ra" | "flag_ad", unknown>>;
const read = (bytes: Buffer): Decoded => decode(bytes) as unknown as Decoded;

const opt = (udpPayloadSize: number, more: object = {}) =>
  ({
    type: "OPT",
    name: ".",
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
    ...more,
  }) as unknown as Answer;

const asked = (name: string, type: "A" | "AAAA" = "A", more: Partial<Packet> = {}): Buffer =>
  encode({ type: "query", id: 4711, flags: 0x100, questions: [{ name, type }], ...more });

function queryOf(bytes: Buffer): Query {
  const result = readQuery(bytes);
  if (result.kind !== "query") throw new Error(result.kind);
  return result.query;
}

/** Header words, then a body. */
const raw = (words: readonly number[], body: readonly number[] = []): Buffer => {
  const bytes = Buffer.alloc(12 + body.length);
  words.forEach((word, index) => bytes.writeUInt16BE(word, index * 2));
  bytes.set(body, 12);
  return bytes;
};
/** The response code, with the bits that EDNS adds. */
function codeIn(answer: Buffer, query: Buffer): number {
  const { id, type, answers, additionals } = read(answer);
  expect({ id, type, answers }).toEqual({ id: query.readUInt16BE(0), type: "response", answers: [] });
  const upper = (additionals?.[0] as { extendedRcode?: number } | undefined)?.extendedRcode ?? 0;
  return (upper << 4) | (answer.readUInt16BE(2) & 0xf);
}

const web = [3, 119, 101, 98, 0, 0, 1, 0, 1];

describe("questions", () => {
  test("are read: name in lower case, type, EDNS", () => {
    expect(queryOf(asked("Web.Shop.svc", "AAAA"))).toMatchObject({
      id: 4711,
      name: "web.shop.svc",
      type: 28,
      isInternet: true,
      recursionDesired: true,
    });
    const query = queryOf(asked("web", "A", { additionals: [opt(1232, { flags: 0x8000 })] }));
    expect(query.edns).toEqual({ payloadBytes: 1232, version: 0, dnssecOk: true });
    expect(udpLimit(query)).toBe(1232);
    expect(udpLimit(queryOf(asked("web")))).toBe(512);
    expect(udpLimit(queryOf(asked("web", "A", { additionals: [opt(100)] })))).toBe(512);
  });

  // prettier-ignore
  test.each([ // what                                        bytes                                                     becomes
    ["less than a header",                                   raw([1, 0x100, 1, 0, 0, 0]).subarray(0, 11),              "unanswerable"],
    ["nothing",                                              Buffer.alloc(0),                                          "unanswerable"],
    ["an answer",                                            raw([1, 0x8100, 1, 0, 0, 0], web),                        responseCodes.formatError],
    ["another opcode: a dynamic update",                     raw([1, 0x2800, 1, 0, 0, 0], web),                        responseCodes.notImplemented],
    ["no question",                                          raw([1, 0x100, 0, 0, 0, 0]),                              responseCodes.formatError],
    ["two questions",                                        raw([1, 0x100, 2, 0, 0, 0], [...web, ...web]),            responseCodes.formatError],
    ["65535 questions",                                      raw([1, 0x100, 65_535, 0, 0, 0], web),                    responseCodes.formatError],
    ["a question that is cut off",                           raw([1, 0x100, 1, 0, 0, 0], web.slice(0, -1)),            responseCodes.formatError],
    ["a label that leaves the message",                      raw([1, 0x100, 1, 0, 0, 0], [60, 1, 2]),                  responseCodes.formatError],
    ["a pointer to itself",                                  raw([1, 0x100, 1, 0, 0, 0], [0xc0, 12, 0, 1, 0, 1]),      responseCodes.formatError],
    ["a label of a type that was never used",                raw([1, 0x100, 1, 0, 0, 0], [0x41, ...web]),              responseCodes.formatError],
    ["a name of 256 octets",                                 raw([1, 0x100, 1, 0, 0, 0], [...Array.from({ length: 256 }, (_, at) => (at % 64 === 0 ? 63 : 97)), 0, 0, 1, 0, 1]), responseCodes.formatError],
    ["records that are announced and missing",               raw([1, 0x100, 1, 0, 0, 1], web),                         responseCodes.formatError],
    ["65535 records",                                        raw([1, 0x100, 1, 65_535, 65_535, 65_535], web),          responseCodes.formatError],
    ["a record longer than the message",                     raw([1, 0x100, 1, 0, 0, 1], [...web, 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 9]), responseCodes.formatError],
    ["two OPT records",                                      asked("web", "A", { additionals: [opt(512), opt(512)] }), responseCodes.formatError],
    ["an OPT record of a name",                              raw([1, 0x100, 1, 0, 0, 1], [...web, 1, 97, 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]), responseCodes.formatError],
    ["EDNS of the future",                                   asked("web", "A", { additionals: [opt(512, { ednsVersion: 1 })] }), responseCodes.badVersion],
  ])("%s", (_what, bytes, becomes) => {
    const result = readQuery(bytes);
    expect(result.kind === "refused" ? codeIn(result.answer, bytes) : result.kind).toBe(becomes);
  });

  // prettier-ignore
  test.each([ // octets of the labels                 name          why
    [[[119, 101, 98]],                                "web",        "letters"],
    [[[95, 97], [42], [45, 49]],                      "_a.*.-1",    "what services and wildcards are made of"],
    [[[97, 46, 98]],                                  undefined,    "a dot within a label is none between labels"],
    [[[97], [0]],                                     undefined,    "octets that no host name has"],
    [[[195, 164]],                                    undefined,    "UTF-8"],
    [[],                                              undefined,    "the root"],
  ])("labels %j are %j: %s", (labels, name, _why) => {
    const body = [...labels.flatMap((label) => [label.length, ...label]), 0, 0, 1, 0, 1];
    expect(queryOf(raw([1, 0x100, 1, 0, 0, 0], body)).name).toBe(name);
  });

  test("whatever comes is answered with its own id or not at all, and never fails", () => {
    const names = fc
      .array(fc.stringMatching(/^[a-z0-9-]{1,20}$/), { minLength: 1, maxLength: 5 })
      .map((labels) => labels.join("."));
    const damaged = fc
      .tuple(names, fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 }), fc.nat(90))
      .map(([name, changes, length]) => {
        const bytes = asked(name, "A", { additionals: [opt(1232)] });
        for (const [at, octet] of changes) bytes[at % bytes.length] = octet;
        return bytes.subarray(0, length);
      });
    fc.assert(
      fc.property(
        fc.oneof(
          damaged,
          fc.uint8Array({ maxLength: 600 }).map((octets) => Buffer.from(octets)),
        ),
        (bytes) => {
          const result = readQuery(bytes);
          if (result.kind === "unanswerable") return bytes.length < 12;
          const answer =
            result.kind === "query" ? failureAnswer(result.query, responseCodes.serverFailure) : result.answer;
          return answer.readUInt16BE(0) === bytes.readUInt16BE(0) && (answer.readUInt16BE(2) & 0x8000) !== 0;
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test("what the library writes is read alike", () => {
    const label = fc.stringMatching(/^[a-zA-Z0-9_-]{1,63}$/);
    fc.assert(
      fc.property(fc.array(label, { minLength: 1, maxLength: 3 }), fc.nat(65_535), (labels, id) => {
        const query = queryOf(encode({ type: "query", id, questions: [{ name: labels.join("."), type: "AAAA" }] }));
        expect([query.name, query.id, query.type]).toEqual([labels.join(".").toLowerCase(), id, 28]);
      }),
    );
  });
});

describe("answers of the mesh", () => {
  const ips = ["10.0.0.1", "10.0.0.2"] as Ip[];
  const answerTo = (bytes: Buffer, answer: { ips: readonly Ip[]; alias?: string }, limit = 65_535) =>
    read(addressAnswer(queryOf(bytes), { ttlSeconds: 30, ...answer }, limit));

  test("flags: authoritative, recursion available, recursion desired as asked", () => {
    const flags = ["flag_aa", "flag_ra", "flag_rd", "flag_tc", "flag_ad", "rcode"] as const;
    const of = (answer: Decoded) => flags.map((flag) => answer[flag]);
    expect(of(answerTo(asked("web"), { ips }))).toEqual([true, true, true, false, false, "NOERROR"]);
    expect(of(answerTo(asked("web", "A", { flags: 0 }), { ips }))).toEqual([
      true,
      true,
      false,
      false,
      false,
      "NOERROR",
    ]);
  });

  test("addresses of both families, under the name as it was spelled", () => {
    const found = answerTo(asked("Web.Shop"), { ips: ["10.0.0.1", "2001:db8::1"] as Ip[] });
    expect(found.questions).toMatchObject([{ name: "Web.Shop", type: "A" }]);
    expect(found.answers).toMatchObject([
      { name: "Web.Shop", type: "A", class: "IN", ttl: 30, data: "10.0.0.1" },
      { name: "Web.Shop", type: "AAAA", class: "IN", ttl: 30, data: "2001:db8::1" },
    ]);
  });

  test("an alias comes first, and the addresses are its", () => {
    const found = answerTo(asked("api.example.com.shop.svc.cluster.local"), { ips, alias: "api.example.com" });
    expect(found.answers).toMatchObject([
      { name: "api.example.com.shop.svc.cluster.local", type: "CNAME", data: "api.example.com" },
      { name: "api.example.com", type: "A", data: "10.0.0.1" },
      { name: "api.example.com", type: "A", data: "10.0.0.2" },
    ]);
  });

  test("none is an answer too", () => {
    expect(answerTo(asked("web"), { ips: [] })).toMatchObject({ rcode: "NOERROR", answers: [], flag_aa: true });
  });

  test("EDNS is answered in EDNS, and not otherwise", () => {
    const found = answerTo(asked("web", "A", { additionals: [opt(4_096, { flags: 0x8000 })] }), { ips });
    expect(found.additionals).toMatchObject([{ type: "OPT", udpPayloadSize: 4_096, ednsVersion: 0, flag_do: true }]);
    expect(answerTo(asked("web"), { ips }).additionals).toEqual([]);
  });

  const many = Array.from({ length: 256 }, (_, index) => `10.0.1.${index}` as Ip);
  // prettier-ignore
  test.each([ // limit   EDNS   fits
    [65_535,             false, 256],
    [512,                false,  30],
    [512,                true,   29],
    [4_096,              true,  253],
  ])("256 addresses in %d octets (EDNS: %j): %d", (limit, hasEdns, fits) => {
    const bytes = asked("many", "A", hasEdns ? { additionals: [opt(limit)] } : {});
    const answer = addressAnswer(queryOf(bytes), { ips: many, ttlSeconds: 30 }, limit);
    expect(answer.length).toBeLessThanOrEqual(limit);
    expect(read(answer).answers).toHaveLength(fits);
    expect(read(answer).flag_tc).toBe(fits < 256);
  });

  test("an alias too long for the limit leaves the question", () => {
    const alias = Array(4).fill("a".repeat(60)).join(".");
    const answer = addressAnswer(queryOf(asked(alias)), { ips, alias, ttlSeconds: 30 }, 512);
    expect(read(answer)).toMatchObject({ flag_tc: true, answers: [] });
  });
});

describe("answers of others", () => {
  const question = { name: "example.org", type: "A" } as const;
  const bytes = asked("example.org");
  const query = queryOf(bytes);
  const response = (more: Partial<Packet> = {}) =>
    encode({
      type: "response",
      id: 99,
      flags: 0x0400 | 0x0100 | 0x0020,
      questions: [question],
      answers: [{ ...question, ttl: 60, data: "192.0.2.1" }],
      authorities: [{ type: "NS", name: "example.org", data: "ns.example.org" }],
      ...more,
    });

  // prettier-ignore
  test.each([ // what                              response                                                              code
    ["the answer",                                 response(),                                                            0],
    ["no such name",                               response({ flags: 3 }),                                                3],
    ["the same in capitals",                       response({ questions: [{ name: "EXAMPLE.org", type: "A" }] }),         0],
    ["another id",                                 response({ id: 98 }),                                                  undefined],
    ["another name",                               response({ questions: [{ name: "example.net", type: "A" }] }),         undefined],
    ["another type",                               response({ questions: [{ name: "example.org", type: "AAAA" }] }),      undefined],
    ["two questions",                              response({ questions: [question, question] }),                        undefined],
    ["a question",                                 encode({ type: "query", id: 99, questions: [question] }),              undefined],
    ["a refusal that repeats nothing",             raw([99, 0x8005, 0, 0, 0, 0]),                                         5],
    ["success that repeats nothing",               raw([99, 0x8000, 0, 0, 0, 0]),                                         undefined],
    ["less than a header",                         raw([99, 0x8000, 0, 0, 0, 0]).subarray(0, 9),                          undefined],
    ["a question that is cut off",                 response().subarray(0, 20),                                            undefined],
  ])("%s", (_what, given, code) => {
    expect(codeOfResponse(given, query, 99)).toBe(code);
  });

  test("are passed on whole, but for id, authority and what nobody checked", () => {
    const relayed = read(relayedAnswer(response(), query, 512));
    expect(relayed).toMatchObject({
      id: 4711,
      flag_aa: false,
      flag_ad: false,
      flag_ra: true,
      flag_rd: true,
      flag_tc: false,
    });
    expect(relayed.answers).toMatchObject([{ data: "192.0.2.1", ttl: 60 }]);
    expect(relayed.authorities).toHaveLength(1);
  });

  test("too large: the question alone, cut off", () => {
    const answers = Array.from({ length: 60 }, (_, index) => ({ ...question, data: `192.0.2.${index}` }));
    const relayed = relayedAnswer(response({ answers }), query, 512);
    expect(relayed.length).toBeLessThanOrEqual(512);
    expect(read(relayed)).toMatchObject({
      id: 4711,
      flag_tc: true,
      answers: [],
      authorities: [],
      questions: [question],
    });
  });

  test("whatever comes is an answer or none, and never fails", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (octets, hasHeader) => {
        const given = Buffer.from(octets);
        if (hasHeader && given.length >= 12) raw([99, 0x8180, 1, 1, 0, 0]).copy(given);
        const code = codeOfResponse(given, query, 99);
        return code === undefined || relayedAnswer(given, query, 64).readUInt16BE(0) === 4711;
      }),
      { numRuns: 2_000 },
    );
  });
});
