/** What is told to an external authorizer, and how it is asked. */
import type { Exchange } from "#waypoint/http/exchange.ts";
import type { TextTest } from "#waypoint/matching/regex.ts";
import type { Verdict } from "./verdict.ts";

export interface Check {
  readonly exchange: Exchange;
  /** Undefined where it is not to be told. */
  readonly body: { readonly bytes: Buffer; readonly isComplete: boolean } | undefined;
  readonly contextExtensions: Readonly<Record<string, string>>;
}

/** One service; the configured one. Never rejects: what goes wrong is an `error`. */
export interface Authorizer {
  ask(check: Check): Promise<Verdict>;
}

export interface HeaderChoice {
  readonly allowed: TextTest | undefined;
  readonly disallowed: TextTest | undefined;
}

/** Tells whether the authorizer got all of the body. */
export const partialBodyHeader = "x-envoy-auth-partial-body";
