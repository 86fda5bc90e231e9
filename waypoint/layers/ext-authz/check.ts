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

/** Such text is the same as bytes. */
// oxlint-disable-next-line no-control-regex -- a range of characters, from the first on
const isAscii = (text: string): boolean => /^[\0-\x7f]*$/.test(text);

/** Headers are kept as bytes; messages hold text. */
export function asText(value: string): string {
  return isAscii(value) ? value : Buffer.from(value, "latin1").toString("utf8");
}

/** The other way round. */
export function asBytes(value: string): string {
  return isAscii(value) ? value : Buffer.from(value, "utf8").toString("latin1");
}
