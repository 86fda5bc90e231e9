import { describe, expect, test } from "@jest/globals";
import { readDestinationRule } from "#controlplane/mesh/destination-rule.ts";
import { Field } from "#controlplane/mesh/field.ts";
import { defaultMeshConfig } from "#controlplane/mesh/mesh-config.ts";
import { connecting, upstreamVersion } from "./cluster-policy.ts";

const poolOf = (connectionPool: object) =>
  readDestinationRule(new Field({ host: "a", trafficPolicy: { connectionPool } })).policy?.connectionPool;

// prettier-ignore
test.each([ // protocol of the port, settings of the rule, of the mesh: what is spoken upstream
  ["http",        {},                                                     false, "http1"],
  ["http",        {},                                                     true,  "http2"],
  ["http",        { h2UpgradePolicy: "DO_NOT_UPGRADE" },                  true,  "http1"],
  ["http",        { h2UpgradePolicy: "UPGRADE" },                         false, "http2"],
  ["http",        { h2UpgradePolicy: "UPGRADE", useClientProtocol: true }, false, "downstream"],
  ["http",        { useClientProtocol: true },                            true,  "downstream"],
  ["grpc",        {},                                                     false, "http2"],
  ["grpc",        { h2UpgradePolicy: "DO_NOT_UPGRADE" },                  false, "http2"],
  ["grpc",        { useClientProtocol: true },                            false, "downstream"],
  ["unsupported", {},                                                     false, "downstream"],
  ["unsupported", {},                                                     true,  "downstream"],
  ["unsupported", { h2UpgradePolicy: "UPGRADE" },                         false, "http2"],
] as const)("port %s, rule %j, mesh upgrades %s: %s", (protocol, http, h2Upgrade, expected) => {
  expect(upstreamVersion(protocol, poolOf({ http }), { ...defaultMeshConfig, h2Upgrade })).toBe(expected);
});

describe("keepalive", () => {
  const mesh = { ...defaultMeshConfig, tcpKeepalive: { probes: 3, timeMs: 10_000, intervalMs: 5000 } };
  test.each([
    [undefined, { keepaliveProbes: 3, keepaliveTime: 10, keepaliveInterval: 5 }],
    [{ time: "7s" }, { keepaliveProbes: 3, keepaliveTime: 7, keepaliveInterval: 5 }],
    [
      { probes: 9, interval: "1s" },
      { keepaliveProbes: 9, keepaliveTime: 10, keepaliveInterval: 1 },
    ],
  ])("what the rule leaves out is as in the mesh: %j", (tcpKeepalive, expected) => {
    const pool = poolOf({ tcp: tcpKeepalive === undefined ? {} : { tcpKeepalive } });
    expect(connecting(pool, mesh).upstreamConnectionOptions).toEqual({ tcpKeepalive: expected });
  });

  test("nobody says anything", () => {
    expect(connecting(undefined, defaultMeshConfig).upstreamConnectionOptions).toBeUndefined();
  });
});
