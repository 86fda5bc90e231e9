/** How a token fared, in the words that Envoy's filter answers with. */
export const ok = "OK";
export const jwt = {
  missing: "Jwt is missing",
  notYetValid: "Jwt not yet valid",
  expired: "Jwt is expired",
  badFormat: "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
  headerBadBase64: "Jwt header is an invalid Base64url encoded",
  headerBadJson: "Jwt header is an invalid JSON",
  headerBadAlg: "Jwt header [alg] field is required and must be a string",
  headerUnknownAlg: "Jwt header [alg] is not supported",
  headerBadKid: "Jwt header [kid] field is not a string",
  payloadBadBase64: "Jwt payload is an invalid Base64url encoded",
  payloadBadJson: "Jwt payload is an invalid JSON",
  payloadBadIssuer: "Jwt payload [iss] field is not a string",
  payloadBadSubject: "Jwt payload [sub] field is not a string",
  payloadBadIssuedAt: "Jwt payload [iat] field is not an integer",
  payloadBadNotBefore: "Jwt payload [nbf] field is not an integer",
  payloadBadExpiry: "Jwt payload [exp] field is not an integer",
  payloadBadAudience: "Jwt payload [aud] field is not a string or string list",
  signatureBadBase64: "Jwt signature is an invalid Base64url encoded",
  unknownIssuer: "Jwt issuer is not configured",
  audienceNotAllowed: "Audiences in Jwt are not allowed",
  subjectNotAllowed: "Subject in Jwt is not allowed",
  expiryRequired: "Expiration is required for this Jwt",
  lifetimeTooLong: "Lifetime of Jwt is longer than allowed",
  verificationFails: "Jwt verification fails",
  noKey: "Jwks doesn't have any valid public key",
  noMatchingKey: "Jwks doesn't have key to match kid or alg from Jwt",
  fetchFailed: "Jwks remote fetch is failed",
} as const;

/** {@link ok} or one of {@link jwt}. */
export type JwtStatus = typeof ok | (typeof jwt)[keyof typeof jwt];

/** Of several failures the one to tell: what is wrong with a token, rather than that it is another's or not there. */
export function worse(a: JwtStatus, b: JwtStatus): JwtStatus {
  const rank = (status: JwtStatus): number => (status === jwt.missing ? 0 : status === jwt.unknownIssuer ? 1 : 2);
  return rank(b) > rank(a) ? b : a;
}
