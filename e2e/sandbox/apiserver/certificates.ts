import { webcrypto } from "node:crypto";
import { isIP } from "node:net";

export interface ServingCertificates {
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Days: longer than any sandbox lives. */
const lifetimeDays = 365;

/** A certificate authority for this server alone, and the certificate that it serves. */
export async function makeServingCertificates(names: readonly string[], nowMs: number): Promise<ServingCertificates> {
  const x509 = await import("#shared/ca/x509.ts");
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const generate = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const [caKeys, keys] = await Promise.all([generate(), generate()]);
  const validity = { notBefore: new Date(nowMs - 3_600_000), notAfter: new Date(nowMs + lifetimeDays * 86_400_000) };
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=ambit-sandbox-ca",
    keys: caKeys,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    subject: "CN=kube-apiserver",
    issuer: ca.subject,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: algorithm,
    ...validity,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
    ],
  });
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return {
    caPem: `${ca.toString("pem")}\n`,
    certificatePem: `${certificate.toString("pem")}\n`,
    keyPem: `-----BEGIN PRIVATE KEY-----\n${key.replaceAll(/.{64}/gu, "$&\n")}\n-----END PRIVATE KEY-----\n`,
  };
}
