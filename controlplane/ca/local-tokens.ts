import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  sign,
  verify,
  type KeyObject,
  type webcrypto,
} from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Clock } from "#shared/clock/clock.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import type { ReviewedToken, TokenAuthenticator } from "./caller.ts";
import { writePrivate } from "./file-store.ts";

/**
 * Service account tokens without an API server: for a control plane on a laptop, verified against public keys in a file.
 * The tokens have the form of Kubernetes' own, so the API server's keys work as well.
 */
export interface LocalTokensOptions {
  /** PEM public keys or certificates, or a JWKS document. Read anew when a token does not verify. */
  readonly publicKeysPath: string;
  /** One of these must be among a token's audiences. */
  readonly audiences: readonly string[];
  readonly clock: Clock;
}

const algorithms: ReadonlyMap<string, { readonly kind: string; readonly hash: string; readonly curve?: string }> =
  new Map([
    ["RS256", { kind: "rsa", hash: "sha256" }],
    ["ES256", { kind: "ec", hash: "sha256", curve: "prime256v1" }],
  ]);

/** Clocks differ a little. */
const leewaySeconds = 10;

export class LocalTokens implements TokenAuthenticator {
  readonly #options: LocalTokensOptions;
  #keys: readonly PublicKey[] = [];

  constructor(options: LocalTokensOptions) {
    this.#options = options;
  }

  /** @throws MeshError UNAUTHENTICATED saying what is wrong with the token */
  async review(token: string): Promise<ReviewedToken> {
    const refuse = (why: string) => new MeshError("UNAUTHENTICATED", `Cannot accept the service account token: ${why}`);
    const [head, body, signature, ...more] = token.split(".");
    if (head === undefined || body === undefined || signature === undefined || more.length > 0)
      throw refuse("it is no JWT");
    const header = parseJson(head);
    const algorithm = algorithms.get(textIn(header, "alg"));
    if (algorithm === undefined) throw refuse(`its algorithm is none of ${[...algorithms.keys()].join(", ")}`);
    const signed = Buffer.from(`${head}.${body}`);
    const isValid = (key: PublicKey) => verifies(key, signed, Buffer.from(signature, "base64url"), algorithm);
    const keyId = textIn(header, "kid");
    const fits = (key: PublicKey) => (keyId === "" || key.id === undefined || key.id === keyId) && isValid(key);
    if (!this.#keys.some(fits)) {
      this.#keys = await readPublicKeys(this.#options.publicKeysPath);
      if (!this.#keys.some(fits)) throw refuse(`no key in "${this.#options.publicKeysPath}" verifies it`);
    }
    return this.#claims(parseJson(body), refuse);
  }

  #claims(claims: JsonRecord, refuse: (why: string) => MeshError): ReviewedToken {
    const nowSeconds = this.#options.clock.now() / 1_000;
    const { exp, nbf, aud, sub } = claims;
    if (typeof exp !== "number") throw refuse("it has no expiry");
    if (exp + leewaySeconds < nowSeconds) throw refuse(`it expired at ${isoTime(exp)}`);
    if (typeof nbf === "number" && nbf - leewaySeconds > nowSeconds)
      throw refuse(`it is valid only from ${isoTime(nbf)}`);
    const audiences = Array.isArray(aud) ? aud : [aud];
    if (!this.#options.audiences.some((audience) => audiences.includes(audience))) {
      throw refuse(`it is not for audience ${this.#options.audiences.join(" or ")}`);
    }
    const match = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(typeof sub === "string" ? sub : "");
    if (match?.[1] === undefined || match[2] === undefined) throw refuse("its subject is no service account");
    const pod = recordIn(recordIn(claims, "kubernetes.io"), "pod");
    const [name, uid] = [textIn(pod, "name"), textIn(pod, "uid")];
    return {
      namespace: match[1],
      serviceAccount: match[2],
      ...(name === "" || uid === "" ? {} : { pod: { name, uid } }),
    };
  }
}

interface PublicKey {
  readonly key: KeyObject;
  readonly id: string | undefined;
}

function verifies(
  { key }: PublicKey,
  signed: Buffer,
  signature: Buffer,
  { kind, hash, curve }: { readonly kind: string; readonly hash: string; readonly curve?: string },
): boolean {
  // The key decides which algorithm is right, never the token alone.
  if (key.asymmetricKeyType !== kind || key.asymmetricKeyDetails?.namedCurve !== curve) return false;
  return verify(hash, signed, kind === "ec" ? { key, dsaEncoding: "ieee-p1363" } : key, signature);
}

async function readPublicKeys(path: string): Promise<readonly PublicKey[]> {
  try {
    const text = await readFile(path, "utf8");
    if (text.trimStart().startsWith("{")) return readJwks(text);
    const blocks = text.match(/-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----/g) ?? [];
    return blocks.map((block) => ({ key: createPublicKey(block), id: undefined }));
  } catch (error) {
    throw new MeshError("CONFIG_INVALID", `Cannot read the public keys of tokens from "${path}"`, error);
  }
}

function readJwks(text: string): readonly PublicKey[] {
  const { keys } = JSON.parse(text) as { keys?: readonly (webcrypto.JsonWebKey & { kid?: string })[] };
  return (keys ?? []).map((jwk) => ({ key: createPublicKey({ key: jwk, format: "jwk" }), id: jwk.kid }));
}

type JsonRecord = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is JsonRecord => typeof value === "object" && value !== null;

function parseJson(part: string): JsonRecord {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

function recordIn(record: JsonRecord, name: string): JsonRecord {
  const value = record[name];
  return isRecord(value) ? value : {};
}

function textIn(record: JsonRecord, name: string): string {
  const value = record[name];
  return typeof value === "string" ? value : "";
}

const isoTime = (seconds: number) => {
  const date = new Date(seconds * 1_000);
  return Number.isNaN(date.getTime()) ? "an unreadable time" : date.toISOString();
};

/** Names in the state folder. */
export const tokenKeyFiles = { privateKey: "token-key.pem", publicKey: "token-key.pub.pem" } as const;

const generate = promisify(generateKeyPair);

/** The key pair with which local tokens are made and checked; made once and kept. Returns the public key's path. */
export async function ensureTokenKeys(directory: string): Promise<string> {
  const publicPath = join(directory, tokenKeyFiles.publicKey);
  const privatePath = join(directory, tokenKeyFiles.privateKey);
  let pem: string | undefined;
  try {
    pem = await readFile(privatePath, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  if (pem === undefined) {
    const { privateKey } = await generate("ec", { namedCurve: "P-256" });
    pem = privateKey.export({ type: "pkcs8", format: "pem" });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writePrivate(privatePath, pem);
  }
  try {
    const publicPem = createPublicKey(pem).export({ type: "spki", format: "pem" });
    await writePrivate(publicPath, publicPem, 0o644);
  } catch (error) {
    throw new MeshError("CONFIG_INVALID", `Cannot use the token key "${privatePath}": ${explain(error)}`);
  }
  return publicPath;
}

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audience: string;
  readonly ttlSeconds: number;
  readonly pod?: { readonly name: string; readonly uid: string };
}

/** Makes a token that {@link LocalTokens} accepts, signed with the private key of the state folder. */
export async function mintToken(directory: string, request: TokenRequest, nowMs: number): Promise<string> {
  await ensureTokenKeys(directory);
  const key = createPrivateKey(await readFile(join(directory, tokenKeyFiles.privateKey), "utf8"));
  const { namespace, serviceAccount, audience, ttlSeconds, pod } = request;
  const nowSeconds = Math.floor(nowMs / 1_000);
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const head = encode({ alg: "ES256", typ: "JWT" });
  const body = encode({
    iss: "ambit-local",
    aud: [audience],
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    iat: nowSeconds,
    nbf: nowSeconds,
    exp: nowSeconds + ttlSeconds,
    "kubernetes.io": { namespace, serviceaccount: { name: serviceAccount }, ...(pod === undefined ? {} : { pod }) },
  });
  const signature = sign("sha256", Buffer.from(`${head}.${body}`), { key, dsaEncoding: "ieee-p1363" });
  return `${head}.${body}.${signature.toString("base64url")}`;
}
