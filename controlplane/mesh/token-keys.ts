/** Where the keys for tokens come from, and whether they are there. */
import type { JwtRule } from "./request-authentication.ts";

/** A document to fetch. */
export interface KeySource {
  readonly url: string;
  /** It is the issuer's metadata (OpenID Connect discovery), which names the document with the keys. */
  readonly isDiscovery: boolean;
  readonly timeoutMs: number;
}

/** What is known of a {@link KeySource}, by its url. */
export interface FetchedKeys {
  /** A JSON Web Key Set; undefined until it was fetched once. */
  readonly jwks: string | undefined;
  /** Why the last attempt failed. Keys that were fetched before stay in use. */
  readonly error: string | undefined;
}

/** Undefined where the keys are written in the rule. */
export function keySource(rule: JwtRule): KeySource | undefined {
  if (rule.jwks !== "") return undefined;
  const { timeoutMs } = rule;
  if (rule.jwksUri !== "") return { url: rule.jwksUri, isDiscovery: false, timeoutMs };
  const issuer = rule.issuer.endsWith("/") ? rule.issuer.slice(0, -1) : rule.issuer;
  return { url: `${issuer}/.well-known/openid-configuration`, isDiscovery: true, timeoutMs };
}

/** No token is valid by it. */
export const noKeys = '{"keys":[]}';

export type RuleKeys = { readonly jwks: string; readonly problem: string | undefined };

export function keysOf(rule: JwtRule, fetched: ReadonlyMap<string, FetchedKeys>): RuleKeys {
  const source = keySource(rule);
  if (source === undefined) return { jwks: rule.jwks, problem: undefined };
  const found = fetched.get(source.url);
  if (found?.jwks !== undefined) return { jwks: found.jwks, problem: found.error };
  return { jwks: noKeys, problem: found?.error ?? `keys from ${source.url} are not fetched yet` };
}
