import { describe, expect, test } from "@jest/globals";
import { parseSpiffeId, type SpiffeId } from "#shared/identity/spiffe-id.ts";
import { verifyClient, verifyServer } from "./verify-peer.ts";

const own = parseSpiffeId("spiffe://td/ns/a/sa/b");
const cart = parseSpiffeId("spiffe://td/ns/shop/sa/cart");
const stranger = parseSpiffeId("spiffe://else/ns/shop/sa/cart");

describe("verifyClient", () => {
  // prettier-ignore
  test.each<[string[], SpiffeId | undefined, string]>([ // uris                                       identity    why
    [[cart],                                                cart,       "our trust domain"],
    [[stranger],                                            undefined,  "another trust domain"],
    [[],                                                    undefined,  "no name"],
    [["https://td/ns/shop/sa/cart"],                        undefined,  "no SPIFFE name"],
    [["spiffe://td/ns/shop/sa/cart/"],                      undefined,  "a slash too many"],
    [["spiffe://td/ns/shop"],                               undefined,  "too short"],
    [["spiffe://TD/ns/shop/sa/cart"],                       undefined,  "trust domains are compared as written"],
    [["spiffe://td.evil/ns/shop/sa/cart"],                  undefined,  "a prefix is not the domain"],
    [["https://x", cart],                                   cart,       "the first that is a workload's"],
    [[stranger, cart],                                      stranger,   "one of ours lets it in; the first names it, as in ztunnel"],
  ])("%j is %j: %s", (uris, identity) => {
    const verdict = verifyClient(uris, own);
    expect(verdict.accepted ? verdict.identity : undefined).toBe(identity);
  });
});

describe("verifyServer", () => {
  // prettier-ignore
  test.each<[string[], SpiffeId[], SpiffeId | undefined, string]>([ // uris              expected            identity    why
    [[cart],                       [cart],             cart,       "the expected one"],
    [[cart],                       [own, cart],        cart,       "one of several"],
    [[own, cart],                  [cart],             cart,       "any name of the certificate counts"],
    [[cart],                       [],                 undefined,  "nobody is expected"],
    [[cart],                       [stranger],         undefined,  "another trust domain"],
    [[],                           [cart],             undefined,  "no name"],
    [[`${cart}x`],                 [cart],             undefined,  "whole names only"],
  ])("%j, expected %j, is %j: %s", (uris, expected, identity) => {
    const verdict = verifyServer(uris, expected);
    expect(verdict.accepted ? verdict.identity : undefined).toBe(identity);
  });
});
