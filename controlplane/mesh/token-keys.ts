/** Where the keys for tokens come from, and whether they are there. */
import { createHash, createPublicKey } from "node:crypto";
import { readJwks, type Jwk } from "#shared/tokens/read-jwks.ts";
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

/**
 * A key set by which no token is valid: its one key is the hash of a sentence, and nobody has the private part. Proxies
 * refuse a configuration with an empty set.
 */
export const noKeys = JSON.stringify({
  keys: [
    {
      kty: "OKP",
      crv: "Ed25519",
      alg: "EdDSA",
      kid: "ambit.dev/no-keys",
      x: createHash("sha256").update("ambit: a key that nobody has").digest("base64url"),
    },
  ],
});

export interface RuleKeys {
  readonly jwks: string;
  /** Whether any token can be valid. */
  readonly hasKeys: boolean;
  readonly problem: string | undefined;
}

export function keysOf(rule: JwtRule, fetched: ReadonlyMap<string, FetchedKeys>): RuleKeys {
  const source = keySource(rule);
  if (source === undefined) {
    const jwks = usableKeys(rule.jwks);
    if (jwks !== undefined) return { jwks, hasKeys: true, problem: undefined };
    return { jwks: noKeys, hasKeys: false, problem: "jwks holds no key that can be used" };
  }
  const found = fetched.get(source.url);
  if (found?.jwks !== undefined) return { jwks: found.jwks, hasKeys: true, problem: found.error };
  return { jwks: noKeys, hasKeys: false, problem: found?.error ?? `keys from ${source.url} are not fetched yet` };
}

const algorithms: Readonly<Record<string, RegExp>> = {
  RSA: /^[RP]S(256|384|512)$/,
  EC: /^ES(256|384|512)$/,
  OKP: /^EdDSA$/,
  oct: /^HS(256|384|512)$/,
};
/** What proxies need of a key; private parts are not among it. */
const members = ["kty", "kid", "alg", "use", "key_ops", "crv", "n", "e", "x", "y", "x5c", "x5t"];

/** A key set with only the keys that proxies can use; undefined where there is none. */
export function usableKeys(text: string): string | undefined {
  const keys = readJwks(text)?.flatMap(usableKey) ?? [];
  return keys.length === 0 ? undefined : JSON.stringify({ keys });
}

function usableKey(jwk: Jwk): readonly object[] {
  const { kty, alg } = jwk;
  const crv = typeof jwk["crv"] === "string" ? jwk["crv"] : "";
  if (typeof kty !== "string" || !Object.hasOwn(algorithms, kty)) return [];
  if (alg !== undefined && !(typeof alg === "string" && algorithms[kty]?.test(alg) === true)) return [];
  if (kty === "EC" && !["P-256", "P-384", "P-521"].includes(crv)) return [];
  if (kty === "OKP" && crv !== "Ed25519") return [];
  const wanted = kty === "oct" ? [...members, "k"] : members;
  const key = Object.fromEntries(Object.entries(jwk).filter(([name]) => wanted.includes(name)));
  if (kty === "oct") return typeof jwk["k"] === "string" && jwk["k"] !== "" ? [key] : [];
  try {
    createPublicKey({ key, format: "jwk" });
    return [key];
  } catch {
    return [];
  }
}
