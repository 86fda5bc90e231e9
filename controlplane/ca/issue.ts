import { createPublicKey, type webcrypto } from "node:crypto";
import * as x509 from "#shared/ca/x509.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";
import { randomSerial, type Authority } from "./authority.ts";

/** A request that proved it holds its key. */
export interface CheckedRequest {
  readonly publicKey: x509.PublicKey;
}

/** A P-256 request has under 600 characters, an RSA-4096 one under 3 000. */
const longestCsr = 16_384;

/**
 * Reads a PKCS#10 request: its key and proof of possession count, every name in it is ignored.
 *
 * @throws MeshError RESOURCE_MALFORMED saying what is wrong
 */
export async function readCsr(pem: string): Promise<CheckedRequest> {
  const refuse = (why: string) => new MeshError("RESOURCE_MALFORMED", `Cannot use the certificate request: ${why}`);
  if (pem.length > longestCsr) throw refuse(`it has more than ${longestCsr} characters`);
  const match =
    /-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END (?:NEW )?CERTIFICATE REQUEST-----/.exec(
      pem,
    );
  if (match?.[1] === undefined) throw refuse("it is no PKCS#10 in PEM");
  let request: x509.Pkcs10CertificateRequest;
  let isOwn: boolean;
  try {
    request = new x509.Pkcs10CertificateRequest(Buffer.from(match[1], "base64"));
    checkKey(request.publicKey);
    isOwn = await request.verify();
  } catch (error) {
    if (error instanceof MeshError) throw error;
    throw refuse(explain(error).slice(0, 200));
  }
  if (!isOwn) throw refuse("it is not signed with its own key");
  return { publicKey: request.publicKey };
}

function checkKey({ rawData }: x509.PublicKey): void {
  const key = createPublicKey({ key: Buffer.from(rawData), format: "der", type: "spki" });
  const { modulusLength = 0, namedCurve = "" } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "ec" && ["prime256v1", "secp384r1", "secp521r1"].includes(namedCurve)) return;
  if (key.asymmetricKeyType === "rsa" && modulusLength >= 2_048 && modulusLength <= 8_192) return;
  const remedy = "use ECDSA P-256, P-384 or P-521, or RSA with 2048 to 8192 bits";
  throw new MeshError("RESOURCE_MALFORMED", `Cannot certify a key of this kind: ${remedy}`);
}

export interface Leaf {
  readonly pem: string;
  readonly notAfterMs: number;
}

export interface LeafOptions {
  readonly authority: Authority;
  readonly publicKey: x509.PublicKey | webcrypto.CryptoKey;
  readonly names: x509.JsonGeneralNames;
  readonly ttlMs: number;
  readonly nowMs: number;
}

/** Clocks of a cluster differ; as Istio's CA. */
export const backdateMs = 2 * 60_000;

/** Signs a certificate for both sides of TLS. It never outlives its signer. */
export async function issueLeaf({ authority, publicKey, names, ttlMs, nowMs }: LeafOptions): Promise<Leaf> {
  const notAfterMs = Math.min(nowMs + ttlMs, authority.notAfterMs);
  if (notAfterMs <= nowMs) {
    throw new MeshError("CERTIFICATE_UNAVAILABLE", "Cannot sign: the CA's own certificate has expired");
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    // Names travel in the alternative name, which an empty subject makes critical (RFC 5280 §4.2.1.6).
    subject: "",
    // The name object keeps the issuer's very bytes: verifiers other than OpenSSL compare those.
    issuer: authority.certificate.subjectName,
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: authority.signingAlgorithm,
    publicKey,
    signingKey: authority.signingKey,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.BasicConstraintsExtension(false, undefined, true),
      ...signerKeyId(authority),
      new x509.SubjectAlternativeNameExtension(names, true),
    ],
  });
  return { pem: `${certificate.toString("pem")}\n`, notAfterMs };
}

/**
 * The signer's own key identifier where it has one. Naming its serial number instead would tie every leaf to one
 * certificate of a root that is renewed with the same key.
 */
function signerKeyId({ certificate }: Authority): readonly x509.Extension[] {
  const own = certificate.getExtension(x509.SubjectKeyIdentifierExtension);
  return own === null ? [] : [new x509.AuthorityKeyIdentifierExtension(own.keyId)];
}
