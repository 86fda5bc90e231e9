import { expect, test } from "@jest/globals";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { dumpCertificates } from "./config-dump.ts";

test("certificates are shown with chain and roots, and never with a key", async () => {
  const identity = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
  const certificate = await (await TestCa.create()).issue(identity, { intermediates: 1 });
  const dump = await dumpCertificates(new Map([[identity, { at: "available", certificate }]]));
  expect(dump).toMatchObject([{ identity, state: "Available" }]);
  const shown = JSON.stringify(dump, (_key, value: unknown) =>
    // PEM is shown in base64, within which a key would hide.
    typeof value === "string" ? `${value} ${Buffer.from(value, "base64").toString("latin1")}` : value,
  );
  expect(shown.match(/BEGIN CERTIFICATE/g)).toHaveLength(3);
  expect(shown).not.toContain("PRIVATE KEY");
  // The second line has the end of the secret number; what comes after is the public key, as in the certificate.
  const [, first = "?", second = "?"] = certificate.keyPem.split("\n");
  expect(shown).not.toContain(first);
  expect(shown).not.toContain(second);
});
