import { generateKeyPair, KeyObject, webcrypto, createPrivateKey, createPublicKey } from "node:crypto";
import { promisify } from "node:util";
import * as x509 from "#shared/ca/x509.ts";
import type { Clock } from "#shared/clock/clock.ts";
import { explain } from "#shared/errors/mesh-error.ts";
import type { Logger } from "#shared/observe/logger.ts";
import { randomSerial, readAuthority, type Authority } from "./authority.ts";
import { backdateMs } from "./issue.ts";

/** Keys of Secret `istio-ca-secret`, which Istio's own control plane reads too; the last two stay empty. */
export const secretKeys = {
  certificate: "ca-cert.pem",
  key: "ca-key.pem",
  roots: "root-cert.pem",
  unused: ["cert-chain.pem", "key.pem"],
} as const;

/** Where the root is kept: a Secret, or files. */
export interface AuthorityStore {
  /** For messages. */
  readonly name: string;
  /** Undefined where nothing is kept yet. */
  read(signal: AbortSignal): Promise<Readonly<Record<string, string>> | undefined>;
  /**
   * Keeps `data`. With `replaces` absent it only creates: false where somebody else was faster, whose data count then.
   */
  write(
    data: Readonly<Record<string, string>>,
    options: { readonly create: boolean },
    signal: AbortSignal,
  ): Promise<boolean>;
}

const dayMs = 24 * 3_600_000;
/** As Istio: ten years, checked every hour, renewed with the same key when a fifth of its life is left. */
const rootLifeMs = 3_650 * dayMs;
const renewAtShare = 0.2;
export const rootCheckMs = 3_600_000;

const generate = promisify(generateKeyPair);

export interface SelfSignedOptions {
  readonly store: AuthorityStore;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * The self-signed root: what the store holds, renewed where its end is near, or a new one. Two control planes that start
 * together agree, as only one of them can create it.
 *
 * @throws MeshError CONFIG_INVALID where the stored one cannot be used: replacing it silently would break every peer
 */
export async function loadSelfSigned(options: SelfSignedOptions, signal: AbortSignal): Promise<Authority> {
  const { store, log, clock, trustDomain } = options;
  const stored = await store.read(signal);
  if (stored === undefined) {
    const { privateKey } = await generate("rsa", { modulusLength: 2_048 });
    const data = await selfSign(privateKey, trustDomain, clock.now());
    if (await store.write(data, { create: true }, signal)) {
      log.info({ store: store.name }, "created a self-signed root");
      return authorityOf(store, data);
    }
    return authorityOf(store, (await store.read(signal)) ?? {});
  }
  const authority = await authorityOf(store, stored);
  const lifeMs = authority.notAfterMs - authority.certificate.notBefore.getTime();
  if (authority.notAfterMs - clock.now() > lifeMs * renewAtShare) return authority;
  return renew(options, stored, signal);
}

/** The same key and name with new dates: what the old root signed still verifies. */
async function renew(
  { store, log, clock, trustDomain }: SelfSignedOptions,
  stored: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Authority> {
  const key = createPrivateKey(stored[secretKeys.key] ?? "");
  const data = { ...stored, ...(await selfSign(key, trustDomain, clock.now())) };
  try {
    // Another control plane may have been faster: then its root counts, or the two would go on overwriting each other's.
    if (!(await store.write(data, { create: false }, signal))) {
      return await authorityOf(store, (await store.read(signal)) ?? stored);
    }
    log.info({ store: store.name }, "renewed the self-signed root");
    return await authorityOf(store, data);
  } catch (error) {
    log.error({ store: store.name, error: explain(error) }, "cannot keep the renewed root, the old one stays in force");
    return authorityOf(store, stored);
  }
}

async function selfSign(key: KeyObject, trustDomain: string, nowMs: number): Promise<Record<string, string>> {
  const isRsa = key.asymmetricKeyType === "rsa";
  const algorithm = isRsa
    ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", publicExponent: new Uint8Array([1, 0, 1]), modulusLength: 2_048 }
    : { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const publicDer = Uint8Array.from(createPublicKey(key).export({ type: "spki", format: "der" }));
  const keys = {
    privateKey: await webcrypto.subtle.importKey("pkcs8", pkcs8(key), algorithm, false, ["sign"]),
    publicKey: await webcrypto.subtle.importKey("spki", publicDer, algorithm, true, ["verify"]),
  };
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ O: [trustDomain] }],
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(nowMs + rootLifeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const rootPem = `${root.toString("pem")}\n`;
  return {
    [secretKeys.certificate]: rootPem,
    [secretKeys.key]: key.export({ type: "pkcs8", format: "pem" }),
    [secretKeys.roots]: rootPem,
    ...Object.fromEntries(secretKeys.unused.map((name) => [name, ""])),
  };
}

const pkcs8 = (key: KeyObject) => Uint8Array.from(key.export({ type: "pkcs8", format: "der" }));

function authorityOf(store: AuthorityStore, data: Readonly<Record<string, string>>): Promise<Authority> {
  const file = (key: string) => ({ name: `${store.name}: ${key}`, text: data[key] ?? "" });
  const roots = file(secretKeys.roots);
  return readAuthority({
    certificate: file(secretKeys.certificate),
    key: file(secretKeys.key),
    // Older secrets have no root of their own: it is the certificate.
    roots: roots.text === "" ? file(secretKeys.certificate) : roots,
  });
}
