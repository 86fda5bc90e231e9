/** Which tokens waypoints accept: Istio's RequestAuthentication. */
import { durationMs } from "./duration.ts";
import type { Field } from "./field.ts";

export interface JwtRule {
  /** Empty: `iss` is not looked at. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Empty where not written. */
  readonly jwksUri: string;
  readonly jwks: string;
  readonly fromHeaders: readonly { readonly name: string; readonly prefix: string }[];
  readonly fromParams: readonly string[];
  readonly fromCookies: readonly string[];
  readonly outputPayloadToHeader: string;
  readonly outputClaimToHeaders: readonly { readonly header: string; readonly claim: string }[];
  readonly forwardOriginalToken: boolean;
  readonly timeoutMs: number;
  readonly spaceDelimitedClaims: readonly string[];
}

/** How long fetching keys may take where nothing is written. */
const defaultTimeoutMs = 5_000;

export function readJwtRule(rule: Field): JwtRule {
  const other = rule.at("jwks_uri").text();
  return {
    issuer: rule.at("issuer").text(),
    audiences: rule.at("audiences").texts(),
    jwksUri: rule.at("jwksUri").text() || other,
    jwks: rule.at("jwks").text(),
    fromHeaders: rule
      .at("fromHeaders")
      .list()
      .map((header) => ({ name: header.at("name").text(), prefix: header.at("prefix").text() })),
    fromParams: rule.at("fromParams").texts(),
    fromCookies: rule.at("fromCookies").texts(),
    outputPayloadToHeader: rule.at("outputPayloadToHeader").text(),
    outputClaimToHeaders: rule
      .at("outputClaimToHeaders")
      .list()
      .map((output) => ({ header: output.at("header").text(), claim: output.at("claim").text() })),
    forwardOriginalToken: rule.at("forwardOriginalToken").flag(),
    timeoutMs: durationMs(rule.at("timeout")) ?? defaultTimeoutMs,
    spaceDelimitedClaims: rule.at("spaceDelimitedClaims").texts(),
  };
}
