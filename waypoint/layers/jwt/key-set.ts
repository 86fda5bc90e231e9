/** A JSON Web Key Set, read once, and signatures checked against it. */
import { createPublicKey, createSecretKey, type KeyObject } from "node:crypto";
import { compactVerify, type JWK } from "jose";
import { readJwks } from "#shared/tokens/read-jwks.ts";
import { jwt, ok, type JwtStatus } from "./status.ts";
import type { Token } from "./token.ts";

interface Key {
  readonly kid: string | undefined;
  /** What the key says that it is for; any algorithm of its type where it does not. */
  readonly alg: string | undefined;
  /** `EC/P-256`, `RSA`, `OKP/Ed25519`, `oct`. */
  readonly type: string;
  readonly key: KeyObject;
}

export interface KeySet {
  readonly keys: readonly Key[];
}

/** Where keys come from. */
export interface KeySource {
  /** Undefined: {@link fetch} them first. */
  readonly current: KeySet | undefined;
  /** Resolves in any case, with undefined where they cannot be had. */
  fetch(): Promise<KeySet | undefined>;
}

/** Which keys an algorithm works with: a public key never becomes the secret of an HMAC. */
const typeOfAlgorithm: Readonly<Record<string, string>> = {
  RS256: "RSA",
  RS384: "RSA",
  RS512: "RSA",
  PS256: "RSA",
  PS384: "RSA",
  PS512: "RSA",
  ES256: "EC/P-256",
  ES384: "EC/P-384",
  ES512: "EC/P-521",
  EdDSA: "OKP/Ed25519",
  HS256: "oct",
  HS384: "oct",
  HS512: "oct",
};

/** Undefined where the text is no key set. A key that cannot be used is left out. */
export function readKeySet(text: string): KeySet | undefined {
  const keys = readJwks(text);
  return keys && { keys: keys.flatMap(readKey) };
}

function readKey(jwk: Readonly<Record<keyof JWK, unknown>>): readonly Key[] {
  const { kty, crv, alg, kid, use } = jwk;
  if (typeof kty !== "string" || (use !== undefined && use !== "sig")) return [];
  const algorithm = typeof alg === "string" ? alg : undefined;
  const type = kty === "EC" || kty === "OKP" ? `${kty}/${String(crv)}` : kty;
  if (algorithm !== undefined && typeOfAlgorithm[algorithm] !== type) return [];
  try {
    const key =
      kty === "oct"
        ? createSecretKey(Buffer.from(typeof jwk.k === "string" ? jwk.k : "", "base64url"))
        : createPublicKey({ key: publicPart(jwk), format: "jwk" });
    return [{ kid: typeof kid === "string" ? kid : undefined, alg: algorithm, type, key }];
  } catch {
    return [];
  }
}

/** Private parts are nobody's business here. */
const publicPart = ({ kty, crv, n, e, x, y }: Readonly<Record<keyof JWK, unknown>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries({ kty, crv, n, e, x, y }).filter((pair): pair is [string, string] => typeof pair[1] === "string"),
  );

/** `kid` picks the key where both have one; otherwise every key of a fitting type is tried. */
export async function verifySignature(token: Token, { keys }: KeySet): Promise<JwtStatus> {
  if (keys.length === 0) return jwt.noKey;
  const type = typeOfAlgorithm[token.alg];
  const meant = keys.filter(
    (key) =>
      (key.alg === undefined || key.alg === token.alg) &&
      (key.kid === undefined || token.kid === undefined || key.kid === token.kid),
  );
  if (meant.length === 0) return jwt.noMatchingKey;
  for (const { key, type: found } of meant) {
    if (found !== type) continue;
    try {
      await compactVerify(token.raw, key, { algorithms: [token.alg] });
      return ok;
    } catch {
      // The next key, if there is one.
    }
  }
  return jwt.verificationFails;
}
