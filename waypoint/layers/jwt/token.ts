/** Reads a token without believing it: form, header and claims. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { jwt, type JwtStatus } from "./status.ts";

export interface Token {
  readonly raw: string;
  readonly alg: string;
  readonly kid: string | undefined;
  readonly issuer: string;
  readonly subject: string;
  readonly audiences: readonly string[];
  /** Seconds since 1970; undefined where the token does not say. */
  readonly expires: number | undefined;
  readonly notBefore: number | undefined;
  readonly issuedAt: number | undefined;
  readonly payload: JsonObject;
  /** As in the token. */
  readonly payloadText: string;
}

/** Longer ones are not looked into. Bytes. */
const longestToken = 16 * 1024;
/** Four characters are three octets; one left over is none. */
const base64url = /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?$/;

/** `none` is not among them. */
export const algorithms: ReadonlySet<string> = new Set(
  "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA HS256 HS384 HS512".split(" "),
);

export function parseToken(raw: string): Token | JwtStatus {
  const sections = raw.length > longestToken ? [] : raw.split(".");
  const [headerText = "", payloadText = "", signature = ""] = sections;
  if (sections.length !== 3 || sections.includes("")) return jwt.badFormat;
  if (!base64url.test(headerText)) return jwt.headerBadBase64;
  const header = parseObject(headerText);
  if (header === undefined) return jwt.headerBadJson;
  const { alg, kid } = header;
  if (typeof alg !== "string") return jwt.headerBadAlg;
  if (!algorithms.has(alg)) return jwt.headerUnknownAlg;
  if (kid !== undefined && typeof kid !== "string") return jwt.headerBadKid;
  if (!base64url.test(payloadText)) return jwt.payloadBadBase64;
  const payload = parseObject(payloadText);
  if (payload === undefined) return jwt.payloadBadJson;
  if (!base64url.test(signature)) return jwt.signatureBadBase64;
  return readClaims(raw, { alg, kid }, payload, payloadText);
}

function readClaims(
  raw: string,
  header: { readonly alg: string; readonly kid: string | undefined },
  payload: JsonObject,
  payloadText: string,
): Token | JwtStatus {
  const own = (name: string): JsonValue | undefined => (Object.hasOwn(payload, name) ? payload[name] : undefined);
  const [issuer, subject, audience] = [own("iss"), own("sub"), own("aud")];
  if (issuer !== undefined && typeof issuer !== "string") return jwt.payloadBadIssuer;
  if (subject !== undefined && typeof subject !== "string") return jwt.payloadBadSubject;
  const [issuedAt, notBefore, expires] = [own("iat"), own("nbf"), own("exp")];
  if (!isTime(issuedAt)) return jwt.payloadBadIssuedAt;
  if (!isTime(notBefore)) return jwt.payloadBadNotBefore;
  if (!isTime(expires)) return jwt.payloadBadExpiry;
  const audiences = typeof audience === "string" ? [audience] : (audience ?? []);
  if (!isTextList(audiences)) return jwt.payloadBadAudience;
  return {
    raw,
    ...header,
    issuer: issuer ?? "",
    subject: subject ?? "",
    audiences,
    expires,
    notBefore,
    issuedAt,
    payload,
    payloadText,
  };
}

const isTime = (value: JsonValue | undefined): value is number | undefined =>
  value === undefined || (typeof value === "number" && Number.isFinite(value) && value >= 0);

const isTextList = (value: JsonValue): value is string[] =>
  Array.isArray(value) && value.every((each) => typeof each === "string");

function parseObject(encoded: string): JsonObject | undefined {
  try {
    const value = JSON.parse(Buffer.from(encoded, "base64url").toString("utf8")) as JsonValue;
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
