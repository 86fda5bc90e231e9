/** Certificates for attackers: whatever names one likes, signed by whichever authority one has the key of. */
import { createPrivateKey, webcrypto } from "node:crypto";
import * as x509 from "#shared/ca/x509.ts";
import type { Cluster, Manifest } from "./cluster.ts";

export interface Authority {
  readonly certificatePem: string;
  readonly keyPem: string;
}

const leafAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const hourMs = 3_600_000;

/** Certificate and key for `uri`, as `e2e/support/attacker.ts` takes them: base64 of JSON. */
export async function forge(authority: Authority, uri: string): Promise<string> {
  const { certificatePem, keyPem } = await certificateFor(authority, { type: "url", value: uri });
  return Buffer.from(JSON.stringify({ cert: certificatePem, key: keyPem })).toString("base64");
}

/** A certificate for one name, good for clients and servers, and its key. */
export async function certificateFor(
  authority: Authority,
  name: { readonly type: "url" | "dns"; readonly value: string },
): Promise<Authority> {
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const issuerKey = createPrivateKey(authority.keyPem);
  const algorithm =
    issuerKey.asymmetricKeyType === "rsa" ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" } : leafAlgorithm;
  const signingKey = await webcrypto.subtle.importKey(
    "pkcs8",
    issuerKey.export({ type: "pkcs8", format: "der" }),
    algorithm,
    false,
    ["sign"],
  );
  const keys = await webcrypto.subtle.generateKey(leafAlgorithm, true, ["sign", "verify"]);
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: "4a",
    subject: "",
    issuer: issuer.subject,
    notBefore: new Date(Date.now() - hourMs),
    notAfter: new Date(Date.now() + hourMs),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth, x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([name], true),
    ],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
  return { certificatePem: leaf.toString("pem"), keyPem };
}

/** An authority that nobody trusts. Two that shall be told apart need two names. */
export async function strangeAuthority(organisation = "Strangers"): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(leafAlgorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "41",
    name: `O=${organisation}`,
    notBefore: new Date(Date.now() - hourMs),
    notAfter: new Date(Date.now() + hourMs),
    signingAlgorithm: leafAlgorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey));
  const keyPem = `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`;
  return { certificatePem: certificate.toString("pem"), keyPem };
}

/** The mesh's own, which an attacker does not have. */
export async function meshAuthority(cluster: Cluster): Promise<Authority> {
  const secret = await cluster.get<Manifest>("v1", "Secret", "istio-ca-secret", "istio-system");
  const data = secret["data"] as Record<string, string>;
  const text = (key: string) => Buffer.from(data[key] ?? "", "base64").toString("utf8");
  return { certificatePem: text("ca-cert.pem"), keyPem: text("ca-key.pem") };
}
