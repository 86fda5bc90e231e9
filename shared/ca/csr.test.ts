import { describe, expect, test } from "@jest/globals";
import { createPrivateKey, createPublicKey } from "node:crypto";
import * as x509 from "./x509.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { makeCertificateRequest } from "./csr.ts";
import { objectIdentifier, sequence } from "./der.ts";

const identity = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });

describe("makeCertificateRequest", () => {
  test("is a signed P-256 request with an empty subject and one critical URI name", async () => {
    const { csrPem, keyPem } = await makeCertificateRequest(identity);
    const request = new x509.Pkcs10CertificateRequest(csrPem);
    expect(await request.verify()).toBe(true);
    expect(request.subject).toBe("");
    expect(request.extensions).toHaveLength(1);
    const names = request.extensions[0] as x509.SubjectAlternativeNameExtension;
    expect(names.critical).toBe(true);
    expect(names.names.items.map(({ type, value }) => [type, value])).toEqual([["url", identity]]);
    const key = createPrivateKey(keyPem);
    expect(key.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
    expect(keyPem).toContain("BEGIN PRIVATE KEY");
    const publicDer = createPublicKey(key).export({ type: "spki", format: "der" });
    expect(Buffer.from(request.publicKey.rawData).equals(publicDer)).toBe(true);
  });

  test("every request has a fresh key", async () => {
    const [a, b] = await Promise.all([makeCertificateRequest(identity), makeCertificateRequest(identity)]);
    expect(a.keyPem).not.toBe(b.keyPem);
  });
});

describe("der", () => {
  test.each([
    [100, "30 64", "short form"],
    [127, "30 7f", "longest short form"],
    [128, "30 81 80", "one byte of length"],
    [300, "30 82 01 2c", "two bytes of length"],
  ])("a sequence of %d bytes starts with %s: %s", (bytes, start) => {
    const header = sequence(Buffer.alloc(bytes)).subarray(0, start.split(" ").length);
    expect(header.toString("hex").match(/../g)?.join(" ")).toBe(start);
  });

  test("object identifiers have seven bits a byte", () => {
    expect(objectIdentifier("1.2.840.113549.1.9.14").toString("hex")).toBe("06092a864886f70d01090e");
  });
});
