import { createPrivateKey, randomBytes, webcrypto, X509Certificate, type KeyObject } from "node:crypto";
import { splitPem } from "#shared/ca/workload-certificate.ts";
import * as x509 from "#shared/ca/x509.ts";
import { explain, MeshError } from "#shared/errors/mesh-error.ts";

/** A CA certificate with its key, and how clients reach their trust anchors from it. */
export interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly signingKey: webcrypto.CryptoKey;
  readonly signingAlgorithm: webcrypto.EcdsaParams | webcrypto.RsaHashedImportParams;
  /** From the signing certificate towards the root, without roots; empty where the signer is a root. PEM. */
  readonly intermediatesPem: readonly string[];
  /** Trust anchors, PEM. */
  readonly rootsPem: readonly string[];
  readonly notAfterMs: number;
  readonly crlPem?: string;
}

/** The files of an authority, whatever they are called where they come from. */
export interface AuthorityFiles {
  readonly certificate: NamedText;
  readonly key: NamedText;
  /** What follows the certificate on the way to the root. */
  readonly chain?: NamedText;
  readonly roots: NamedText;
  readonly crl?: NamedText;
}

export interface NamedText {
  /** For messages. */
  readonly name: string;
  readonly text: string;
}

/**
 * Reads and cross-checks the files: the key fits, the certificate may sign, and the chain ends in one of the roots.
 *
 * @throws MeshError CONFIG_INVALID naming the file
 */
export async function readAuthority(files: AuthorityFiles): Promise<Authority> {
  const [certificate, ...bundled] = readCertificates(files.certificate);
  const roots = readCertificates(files.roots);
  if (certificate === undefined) throw unusable(files.certificate, "it holds no certificate");
  if (roots.length === 0) throw unusable(files.roots, "it holds no certificate");
  if (!certificate.ca) throw unusable(files.certificate, "it is not a CA certificate (basicConstraints CA:TRUE)");
  const key = readKey(files.key);
  if (!certificate.checkPrivateKey(key)) throw unusable(files.key, `it is not the key of ${files.certificate.name}`);

  const candidates = [...bundled, ...(files.chain === undefined ? [] : readCertificates(files.chain))];
  const path = pathToRoot(certificate, candidates, roots);
  if (path === undefined) throw unusable(files.roots, `${files.certificate.name} does not chain to any of its roots`);
  return {
    certificate: new x509.X509Certificate(certificate.raw),
    ...(await importKey(files.key, key)),
    intermediatesPem: path.map(String),
    rootsPem: [...new Set(roots.map(String))],
    notAfterMs: Math.min(...[certificate, ...path].map(({ validTo }) => Date.parse(validTo))),
    ...(files.crl === undefined ? {} : { crlPem: files.crl.text }),
  };
}

/** What lies between the leaves it signs and a root; undefined where no root is reached. */
function pathToRoot(
  certificate: X509Certificate,
  candidates: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): readonly X509Certificate[] | undefined {
  const path: X509Certificate[] = [];
  for (let current = certificate; path.length <= candidates.length;) {
    if (roots.some((root) => root.fingerprint256 === current.fingerprint256)) return path;
    path.push(current);
    if (roots.some((root) => issued(root, current))) return path;
    const next = candidates.find((candidate) => !path.includes(candidate) && issued(candidate, current));
    if (next === undefined) return undefined;
    current = next;
  }
  return undefined;
}

const issued = (issuer: X509Certificate, subject: X509Certificate): boolean =>
  subject.checkIssued(issuer) && subject.verify(issuer.publicKey);

function readCertificates({ name, text }: NamedText): readonly X509Certificate[] {
  return splitPem(text).map((pem, index) => {
    try {
      return new X509Certificate(pem);
    } catch (error) {
      throw unusable({ name, text }, `certificate ${index + 1} cannot be read (${explain(error)})`);
    }
  });
}

function readKey(file: NamedText): KeyObject {
  try {
    return createPrivateKey(file.text);
  } catch {
    // The reason may quote the text.
    throw unusable(file, "it holds no unencrypted private key in PEM");
  }
}

async function importKey(file: NamedText, key: KeyObject): Promise<Pick<Authority, "signingKey" | "signingAlgorithm">> {
  const signingAlgorithm = algorithmOf(key);
  if (signingAlgorithm === undefined) throw unusable(file, "only RSA and ECDSA P-256, P-384 and P-521 keys can sign");
  const der = key.export({ type: "pkcs8", format: "der" });
  return {
    signingKey: await webcrypto.subtle.importKey("pkcs8", der, signingAlgorithm, false, ["sign"]),
    signingAlgorithm,
  };
}

type SigningAlgorithm = webcrypto.EcdsaParams & webcrypto.RsaHashedImportParams & webcrypto.EcKeyImportParams;

function algorithmOf(key: KeyObject): SigningAlgorithm | undefined {
  if (key.asymmetricKeyType === "rsa") return { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } as SigningAlgorithm;
  const curves = new Map([
    ["prime256v1", { namedCurve: "P-256", hash: "SHA-256" }],
    ["secp384r1", { namedCurve: "P-384", hash: "SHA-384" }],
    ["secp521r1", { namedCurve: "P-521", hash: "SHA-512" }],
  ]);
  const curve = curves.get(key.asymmetricKeyDetails?.namedCurve ?? "");
  return curve === undefined ? undefined : { name: "ECDSA", ...curve };
}

const unusable = ({ name }: NamedText, why: string) =>
  new MeshError("CONFIG_INVALID", `Cannot use the CA file "${name}": ${why}`);

/** 128 random bits, positive. */
export function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01;
  return bytes.toString("hex");
}
