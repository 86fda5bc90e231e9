import { generateKeyPair, sign, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import {
  bitString,
  booleanTrue,
  contextConstructed,
  contextPrimitive,
  objectIdentifier,
  octetString,
  pem,
  sequence,
  set,
  smallInteger,
} from "./der.ts";

/** A fresh key and the request to certify it. */
export interface CertificateRequest {
  /** PKCS#8 PEM. */
  readonly keyPem: string;
  /** PKCS#10 PEM. */
  readonly csrPem: string;
}

const oid = {
  extensionRequest: objectIdentifier("1.2.840.113549.1.9.14"),
  subjectAltName: objectIdentifier("2.5.29.17"),
  ecdsaWithSha256: objectIdentifier("1.2.840.10045.4.3.2"),
};

const generate = promisify(generateKeyPair);

/**
 * P-256 key and PKCS#10 request in the form of Istio's ztunnel: empty subject, and as only extension a critical
 * subjectAltName with one URI. The key is made on the thread pool, one per request: a renewed certificate is a new key.
 */
export async function makeCertificateRequest(identity: SpiffeId): Promise<CertificateRequest> {
  const { privateKey, publicKey } = await generate("ec", { namedCurve: "P-256" });
  return {
    keyPem: privateKey.export({ type: "pkcs8", format: "pem" }),
    csrPem: pem("CERTIFICATE REQUEST", requestDer(identity, { privateKey, publicKey })),
  };
}

function requestDer(identity: SpiffeId, keys: { privateKey: KeyObject; publicKey: KeyObject }): Buffer {
  const generalNames = sequence(contextPrimitive(6, Buffer.from(identity, "utf8")));
  const extension = sequence(oid.subjectAltName, booleanTrue(), octetString(generalNames));
  const attribute = sequence(oid.extensionRequest, set(sequence(extension)));
  const emptySubject = sequence();
  const info = sequence(
    smallInteger(0),
    emptySubject,
    keys.publicKey.export({ type: "spki", format: "der" }),
    contextConstructed(0, attribute),
  );
  const signature = sign("sha256", info, { key: keys.privateKey, dsaEncoding: "der" });
  return sequence(info, sequence(oid.ecdsaWithSha256), bitString(signature));
}
