import { createPrivateKey, X509Certificate } from "node:crypto";
import { MeshError } from "#shared/errors/mesh-error.ts";
import { parseSpiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { uriNamesOf } from "#shared/tls/certificate-names.ts";

/** A workload's key, its chain and whom it trusts: everything that one side of a mutual TLS handshake needs. */
export interface WorkloadCertificate {
  readonly identity: SpiffeId;
  /** Leaf, then intermediates; what is sent in the handshake. PEM. */
  readonly chainPem: string;
  /** PKCS#8 PEM. Never logged. */
  readonly keyPem: string;
  /** Trust anchors that came with this very certificate, one PEM each; at least one. */
  readonly rootsPem: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Hexadecimal, as OpenSSL prints it. */
  readonly serial: string;
}

/** What the CA answered, checked. */
export interface CertificateResponse {
  readonly certificate: WorkloadCertificate;
  /** Roots that could not be read and were left out; worth a warning. */
  readonly unreadableRoots: number;
}

interface Answer {
  /** `cert_chain`: leaf, intermediates one by one, last all roots together. */
  readonly chain: readonly string[];
  readonly keyPem: string;
  /** The identity asked for; absent where the CA names the caller itself (one proxy for one workload). */
  readonly requested?: SpiffeId;
}

/**
 * Reads a CA's answer and refuses what a TLS handshake would stumble over later.
 *
 * @throws MeshError CERTIFICATE_UNAVAILABLE naming the element that is wrong
 */
export function readCertificateResponse({ chain, keyPem, requested }: Answer): CertificateResponse {
  const [leafText, ...rest] = chain;
  if (leafText === undefined) throw unusable("the list of certificates is empty");
  const rootBundle = rest.pop();
  if (rootBundle === undefined) throw unusable("there is no root after the leaf");

  const [leafPem, ...besides] = blocksOf(leafText);
  const leaf = readCertificate(leafPem, "the leaf");
  // One each is usual, but an authority may as well send its whole chain in one element.
  const between = [...besides, ...rest.flatMap(blocksOf)];
  const intermediates = between.map((text, index) => readCertificate(text, `intermediate ${index + 1}`));
  const identity = identityOfLeaf(leaf, requested);
  if (!leaf.checkPrivateKey(createPrivateKey(keyPem))) throw unusable("the leaf belongs to another key");

  const bundle = splitPem(rootBundle);
  const rootsPem = bundle.filter(isReadable);
  if (rootsPem.length === 0) throw unusable("no root in the last element can be read");
  return {
    certificate: {
      identity,
      chainPem: [leaf, ...intermediates].map(String).join(""),
      keyPem,
      rootsPem,
      notBeforeMs: Date.parse(leaf.validFrom),
      notAfterMs: Date.parse(leaf.validTo),
      serial: leaf.serialNumber,
    },
    unreadableRoots: bundle.length - rootsPem.length,
  };
}

/** When to ask for the next one: at half of its life, as Istio's ztunnel does. At once where that is not computable. */
export function refreshTimeMs({ notBeforeMs, notAfterMs }: Pick<WorkloadCertificate, "notBeforeMs" | "notAfterMs">) {
  const middleMs = notBeforeMs + (notAfterMs - notBeforeMs) / 2;
  return Number.isFinite(middleMs) ? middleMs : 0;
}

/** Before its time or past it, nobody accepts a certificate. */
export function isExpired({ notAfterMs }: Pick<WorkloadCertificate, "notAfterMs">, nowMs: number): boolean {
  return !(nowMs < notAfterMs);
}

/** The certificates of a PEM bundle, one text each; anything between them is dropped. */
export function splitPem(bundle: string): readonly string[] {
  return [...bundle.matchAll(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)].map(
    ([block]) => `${block.replaceAll("\r", "")}\n`,
  );
}

function identityOfLeaf(leaf: X509Certificate, requested: SpiffeId | undefined): SpiffeId {
  const [first] = uriNamesOf(leaf.raw);
  if (first === undefined) throw unusable("the leaf names no URI");
  if (requested !== undefined && first !== requested) throw unusable(`the leaf is for "${first}", not "${requested}"`);
  return parseSpiffeId(first);
}

/** The certificates of one element; the element as it is where there are none, for the error to tell. */
function blocksOf(text: string): readonly [string, ...string[]] {
  const [first, ...more] = splitPem(text);
  return first === undefined ? [text] : [first, ...more];
}

function readCertificate(text: string, what: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch (error) {
    throw unusable(`${what} cannot be read`, error);
  }
}

function isReadable(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

const unusable = (why: string, cause?: unknown) =>
  new MeshError("CERTIFICATE_UNAVAILABLE", `Cannot use the CA's answer: ${why}`, cause);
