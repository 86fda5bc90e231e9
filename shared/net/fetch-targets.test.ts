import { expect, test } from "@jest/globals";
import { forbiddenFetchHost } from "./fetch-targets.ts";

test.each([
  ["169.254.169.254", true],
  ["127.0.0.1", true],
  ["127.8.9.1", true],
  ["[::1]", true],
  ["[::ffff:169.254.169.254]", true],
  ["[64:ff9b::a9fe:a9fe]", true],
  ["[fe80::1]", true],
  ["[fd00:ec2::254]", true],
  ["0.0.0.0", true],
  ["metadata.google.internal.", true],
  ["LOCALHOST", true],
  ["a.localhost", true],
  ["10.0.0.1", false],
  ["issuer.example.com", false],
  ["[fd00::1]", false],
])("%s", (host, isForbidden) => {
  expect(forbiddenFetchHost(host) !== undefined).toBe(isForbidden);
});
