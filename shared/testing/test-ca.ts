/** A certificate authority in memory, for tests and benches: issues what a real one would, and what it never should. */
import { webcrypto } from "node:crypto";
import type { WorkloadCertificate } from "#shared/ca/workload-certificate.ts";
import type { SpiffeId } from "#shared/identity/spiffe-id.ts";
import * as x509 from "#shared/ca/x509.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const hourMs = 3_600_000;

export interface IssueOptions {
  /** URI names in order; default: the identity alone. */
  readonly uris?: readonly string[];
  /** Further DNS names. */
  readonly dnsNames?: readonly string[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  /** Default: client and server. */
  readonly usage?: readonly ("client" | "server")[];
  /** Certificate authorities between the root and the leaf; default 0. */
  readonly intermediates?: number;
  /** Further trust anchors to hand out. */
  readonly alsoTrust?: readonly TestCa[];
}

interface Issuer {
  readonly certificate: x509.X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

let serial = 1;
const nextSerial = () => (serial++).toString(16).padStart(16, "4");

export class TestCa {
  readonly #root: Issuer;

  private constructor(root: Issuer) {
    this.#root = root;
  }

  static async create(name = "Test Root"): Promise<TestCa> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: nextSerial(),
      name: `O=${name}`,
      notBefore: new Date(Date.now() - hourMs),
      notAfter: new Date(Date.now() + 24 * hourMs),
      signingAlgorithm: algorithm,
      keys,
      extensions: authorityExtensions(),
    });
    return new TestCa({ certificate, keys });
  }

  get rootPem(): string {
    return this.#root.certificate.toString("pem");
  }

  async issue(identity: SpiffeId, options: IssueOptions = {}): Promise<WorkloadCertificate> {
    const notBeforeMs = options.notBeforeMs ?? Date.now() - hourMs;
    const notAfterMs = options.notAfterMs ?? Date.now() + hourMs;
    const authorities: Issuer[] = [];
    for (let index = 0; index < (options.intermediates ?? 0); index++) {
      authorities.push(await this.#intermediate(authorities.at(-1) ?? this.#root, index));
    }
    const issuer = authorities.at(-1) ?? this.#root;
    const keys = await generateKeys();
    const serialNumber = nextSerial();
    const usages = { client: x509.ExtendedKeyUsage.clientAuth, server: x509.ExtendedKeyUsage.serverAuth };
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber,
      subject: "",
      issuer: issuer.certificate.subject,
      notBefore: new Date(notBeforeMs),
      notAfter: new Date(notAfterMs),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: issuer.keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
        new x509.ExtendedKeyUsageExtension((options.usage ?? ["client", "server"]).map((usage) => usages[usage])),
        ...namesExtension(options.uris ?? [identity], options.dnsNames ?? []),
      ],
    });
    const keyDer = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
    return {
      identity,
      chainPem: [leaf, ...authorities.map(({ certificate }) => certificate).reverse()].map(toPem).join(""),
      keyPem: `${x509.PemConverter.encode(keyDer, "PRIVATE KEY")}\n`,
      rootsPem: [this, ...(options.alsoTrust ?? [])].map(({ rootPem }) => `${rootPem}\n`),
      notBeforeMs,
      notAfterMs,
      serial: serialNumber,
    };
  }

  async #intermediate(issuer: Issuer, index: number): Promise<Issuer> {
    const keys = await generateKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: nextSerial(),
      subject: `O=Test Intermediate ${index}`,
      issuer: issuer.certificate.subject,
      notBefore: new Date(Date.now() - hourMs),
      notAfter: new Date(Date.now() + 24 * hourMs),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: issuer.keys.privateKey,
      extensions: authorityExtensions(),
    });
    return { certificate, keys };
  }
}

const toPem = (certificate: x509.X509Certificate): string => `${certificate.toString("pem")}\n`;

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

function authorityExtensions(): x509.Extension[] {
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ];
}

function namesExtension(uris: readonly string[], dnsNames: readonly string[]): x509.Extension[] {
  if (uris.length + dnsNames.length === 0) return [];
  const names: x509.JsonGeneralNames = [
    ...uris.map((value) => ({ type: "url" as const, value })),
    ...dnsNames.map((value) => ({ type: "dns" as const, value })),
  ];
  return [new x509.SubjectAlternativeNameExtension(names, true)];
}
