/**
 * The same listeners, clusters and endpoints told to an unmodified Envoy and to our waypoint: what clients are answered
 * and what backends are sent is the same, header by header.
 */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { envoyPath } from "#e2e/support/envoy.ts";
import { SideBySide, type Outcome } from "#e2e/support/side-by-side.ts";
import { answerCases } from "./envoy-parity/answers.ts";
import { authorizationCases } from "./envoy-parity/authorization.ts";
import { authorizerCases } from "./envoy-parity/authorizers.ts";
import type { Case, Difference } from "./envoy-parity/case.ts";
import { differences } from "./envoy-parity/differences.ts";
import { editCases } from "./envoy-parity/edit-routes.ts";
import { frameCases } from "./envoy-parity/frames.ts";
import { matchCases } from "./envoy-parity/match-routes.ts";
import { corsCases, faultCases, limitCases, tokenCases } from "./envoy-parity/policies.ts";
import { pathCases, protocolCases } from "./envoy-parity/protocol-cases.ts";
import { resilienceCases } from "./envoy-parity/resilience-routes.ts";
import { resources } from "./envoy-parity/world.ts";

let both: SideBySide;

beforeAll(async () => {
  both = await SideBySide.start(await envoyPath(), resources);
}, 60_000);

afterAll(async () => {
  await both?.[Symbol.asyncDispose]();
}, 30_000);

const tables: Readonly<Record<string, readonly Case[]>> = {
  "how routes are chosen": matchCases,
  "what is changed on the way": editCases,
  "paths and their corners": pathCases,
  "requests as they come": protocolCases,
  "HTTP/2 as it comes": frameCases,
  "answers as they come": answerCases,
  "timeouts, retries, nobody there": resilienceCases,
  authorization: authorizationCases,
  authorizers: authorizerCases,
  CORS: corsCases,
  faults: faultCases,
  "rate limits": limitCases,
  tokens: tokenCases,
};

/** An answer, and what it took, in lines that can be told apart. */
const comparable = ({
  status,
  interim,
  headers,
  body,
  trailers,
  isWhole,
  ending,
  received,
  logged,
}: Outcome): readonly string[] => [
  `status ${[...interim, status].join(" ")}`,
  ...headers.map((header) => `header ${header}`),
  `body ${JSON.stringify(body)}`,
  ...trailers.map((trailer) => `trailer ${trailer}`),
  `whole ${isWhole}`,
  ...(ending === "" ? [] : [`ending ${ending}`]),
  `attempts ${received.length}`,
  ...received.flatMap((each, index) =>
    [each.line, ...each.headers, `body ${JSON.stringify(each.body)}`].map((line) => `backend ${index + 1} ${line}`),
  ),
  ...logged.map((line) => `log ${line}`),
];

const differencesOf = ({ name }: Case) =>
  differences.filter(({ names }) => names.some((each) => (typeof each === "string" ? each === name : each.test(name))));

/** Which lines have to be the same: all, some, or none where ours is another answer, which is the one that is meant. */
const mustAgree =
  (known: readonly Difference[], status: number) =>
  (line: string): boolean =>
    known.every((difference) => ("in" in difference ? !difference.in.test(line) : status !== difference.status));

describe.each(Object.entries(tables))("%s", (_subject, cases) => {
  test.each(cases)("$name", async (each) => {
    const { envoy, ours } = await both.ask(each);
    expect({ status: envoy.status, attempts: envoy.received.length }).toEqual({
      status: each.status,
      attempts: each.attempts ?? envoy.received.length,
    });
    const known = differencesOf(each);
    const counts = mustAgree(known, ours.status);
    expect(comparable(ours).filter(counts)).toEqual(comparable(envoy).filter(counts));
    // What differs no more is to be struck off the list.
    expect(isDeepStrictEqual(ours, envoy)).toBe(known.length === 0);
  });
});
