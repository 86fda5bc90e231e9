import { beforeAll, describe, expect, test } from "@jest/globals";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import {
  isExpired,
  readCertificateResponse,
  refreshTimeMs,
  splitPem,
  type WorkloadCertificate,
} from "./workload-certificate.ts";

const requested = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
const other = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "thief" });

let issued: WorkloadCertificate;
let stranger: WorkloadCertificate;
let otherRoot: string;
beforeAll(async () => {
  const ca = await TestCa.create();
  issued = await ca.issue(requested, { intermediates: 2 });
  stranger = await ca.issue(other);
  otherRoot = (await (await TestCa.create("Other")).issue(other)).rootsPem.join("");
});

const parts = () => splitPem(issued.chainPem);
const roots = () => issued.rootsPem.join("");

describe("readCertificateResponse", () => {
  test("splits leaf, intermediates and all roots of the last element", () => {
    const { certificate, unreadableRoots } = readCertificateResponse({
      chain: [...parts(), `${roots()}\n# comment\n${otherRoot}`],
      keyPem: issued.keyPem,
      requested,
    });
    expect(certificate.identity).toBe(requested);
    expect(splitPem(certificate.chainPem)).toHaveLength(3);
    expect(certificate.rootsPem).toHaveLength(2);
    expect(certificate.notAfterMs).toBe(issued.notAfterMs - (issued.notAfterMs % 1_000));
    expect(certificate.serial).toBe(issued.serial);
    expect(unreadableRoots).toBe(0);
  });

  test("takes a whole chain in one element as well", () => {
    const [leaf = "", ...between] = parts();
    for (const chain of [
      [issued.chainPem, roots()],
      [leaf, between.join(""), roots()],
    ]) {
      const { certificate } = readCertificateResponse({ chain, keyPem: issued.keyPem, requested });
      expect(splitPem(certificate.chainPem)).toEqual(parts());
    }
  });

  test("counts roots that cannot be read and keeps the others", () => {
    const garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const answer = { chain: [...parts(), garbage + roots()], keyPem: issued.keyPem, requested };
    expect(readCertificateResponse(answer)).toMatchObject({ unreadableRoots: 1 });
    expect(readCertificateResponse(answer).certificate.rootsPem).toHaveLength(1);
  });

  test("takes the leaf's name where none was asked for", () => {
    const chain = [...parts(), roots()];
    expect(readCertificateResponse({ chain, keyPem: issued.keyPem }).certificate.identity).toBe(requested);
  });

  test.each([
    ["an empty list", () => [], "list of certificates is empty"],
    ["no root", () => parts().slice(0, 1), "no root after the leaf"],
    ["another identity", () => [splitPem(stranger.chainPem)[0] ?? "", roots()], 'is for "spiffe://'],
    ["garbage as leaf", () => ["garbage", roots()], "the leaf cannot be read"],
    ["garbage between", () => [...parts().slice(0, 1), "garbage", roots()], "intermediate 1 cannot be read"],
    ["garbage as roots", () => [...parts(), "garbage"], "no root in the last element"],
  ])("refuses %s", (_what, chain, message) => {
    expect(() => readCertificateResponse({ chain: chain(), keyPem: issued.keyPem, requested })).toThrow(message);
  });

  test("refuses a leaf for another key", () => {
    const answer = { chain: [...parts(), roots()], keyPem: stranger.keyPem, requested };
    expect(() => readCertificateResponse(answer)).toThrow("belongs to another key");
  });
});

test.each([
  [1_000, 3_000, 2_000, "half of its life"],
  [Number.NaN, 3_000, 0, "not computable: at once"],
])("refreshTimeMs from %d to %d is %d: %s", (notBeforeMs, notAfterMs, expected) => {
  expect(refreshTimeMs({ notBeforeMs, notAfterMs })).toBe(expected);
});

test.each([
  [2_999, false],
  [3_000, true],
  [Number.NaN, true],
])("isExpired at %d is %j", (nowMs, expected) => {
  expect(isExpired({ notAfterMs: 3_000 }, nowMs)).toBe(expected);
});
