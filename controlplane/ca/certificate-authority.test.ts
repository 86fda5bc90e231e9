import { afterEach, describe, expect, test } from "@jest/globals";
import { webcrypto, X509Certificate } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificateRequest } from "#shared/ca/csr.ts";
import * as x509 from "#shared/ca/x509.ts";
import { FakeClock } from "#shared/clock/fake-clock.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { silentLogger } from "#shared/observe/logger.ts";
import { CertificateAuthority, type CertificateAuthorityOptions } from "./certificate-authority.ts";
import { fileStore } from "./file-store.ts";
import { mayReplaceRoots } from "./plugged-in.ts";

const identity = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
const dayMs = 24 * 3_600_000;

const open: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

async function setUp(change: Partial<CertificateAuthorityOptions> = {}) {
  const root = await mkdtemp(join(tmpdir(), "ambit-ca-"));
  open.push(() => rm(root, { recursive: true, force: true }));
  const clock = new FakeClock(Date.now());
  const options: CertificateAuthorityOptions = {
    pluggedInDirectory: join(root, "cacerts"),
    store: fileStore(join(root, "state")),
    trustDomain: "cluster.local",
    defaultTtlMs: dayMs,
    maxTtlMs: 90 * dayMs,
    severalRoots: false,
    clock,
    log: silentLogger,
    ...change,
  };
  const start = async () => {
    const ca = await CertificateAuthority.open(options, new AbortController().signal);
    open.push(() => ca[Symbol.dispose]());
    return ca;
  };
  return { root, clock, options, start };
}

const certify = async (ca: CertificateAuthority, ttlMs = 0) =>
  ca.certify((await makeCertificateRequest(identity)).csrPem, identity, ttlMs);

interface MadeAuthority {
  readonly pem: string;
  readonly keyPem: string;
  readonly certificate: x509.X509Certificate;
  readonly keys: webcrypto.CryptoKeyPair;
}

/** An operator's CA certificate, a root without an issuer. */
async function makeAuthority(name: string, issuer?: MadeAuthority): Promise<MadeAuthority> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: Buffer.from(name).toString("hex"),
    subject: `CN=${name}`,
    issuer: issuer?.certificate.subject ?? `CN=${name}`,
    notBefore: new Date(Date.now() - dayMs),
    notAfter: new Date(Date.now() + 365 * dayMs),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const keyDer = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    pem: `${certificate.toString("pem")}\n`,
    keyPem: x509.PemConverter.encode(keyDer, "PRIVATE KEY"),
    certificate,
    keys,
  };
}

async function write(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
}

describe("the self-signed root", () => {
  test("is RSA with ten years, kept, and signs from two minutes ago for a day", async () => {
    const { clock, start } = await setUp();
    const ca = await start();
    const root = new X509Certificate(ca.rootBundle);
    expect([root.publicKey.asymmetricKeyType, root.publicKey.asymmetricKeyDetails?.modulusLength]).toEqual([
      "rsa",
      2048,
    ]);
    expect(root.subject).toBe("O=cluster.local");
    expect(Math.round((clock.now() - Date.parse(root.validFrom)) / 1_000)).toBeCloseTo(120, -1);
    expect(Math.round((Date.parse(root.validTo) - clock.now()) / dayMs)).toBe(3_650);
    const { chain } = await certify(ca);
    expect(chain).toHaveLength(2);
    const leaf = new X509Certificate(chain[0] ?? "");
    expect(leaf.checkIssued(root) && leaf.verify(root.publicKey)).toBe(true);
    expect(Math.round((clock.now() - Date.parse(leaf.validFrom)) / 1_000)).toBeCloseTo(120, -1);
    expect(Math.round((Date.parse(leaf.validTo) - clock.now()) / 1_000)).toBeCloseTo(86_400, -1);
    expect((await start()).rootBundle).toBe(ca.rootBundle);
  });

  test("is renewed with the same key when a fifth of its life is left, so old leaves still verify", async () => {
    const { clock, start } = await setUp();
    const ca = await start();
    const before = ca.rootBundle;
    const leaf = new X509Certificate((await certify(ca)).chain[0] ?? "");
    const changed = Promise.withResolvers<void>();
    ca.onChanged(() => changed.resolve());
    await clock.advance(3_650 * 0.8 * dayMs - 3_600_000);
    expect(ca.rootBundle).toBe(before);
    void clock.advance(2 * 3_600_000);
    await changed.promise;
    expect(ca.rootBundle).not.toBe(before);
    expect(leaf.verify(new X509Certificate(ca.rootBundle).publicKey)).toBe(true);
    expect((await start()).rootBundle).toBe(ca.rootBundle);
  });

  test("a certificate never outlives its signer, and a life too long is refused", async () => {
    const { start } = await setUp({ maxTtlMs: 20 * 365 * dayMs });
    const ca = await start();
    const { notAfterMs } = await certify(ca, 15 * 365 * dayMs);
    expect(notAfterMs).toBe(ca.notAfterMs);
    await expect(certify(ca, 21 * 365 * dayMs)).rejects.toThrow("Cannot certify for");
  });

  test("a stored root that cannot be used is not replaced in silence", async () => {
    const { options, start } = await setUp();
    await options.store.write(
      { "ca-cert.pem": "garbage", "ca-key.pem": "garbage" },
      { create: true },
      AbortSignal.abort(),
    );
    await expect(start()).rejects.toThrow("ca-cert.pem");
  });
});

describe("an operator's CA", () => {
  test.each([
    [
      "Istio's names",
      { certificate: "ca-cert.pem", key: "ca-key.pem", chain: "cert-chain.pem", roots: "root-cert.pem" },
    ],
    ["names of a TLS Secret", { certificate: "tls.crt", key: "tls.key", chain: undefined, roots: "ca.crt" }],
  ])("is used under %s: leaf, intermediates, then the roots", async (_names, { certificate, key, chain, roots }) => {
    const { options, start } = await setUp();
    const top = await makeAuthority("root");
    const middle = await makeAuthority("middle", top);
    const signer = await makeAuthority("signer", middle);
    const bundled = chain === undefined ? { [certificate]: signer.pem + middle.pem } : { [certificate]: signer.pem };
    await write(options.pluggedInDirectory, {
      ...bundled,
      ...(chain === undefined ? {} : { [chain]: signer.pem + middle.pem + top.pem }),
      [key]: signer.keyPem,
      [roots]: top.pem,
    });
    const ca = await start();
    const issued = (await certify(ca)).chain.map((text) => new X509Certificate(text));
    expect(issued.map(({ subject }) => subject ?? "")).toEqual(["", "CN=signer", "CN=middle", "CN=root"]);
    const [leaf, above] = issued;
    expect(above !== undefined && leaf?.verify(above.publicKey)).toBe(true);
    expect((await ca.serve(["istiod.istio-system.svc"])).chainPem.match(/BEGIN/g)).toHaveLength(3);
  });

  test.each([
    [
      "another key",
      async (top: MadeAuthority) => ({ "ca-key.pem": (await makeAuthority("x")).keyPem, "root-cert.pem": top.pem }),
      "ca-key.pem",
    ],
    ["no key", (top: MadeAuthority) => Promise.resolve({ "root-cert.pem": top.pem }), "ca-key.pem"],
    ["no roots", (top: MadeAuthority) => Promise.resolve({ "ca-key.pem": top.keyPem }), "root-cert.pem"],
    [
      "roots of another",
      async (top: MadeAuthority) => ({ "ca-key.pem": top.keyPem, "root-cert.pem": (await makeAuthority("y")).pem }),
      "does not chain",
    ],
  ])("with %s it is refused, naming the file", async (_why, files, words) => {
    const { options, start } = await setUp();
    const top = await makeAuthority("root");
    await write(options.pluggedInDirectory, { "ca-cert.pem": top.pem, ...(await files(top)) });
    await expect(start()).rejects.toThrow(words);
  });

  test("new intermediates take force, other roots do not", async () => {
    const { options, clock, start } = await setUp();
    const top = await makeAuthority("root");
    const files = async (name: string, above: MadeAuthority) => {
      const signer = await makeAuthority(name, above);
      await write(options.pluggedInDirectory, {
        "ca-cert.pem": signer.pem,
        "ca-key.pem": signer.keyPem,
        "root-cert.pem": above.pem,
      });
    };
    await files("first", top);
    const ca = await start();
    await files("second", top);
    const changed = new Promise<void>((resolve) => void ca.onChanged(resolve));
    void clock.advance(3_600_000);
    await changed;
    expect((await certify(ca)).chain[1]).toContain("BEGIN");
    expect(new X509Certificate((await certify(ca)).chain[1] ?? "").subject).toBe("CN=second");
    await files("third", await makeAuthority("other root"));
    await clock.advance(3_600_000);
    expect(ca.rootBundle).toBe(top.pem);
  });
});

// prettier-ignore
test.each([ // before    after       several  may    why
  [["a"],      ["a"],      false, true,  "the same"],
  [["a"],      ["a", "b"], false, false, "several roots are not allowed"],
  [["a"],      ["a", "b"], true,  true,  "grows"],
  [["a", "b"], ["b"],      true,  true,  "shrinks"],
  [["a"],      ["b"],      true,  false, "nobody would trust both"],
])("roots %j may become %j (several: %j): %j, %s", (before, after, severalRoots, expected) => {
  expect(mayReplaceRoots(before, after, { severalRoots })).toBe(expected);
});
