import { X509Certificate } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import fc from "#shared/testing/properties.ts";
import { spiffeId } from "#shared/identity/spiffe-id.ts";
import { TestCa } from "#shared/testing/test-ca.ts";
import { uriNamesOf } from "./certificate-names.ts";

const id = spiffeId({ trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart" });
const other = "spiffe://cluster.local/ns/shop/sa/admin";
const ca = await TestCa.create();
const leafOf = async (options: Parameters<TestCa["issue"]>[1]) =>
  new X509Certificate((await ca.issue(id, options)).chainPem).raw;

describe("uriNamesOf", () => {
  // prettier-ignore
  test.each<[string[], string[], string]>([ // uris                                                            dnsNames          why
    [[id],                                                                       [],               "one"],
    [[id, other],                                                                [],               "order is kept"],
    [[],                                                                         [],               "no names at all"],
    [[],                                                                         ["a.test"],       "names of other kinds do not count"],
    [[id],                                                                       ["a.test"],       "mixed"],
    [[`spiffe://evil/x, URI:${other}`],                                          [],               "a separator inside of a name"],
    [[`spiffe://evil/x", URI:"${other}`],                                        [],               "quotes inside of a name"],
    [[`spiffe://evil/x\\", URI:${other}`],                                       [],               "an escaped quote inside of a name"],
    [[`spiffe://evil/x\n, URI:${other}`],                                        [],               "a line break inside of a name"],
    [[],                                                                         [`a, URI:${other}`], "a URI inside of a DNS name"],
  ])("%j beside DNS %j: %s", async (uris, dnsNames) => {
    expect(uriNamesOf(await leafOf({ uris, dnsNames }))).toEqual(uris);
  });

  test("names nobody in what is no certificate", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(uriNamesOf(bytes)).toEqual([]);
      }),
    );
  });

  test("survives any damage to a certificate", async () => {
    const der = await leafOf({});
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), (at, byte) => {
        const damaged = Buffer.from(der);
        damaged[at] = byte;
        expect(Array.isArray(uriNamesOf(damaged.subarray(0, der.length - (byte % 7))))).toBe(true);
      }),
    );
  });
});
